"""Configuration: what is wrong is said all at once, with the place and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.yamlfile import ConfigError
from tracegrade.config import Config, explain, load_config


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tracegrade.yaml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold() -> None:
    config = load_config(None, {})
    assert config.dsn == f"chdb://{Path('tracegrade-data').resolve()}/db"
    assert config.collector_settings.buffer_dir == Path("tracegrade-data/buffer")
    assert (config.collector.grpc_port, config.collector.http_port) == (4317, 4318)
    assert {config.collector.grpc_host, config.collector.http_host, config.gate.host, config.clickhouse.host} == {
        "127.0.0.1"
    }


def test_the_buffer_follows_the_data_unless_it_was_given_a_place(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "data_dir: /var/t\n"), {})
    assert config.collector_settings.buffer_dir == Path("/var/t/buffer")
    config = load_config(write(tmp_path, "collector: {buffer_dir: /fast/disk}\ndata_dir: /var/t\n"), {})
    assert config.collector_settings.buffer_dir == Path("/fast/disk")


def test_every_problem_is_reported_at_once_with_line_and_way_out(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "retention_days: 0\nclickhose: {port: 1}\ncollector:\n  grpc_port: 99999\n  segment_age_seconds: soon\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    found = {(problem.line, problem.key) for problem in caught.value.problems}
    assert found == {
        (1, "retention_days"),
        (2, "clickhose"),
        (4, "collector.grpc_port"),
        (5, "collector.segment_age_seconds"),
    }
    assert "clickhouse" in str(caught.value), "the misspelt key's neighbour is named"


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "gate: {port: 1}\nretention_days: 30\n")
    environ = {
        "TRACEGRADE_GATE__PORT": "2",
        "TRACEGRADE_STORE": "clickhouse://db:8123/x",
        "TRACEGRADE_POLICIES": "[a.yaml, b.yaml]",
        "PATH": "/bin",
    }
    config = load_config(path, environ)
    assert (config.gate.port, config.retention_days, config.dsn) == (2, 30, "clickhouse://db:8123/x")
    assert config.policies == (Path("a.yaml"), Path("b.yaml"))


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"TRACEGRADE_GATE__PORT": "many"}, "gate.port"),
        ({"TRACEGRADE_GAET__PORT": "1"}, "gaet"),
        ({"TRACEGRADE_STORE__PATH": "x", "TRACEGRADE_STORE": "y"}, "not a section"),
        ({"TRACEGRADE_POLICIES": "[a"}, "TRACEGRADE_POLICIES"),
    ],
)
def test_a_bad_environment_is_refused(environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(None, environ)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[" * 10_000, b"a: &x [*x]", b"- 1", b"gate: 3"])
def test_garbage_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tracegrade.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load_config(path, {})


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml", {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "db.example", ""])
@pytest.mark.parametrize(
    "key", ["gate: {{host: '{}'}}", "collector: {{http_host: '{}'}}", "clickhouse: {{host: '{}'}}"]
)
def test_listening_beyond_this_machine_must_be_said(tmp_path: Path, host: str, key: str) -> None:
    path = write(tmp_path, key.format(host))
    with pytest.raises(ConfigError, match="insecure: true"):
        load_config(path, {})
    assert load_config(path, {"TRACEGRADE_INSECURE": "true"}).insecure


def test_a_collector_that_knows_its_senders_may_listen_anywhere(tmp_path: Path) -> None:
    opened = "collector: {grpc_host: 0.0.0.0, http_host: '::', %s}\n"
    for known in (
        f"tokens: [{{name: a, sha256: {'ab' * 32}}}]",
        "tls: {cert_file: c, key_file: k, client_ca_file: a}",
    ):
        config = load_config(write(tmp_path, opened % known), {})
        assert (config.collector.http_host, config.insecure) == ("::", False)
    with pytest.raises(ConfigError, match=r"give senders tokens \(`collector.tokens`\)") as caught:
        load_config(write(tmp_path, opened % "tls: {cert_file: c, key_file: k}"), {})
    assert {problem.key for problem in caught.value.problems} == {"collector.grpc_host", "collector.http_host"}


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("{name: a}", "exactly one of `file`, `env` and `sha256`"),
        ("{name: a, file: f, env: E}", "exactly one of `file`, `env` and `sha256`"),
        ("{name: a, token: secret}", "token"),
        ("{name: a, sha256: abc}", "sha256"),
        ("{name: a, env: TRACEGRADE_TOKEN}", "give it another name"),
        ("{name: 'a b', env: E}", "name"),
        ("{name: a, env: E, arm: canary}", "'production' or 'shadow'"),
        ("{name: a, env: E, tenant: ''}", "tenant"),
        ("{name: a, env: E}, {name: a, env: F}", "two tokens are named a"),
    ],
)
def test_tokens_are_checked(tmp_path: Path, token: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(write(tmp_path, f"collector: {{tokens: [{token}]}}\n"), {})


@pytest.mark.parametrize(
    "token", ["{name: a, token: sekret}", "{name: a, sha256: sekret}", "sekret", "{name: sekret !}"]
)
def test_a_misplaced_token_is_not_printed(tmp_path: Path, token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, f"collector: {{tokens: [{token}]}}\n"), {})
    assert "collector.tokens[0]" in str(caught.value)
    assert "sekret" not in str(caught.value)


@pytest.mark.parametrize("origin", ["example.com", "https://a/b", "", "https://"])
def test_origins_are_checked(tmp_path: Path, origin: str) -> None:
    with pytest.raises(ConfigError, match="cors_allowed_origins"):
        load_config(write(tmp_path, f"collector: {{cors_allowed_origins: ['{origin}']}}\n"), {})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_permission(tmp_path: Path, host: str) -> None:
    assert load_config(write(tmp_path, f"gate: {{host: '{host}', port: 1}}"), {}).gate.host == host


def test_what_is_printed_can_be_read_back(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "data_dir: /d\ngrading: {graders: {tools/loop: {repeats: 4}}}\n"), {})
    again = load_config(write(tmp_path, "\n".join(explain(config))), {})
    assert again == config


def test_a_password_is_not_printed(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "store: clickhouse://me:hunter2@db/x\n"), {})
    assert "hunter2" not in "\n".join(explain(config))


def test_the_documentation_shows_every_key() -> None:
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert "\n".join(explain(load_config(None, {}))) in page.read_text(), "paste the output of `tracegrade config`"


def test_a_server_is_sent_larger_segments_unless_their_size_is_given() -> None:
    server = {"store": "clickhouse://127.0.0.1/x"}
    sizes = [
        Config.model_validate(given).collector_settings.segment_bytes
        for given in ({}, server, {**server, "collector": {"segment_bytes": 5}})
    ]
    assert sizes == [32 * 2**20, 64 * 2**20, 5]
