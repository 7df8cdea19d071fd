"""One configuration file, overridden by the environment, checked as a whole.

Promises: unknown keys are errors, every problem is reported at once with its place and the way out, and the defaults here
are the only ones. `TRACEGRADE_STORE=…` overrides `store`; two underscores go down a level: `TRACEGRADE_GATE__PORT=9000`.
Which graders exist and what the collector understands is said where they live.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from collector.settings import CollectorSettings
from store.yamlfile import ConfigError, Problem, parse_yaml, problems_of

PREFIX = "TRACEGRADE_"
ENDPOINT = r"^https?://[^/\s]+/\S+$"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Listener(_Section):
    """Where a server listens."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=0, ge=0, le=65535)
    """0 picks a free port."""


class ClickHouseListener(Listener):
    """ClickHouse's HTTP interface."""

    port: int = Field(default=8123, ge=0, le=65535)
    """0 picks a free port."""


class GateListener(Listener):
    """The gate's REST and gRPC interfaces."""

    port: int = Field(default=8080, ge=0, le=65535)
    """REST; 0 picks a free port."""
    grpc_port: int = Field(default=8081, ge=0, le=65535)
    """gRPC; 0 picks a free port."""


class AdminListener(Listener):
    """Metrics, health and readiness."""

    port: int = Field(default=8082, ge=0, le=65535)
    """0 picks a free port."""


class Emit(_Section):
    """Grades as log events for another collector."""

    endpoint: Annotated[str, Field(pattern=ENDPOINT)] | None = None
    """Where each grade goes as a `gen_ai.evaluation.result` event, over HTTP: https://otel.example:4318/v1/logs."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent along, e.g. `authorization: Bearer ...`; best from the environment."""
    timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    """How long a batch of events is tried before it is given up."""
    outcomes: tuple[Literal["pass", "fail", "unknown", "skip", "error"], ...] = ("pass", "fail", "unknown", "error")
    """Which grades go."""
    graders: tuple[str, ...] = ("*",)
    """Of which graders: names or shell patterns, e.g. `approval/*`."""
    content: bool = False
    """Also tell reasons and evidence, which may quote what telemetry says."""

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        # What sends them would quote what it refuses.
        for name, value in headers.items():
            if not _HEADER.fullmatch(name):
                raise ValueError("a name is no header's: letters, digits and hyphens")
            if not _HEADER_VALUE.fullmatch(value.get_secret_value()):
                raise ValueError(f"the value of {name} is no header's: ASCII in one line, no space at its ends")
        return headers


class Grading(_Section):
    """When a trace is graded, and by what."""

    grace_seconds: float = Field(default=5.0, ge=0, le=86400)
    """How long a trace whose root has ended must have been quiet."""
    idle_seconds: float = Field(default=60.0, gt=0, le=604800)
    """How long a trace without a root must have been quiet."""
    grader_seconds: float = Field(default=5.0, gt=0, le=3600)
    """How long a grader may take for one trace. Then it is stopped, and its grade is an `error`."""
    agent_policies: tuple[Path, ...] = ()
    """YAML files that say what agents may do: effects of tools, approvals, budgets. The first for a trace's agent counts."""
    graders: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of graders by name, e.g. `tools/loop: {repeats: 4}`; every built-in grader runs with or without them."""
    emit: Emit = Emit()
    """Tells another collector about each grade."""


class Config(_Section):
    """Everything `tracegrade serve` can be told."""

    data_dir: Path = Path("tracegrade-data")
    """Where the embedded database and the collector's segments live."""
    store: str | None = None
    """`chdb:///path` or `clickhouse://user:password@host:8123/database`; by default embedded below `data_dir`."""
    retention_days: int = Field(default=90, ge=1, le=36500)
    """How long traces and grades are kept after they arrived. Decisions and suites are kept for ever."""
    collector: CollectorSettings = Field(default_factory=CollectorSettings)
    """The OTLP receiver and the segments it keeps until the store has them."""
    clickhouse: ClickHouseListener = ClickHouseListener()
    """ClickHouse's HTTP interface to the embedded engine, read-only."""
    gate: GateListener = GateListener()
    """The gate's REST and gRPC interfaces."""
    admin: AdminListener = AdminListener()
    """`/metrics`, `/healthz` and `/readyz`. Nothing here shows what telemetry says, so it may listen anywhere."""
    insecure: bool = False
    """Allow listening beyond this machine although nothing authenticates callers: for a network that is closed otherwise."""
    grading: Grading = Grading()
    """Closing and grading of traces."""
    policies: tuple[Path, ...] = ()
    """Release policies the gate knows by name; a request may also carry its own."""
    log_format: Literal["text", "json"] = "text"
    """`json` logs one object a line, for machines."""
    traces_endpoint: Annotated[str, Field(pattern=ENDPOINT)] | None = None
    """Where tracegrade sends spans of its own work, over HTTP: https://otel.example:4318/v1/traces. None are made without."""

    @property
    def collector_settings(self) -> CollectorSettings:
        """The collector's settings; its buffer and key stand below `data_dir` unless they were given a place."""
        update: dict[str, Any] = {}
        redaction = self.collector.redaction
        if "buffer_dir" not in self.collector.model_fields_set:
            update["buffer_dir"] = self.data_dir / "buffer"
        if "segment_bytes" not in self.collector.model_fields_set and not self.dsn.startswith("chdb:"):
            # Large inserts are cheaper a span; an embedded engine takes the memory for them from this process.
            update["segment_bytes"] = 2 * self.collector.segment_bytes
        if redaction.key_file is None:
            update["redaction"] = redaction.model_copy(update={"key_file": self.data_dir / "redaction.key"})
        return self.collector.model_copy(update=update)

    @property
    def dsn(self) -> str:
        """The store to open."""
        return self.store or f"chdb://{self.data_dir.expanduser().resolve()}/db"


def explain(model: BaseModel, indent: str = "") -> Iterator[str]:
    """The configuration as YAML lines, each key under its description."""
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if info.description:
            yield from (f"{indent}# {line}" for line in info.description.splitlines())
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from explain(value, indent + "  ")
        else:
            plain = model.model_dump(mode="json", include={name})[name]
            if isinstance(plain, str):
                plain = re.sub(r"(?<=://)([^:/@]*):[^@]*@", r"\1:…@", plain)  # a password stays where it is
            yield f"{indent}{name}: {json.dumps(plain, ensure_ascii=False)}"


def _open_listeners(config: Config, file: str) -> Iterator[Problem]:
    hosts = {"clickhouse.host": (config.clickhouse.host, ""), "gate.host": (config.gate.host, "")}
    if not config.collector.authenticates:
        way = "give senders tokens (`collector.tokens`), "
        hosts["collector.grpc_host"] = (config.collector.grpc_host, way)
        hosts["collector.http_host"] = (config.collector.http_host, way)
    for key, (host, way) in hosts.items():
        if not config.insecure and not is_loopback(host):
            message = (
                f"{host!r} would let anyone on the network send traces or read them; "
                f"listen on 127.0.0.1, {way}or set `insecure: true` if the network is closed otherwise"
            )
            yield Problem(file, 0, key, message)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener on `host`."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def load_config(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the file, if any, then the environment. Raises `ConfigError` with every problem."""
    if path is None:
        base = Config()
    else:
        try:
            base = parse_yaml(path.read_bytes(), Config, str(path))
        except OSError as error:
            raise ConfigError([Problem(str(path), 0, "", f"cannot be read: {error.strerror or error}")]) from error
    values = base.model_dump(exclude_unset=True)
    problems = []
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX):
            continue
        *parents, leaf = name.removeprefix(PREFIX).lower().split("__")
        section = values
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                problems.append(Problem(f"environment variable {name}", 0, parent, "is a value, not a section"))
                break
        else:
            try:
                section[leaf] = yaml.safe_load(text) if text.strip()[:1] in ("{", "[") else text
            except yaml.YAMLError as error:
                problems.append(Problem(f"environment variable {name}", 0, leaf, f"is not YAML: {error}"))
    if problems:
        raise ConfigError(problems)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(problems_of(error, Config, f"environment ({PREFIX}…)")) from error
    if problems := list(_open_listeners(config, str(path or "configuration"))):
        raise ConfigError(problems)
    return config
