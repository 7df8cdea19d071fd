"""What records the fixtures: the sink changes no byte, the provider says the turn that is due."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from . import provider, sink

BODY = bytes(range(256))
TRACES = f"/{sink.SERVICES['traces']}/Export"


def send(address: str, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.request(method, path, body, headers, encode_chunked=True)
    answer = connection.getresponse()
    result = answer.status, answer.read()
    connection.close()
    return result


@pytest.mark.parametrize(
    ("path", "headers", "body", "name", "answer"),
    [
        ("/v1/traces", {"content-type": "application/x-protobuf"}, BODY, "000.traces.pb", b""),
        ("/v1/logs", {"content-type": "application/json"}, b'{"resourceLogs": []}', "000.logs.json", b"{}"),
        ("/api/otel/v1/traces/", {"content-encoding": "gzip"}, gzip.compress(BODY), "000.traces.pb.gz", b""),
        ("/v1/traces", {"transfer-encoding": "chunked"}, [BODY[:100], BODY[100:]], "000.traces.pb", b""),
    ],
)
def test_a_body_over_http_is_kept_as_it_came(
    path: str, headers: dict[str, str], body: bytes | Iterable[bytes], name: str, answer: bytes, tmp_path: Path
) -> None:
    with sink.listen(tmp_path) as ports:
        assert send(ports.http, "POST", path, body, headers) == (200, answer)
    assert (tmp_path / name).read_bytes() == (body if isinstance(body, bytes) else b"".join(body))
    [told] = json.loads((tmp_path / "requests.json").read_text())
    assert told["file"] == name
    assert told["transport"] == "http"


def test_a_body_over_grpc_is_kept_as_it_came(tmp_path: Path) -> None:
    with sink.listen(tmp_path) as ports, grpc.insecure_channel(urlsplit(ports.grpc).netloc) as channel:
        assert channel.unary_unary(TRACES)(BODY, compression=grpc.Compression.Gzip) == b""
    assert (tmp_path / "000.traces.pb").read_bytes() == BODY
    assert json.loads((tmp_path / "requests.json").read_text())[0]["transport"] == "grpc"


@pytest.mark.parametrize(("path", "status"), [("/v1/metrics", 200), ("/v1/profiles", 404), ("/", 404)])
def test_what_is_not_a_trace_or_a_log_is_not_kept(path: str, status: int, tmp_path: Path) -> None:
    with sink.listen(tmp_path) as ports:
        assert send(ports.http, "POST", path, BODY, {})[0] == status
    assert not list(tmp_path.iterdir())


HISTORY = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ""}, {"role": "tool", "content": ""}]
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("lookup_order", "send_refund")]


def ask(address: str, messages: list[dict[str, str]], **more: Any) -> str:
    request = {"model": "any", "messages": messages, "tools": TOOLS, **more}
    return send(address, "POST", "/v1/chat/completions", json.dumps(request), {})[1].decode()


def test_the_turn_due_follows_from_the_history_streamed_or_not() -> None:
    with provider.serve(provider.SCENARIOS["tools"]) as address:
        for _ in range(2):
            assert "lookup_order" in ask(address, HISTORY[:1])
            assert "send_refund" in ask(address, HISTORY)
            assert "send_refund" in ask(address, HISTORY, stream=True)
        assert provider.ASIDE["text"] in ask(address, HISTORY, tools=[])
        assert "ledger is unavailable" in ask(address, HISTORY * 9)


def test_turns_can_be_said_in_order() -> None:
    turns = [{"text": text, "tokens": [1, 1]} for text in ("first", "second")]
    with provider.serve(provider.SCENARIOS["tools"]) as address:
        send(address, "PUT", "/turns/in-order", json.dumps(turns), {})
        said = [json.loads(ask(address, HISTORY[:1]))["choices"][0]["message"]["content"] for _ in range(3)]
    assert said == ["first", "second", "second"]
