"""Records dialect fixtures again: `python tests/dialects/record.py <fixture> [scenario ...]`.

A script `record/<fixture>.py` or `.mjs` says in its first lines (PEP 723; `//` instead of `#` in JavaScript) which packages
it needs, pinned, and under `[tool.dialect]` its dialect, its scenarios and its environment variables (a table under a
scenario's name is for that scenario only). For each scenario it is run with the scenario's name as its argument beside a
fresh sink and a fresh provider, in an environment of its own that is kept for the next time. The bodies and the package
versions are written here; `deviations` and `invisible` in about.yaml are a person's, from reading the bodies, and are kept.

Stack traces on spans name files, so scripts run from a neutral directory ($DIALECTS_HOME, /opt/dialects) under a neutral
interpreter ($DIALECTS_PYTHON, /usr/bin/python3), and a recording that still names this machine is refused.
"""

from __future__ import annotations

import argparse
import getpass
import gzip
import hashlib
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import provider
import sink
import yaml

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ.get("DIALECTS_HOME", "/opt/dialects"))
PYTHON = os.environ.get("DIALECTS_PYTHON", "/usr/bin/python3")
METADATA = re.compile(r"^(?:#|//) /// script\n(?P<toml>(?:(?:#|//)[^\n]*\n)+?)(?:#|//) ///$", re.M)
PATIENCE_S = 300


@dataclass(frozen=True, slots=True)
class Script:
    """One recording script and what it says about itself."""

    path: Path
    dependencies: tuple[str, ...]
    dialect: str
    scenarios: tuple[str, ...]
    made: str
    environment: dict[str, str | dict[str, str]]

    @classmethod
    def find(cls, fixture: str) -> Script:
        """The script of a fixture."""
        found = [path for suffix in (".py", ".mjs") if (path := HERE / "record" / f"{fixture}{suffix}").exists()]
        if not found:
            known = ", ".join(
                sorted({path.stem for path in (HERE / "record").iterdir() if path.suffix in (".py", ".mjs")})
            )
            raise SystemExit(f"no script record/{fixture}.py or .mjs; there are: {known}")
        block = METADATA.search(found[0].read_text())
        if not block:
            raise SystemExit(f"{found[0].name} has no `/// script` block")
        said = tomllib.loads(
            "".join(line.lstrip("#/").removeprefix(" ") for line in block["toml"].splitlines(keepends=True))
        )
        dialect: dict[str, Any] = said["tool"]["dialect"]
        return cls(
            path=found[0],
            dependencies=tuple(said.get("dependencies", ())),
            dialect=dialect["name"],
            scenarios=tuple(dialect["scenarios"]),
            made=dialect.get("made", "captured"),
            environment=dialect.get("environment", {}),
        )

    @property
    def packages(self) -> dict[str, str]:
        """Name and version of what is pinned."""
        return {
            name: version
            for name, _, version in (re.split(r"(==|(?<=.)@)", pin, maxsplit=1) for pin in self.dependencies)
        }

    def variables(self, scenario: str) -> dict[str, str]:
        """The environment of one scenario: what holds for all of them, and its own."""
        own = self.environment.get(scenario, {})
        common = {key: value for key, value in self.environment.items() if isinstance(value, str)}
        return common | (own if isinstance(own, dict) else {})

    def command(self) -> list[str]:
        """How to run it, in its environment, which is made where it does not exist."""
        key = hashlib.sha256("\n".join((PYTHON, *self.dependencies)).encode()).hexdigest()[:8]
        home = HOME / f"{self.path.stem}-{key}"
        done = home / ".done"
        python = self.path.suffix == ".py"
        if not done.exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            if python:
                subprocess.run([PYTHON, "-m", "venv", "--without-pip", home], check=True)
                pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "-q"]
                subprocess.run([*pip, *self.dependencies], check=True)
            else:
                (home / "package.json").write_text('{"private": true, "type": "module"}\n')
                install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--save-exact"]
                subprocess.run([*install, *self.dependencies], check=True, cwd=home)
            done.touch()
        app = home / f"support_agent{self.path.suffix}"
        shutil.copyfile(self.path, app)
        for shared in HERE.glob(f"scripted*{self.path.suffix}"):
            shutil.copyfile(shared, home / shared.name)
        return [str(home / "bin" / "python"), str(app)] if python else ["node", str(app)]


def _run(script: Script, scenario: str, out: Path) -> None:
    command = script.command()
    turns = provider.SCENARIOS.get(scenario, provider.SCENARIOS["tools"])
    with sink.listen(out) as ports, provider.serve(turns) as address:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(HOME / "home"),
            "DIALECT_PROVIDER": address,
            "DIALECT_SINK_HTTP": ports.http,
            "DIALECT_SINK_GRPC": ports.grpc,
            "OTEL_EXPORTER_OTLP_ENDPOINT": ports.http,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_SERVICE_NAME": "support-agent",
            "OTEL_METRICS_EXPORTER": "none",
            "OPENAI_API_KEY": "unused",
            "ANTHROPIC_API_KEY": "unused",
            "GEMINI_API_KEY": "unused",
            **script.variables(scenario),
        }
        (HOME / "home").mkdir(exist_ok=True)
        subprocess.run(
            [*command, scenario], check=True, env=environment, cwd=Path(command[-1]).parent, timeout=PATIENCE_S
        )


def _pattern(name: str) -> bytes:
    """How a name would appear in a body. A path counts from its root."""
    raw = name.encode()
    if name.startswith("/"):
        return rb"(?<![\w.-])" + re.escape(raw)
    # A short host name is in many words: only a whole value counts, as protobuf and as JSON.
    return re.escape(bytes([len(raw)]) + raw) + b"|" + re.escape(b'"%s"' % raw)


def _refuse_what_names_this_machine(out: Path) -> None:
    """Recordings are published: nothing in them may name who made them, or where."""
    names = {
        f"{Path.home()}/",
        str(HERE.parents[1]),
        socket.gethostname(),
        platform.release(),
        f"/{getpass.getuser()}/",
        sys.base_prefix,
        f"{tempfile.gettempdir()}/",
    }
    for path in sorted(out.iterdir()):
        body = path.read_bytes()
        if path.suffix == ".gz":
            body = gzip.decompress(body)
        for name in sorted(names):
            if found := re.search(_pattern(name), body):
                at = found.start()
                for recorded in out.glob("[0-9]*"):
                    recorded.unlink()
                raise SystemExit(f"{path} names this machine: {body[max(0, at - 80) : at + 120]!r}")


def _about(script: Script, out: Path) -> None:
    path = out / "about.yaml"
    kept = yaml.safe_load(path.read_text()) if path.exists() else {}
    about = {
        "dialect": script.dialect,
        "made": script.made,
        "packages": script.packages,
        "deviations": kept.get("deviations", []),
        "invisible": kept.get("invisible", []),
        **{
            key: value
            for key, value in kept.items()
            if key not in ("dialect", "made", "packages", "deviations", "invisible")
        },
    }
    path.write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=120))


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="the name of a script in record/, without its suffix")
    parser.add_argument("scenario", nargs="*", help="default: all that the script has")
    chosen = parser.parse_args()
    script = Script.find(chosen.fixture)
    if unknown := set(chosen.scenario) - set(script.scenarios):
        raise SystemExit(
            f"{chosen.fixture} has no scenario {', '.join(sorted(unknown))}; it has {', '.join(script.scenarios)}"
        )
    for scenario in chosen.scenario or script.scenarios:
        out = HERE / "fixtures" / chosen.fixture / scenario
        for old in (*out.glob("[0-9][0-9][0-9].*"), *out.glob("requests.json")):
            old.unlink()
        _run(script, scenario, out)
        if not (out / "requests.json").exists():
            raise SystemExit(f"{chosen.fixture} {scenario}: nothing was exported")
        _refuse_what_names_this_machine(out)
        _about(script, out)
        bodies = [path.stat().st_size for path in out.glob("[0-9]*")]
        print(f"{out.relative_to(HERE)}: {sum(bodies)} bytes in {len(bodies)} bodies")


if __name__ == "__main__":
    main()
