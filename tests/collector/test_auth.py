"""Who may send, and what it counts as: TLS, client certificates, tokens; with the real exporters."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from collector.auth import Doorkeeper, TokenUnusable
from collector.outcomes import Refusal
from collector.settings import Token
from collector.stamp import stamped
from store.listen import TlsUnusable, server_context
from store.tls import Tls

DOCS = Path(__file__).parents[2] / "docs" / "securing.md"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SECRET = "s3cret-" + "0123456789abcdef" * 3
SHADOW, TENANT, PLAIN = f"{SECRET}-shadow", f"{SECRET}-tenant", f"{SECRET}-plain"
TOKENS = [
    {"name": "shadow", "sha256": hashlib.sha256(SHADOW.encode()).hexdigest(), "arm": "shadow", "tenant": "acme"},
    {"name": "tenant", "sha256": hashlib.sha256(TENANT.encode()).hexdigest(), "tenant": "other", "arm": "production"},
    {"name": "plain", "sha256": hashlib.sha256(PLAIN.encode()).hexdigest()},
]


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documentation's commands make."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: install it to test TLS")
    directory = tmp_path_factory.mktemp("certificates")
    blocks = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    for block in blocks:
        if "openssl req" in block:
            subprocess.run(["sh", "-ec", block], cwd=directory, check=True, capture_output=True)
    return directory


@pytest.fixture(autouse=True)
def _no_other_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """`requests`, below the HTTP exporter, prefers these to what it is told."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def tls(directory: Path, **more: str) -> dict[str, Path]:
    names = {"cert_file": "server.pem", "key_file": "server-key.pem", **more}
    return {key: directory / name for key, name in names.items()}


def send(exporter: SpanExporter, name: str, **attributes: str) -> None:
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource(attributes))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("agent").start_span(name).end()
    provider.shutdown()


def https(running: Any) -> str:
    return f"https://localhost:{running.collector.http_port}/v1/traces"


def grpcs(running: Any) -> str:
    return f"https://localhost:{running.collector.grpc_port}"


def test_the_real_exporters_speak_tls(start: Any, sink: Any, certificates: Path) -> None:
    running = start(sink, tls=tls(certificates))
    authority = certificates / "ca.pem"
    send(HttpSpans(endpoint=https(running), certificate_file=str(authority)), "HTTP")
    credentials = grpc.ssl_channel_credentials(authority.read_bytes())
    send(GrpcSpans(endpoint=grpcs(running), credentials=credentials), "gRPC")
    running.stop()
    assert sorted(sink.span_names()) == ["HTTP", "gRPC"]


def test_mtls_lets_in_who_has_a_certificate_and_nobody_else(
    start: Any, sink: Any, certificates: Path, trace_request: Any
) -> None:
    running = start(sink, tls=tls(certificates, client_ca_file="ca.pem"))
    authority, cert, key = (certificates / name for name in ("ca.pem", "client.pem", "client-key.pem"))
    send(
        HttpSpans(
            endpoint=https(running),
            certificate_file=str(authority),
            client_certificate_file=str(cert),
            client_key_file=str(key),
        ),
        "HTTP",
    )
    credentials = grpc.ssl_channel_credentials(authority.read_bytes(), key.read_bytes(), cert.read_bytes())
    send(GrpcSpans(endpoint=grpcs(running), credentials=credentials), "gRPC")

    context = ssl.create_default_context(cafile=authority)
    with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
        httpx.post(https(running), content=trace_request("s"), verify=context, trust_env=False)
    with grpc.secure_channel(
        f"localhost:{running.collector.grpc_port}", grpc.ssl_channel_credentials(authority.read_bytes())
    ) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(EXPORT)(trace_request("s"), timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    running.stop()
    assert sorted(sink.span_names()) == ["HTTP", "gRPC"]


def test_plain_text_and_old_tls_are_not_spoken(start: Any, certificates: Path, trace_request: Any) -> None:
    running = start(tls=tls(certificates))
    with pytest.raises(httpx.HTTPError):
        running.post("/v1/traces", trace_request("s"))
    with grpc.insecure_channel(running.grpc) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(EXPORT)(trace_request("s"), timeout=5)
    for port in (running.collector.http_port, running.collector.grpc_port):
        old = subprocess.run(
            ["openssl", "s_client", "-connect", f"localhost:{port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=20,
        )
        assert b"BEGIN CERTIFICATE" not in old.stdout
    assert server_context(Tls(**tls(certificates))).minimum_version is ssl.TLSVersion.TLSv1_2


def served(port: int, certificates: Path) -> bytes:
    """The certificate a listener shows, as PEM."""
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=10).encode()


def test_new_certificates_are_used_and_broken_ones_are_not(
    start: Any, certificates: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("server.pem", "server-key.pem"):
        shutil.copy(certificates / name, tmp_path / name)
    running = start(tls=tls(tmp_path))
    ports = (running.collector.http_port, running.collector.grpc_port)
    first = (certificates / "server.pem").read_bytes()
    assert {served(port, certificates).strip() for port in ports} == {first.strip()}

    (tmp_path / "server.pem").write_bytes(b"no certificate")
    os.utime(tmp_path / "server.pem", ns=(1, 1))
    with caplog.at_level(logging.WARNING):
        assert {served(port, certificates).strip() for port in ports} == {first.strip()}
    assert "the certificates that were in force stay so" in caplog.text

    for name, source in (("server.pem", "client.pem"), ("server-key.pem", "client-key.pem")):
        shutil.copy(certificates / source, tmp_path / name)
    second = (certificates / "client.pem").read_bytes()
    assert {served(port, certificates).strip() for port in ports} == {second.strip()}


@pytest.mark.parametrize(
    ("cert", "key", "says"),
    [
        ("none.pem", "server-key.pem", "none.pem cannot be read: No such file"),
        ("server.pem", "client-key.pem", "cannot be used: .*(?i:mismatch)"),
        ("server.csr", "server-key.pem", "cannot be used"),
    ],
)
def test_certificates_that_cannot_be_used_are_named_at_start(
    certificates: Path, cert: str, key: str, says: str
) -> None:
    with pytest.raises(TlsUnusable, match=says):
        server_context(Tls(cert_file=certificates / cert, key_file=certificates / key))


def test_a_key_with_a_passphrase_is_refused_without_asking(certificates: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.pem"
    command = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", certificates / "server-key.pem"]
    subprocess.run([*command, "-out", locked], check=True, capture_output=True)
    with pytest.raises(TlsUnusable, match="the key has a passphrase"):
        server_context(Tls(cert_file=certificates / "server.pem", key_file=locked))


# --- tokens -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, shared_with: Any) -> Iterator[Any]:
    with shared_with(tmp_path_factory.mktemp("guarded"), {"tokens": TOKENS, "segment_age_seconds": 0.001}) as running:
        yield running


PRESENTED: dict[str, tuple[dict[str, str], bool]] = {
    "bearer": ({"authorization": f"Bearer {PLAIN}"}, True),
    "lower case": ({"authorization": f"bearer  {PLAIN}"}, True),
    "another token": ({"authorization": f"Bearer {SHADOW}"}, True),
    "x-api-key": ({"x-api-key": PLAIN}, True),
    "api-key": ({"api-key": PLAIN}, True),
    "nothing": ({}, False),
    "empty": ({"authorization": "Bearer"}, False),
    "no scheme": ({"authorization": "x"}, False),
    "another scheme": ({"authorization": f"Basic {PLAIN}"}, False),
    "nearly": ({"authorization": f"Bearer {PLAIN[:-1]}"}, False),
    "more": ({"authorization": f"Bearer {PLAIN}x"}, False),
    "its hash": ({"authorization": f"Bearer {TOKENS[2]['sha256']}"}, False),
    "another header": ({"x-token": PLAIN}, False),
}


@pytest.mark.parametrize(("headers", "admitted"), PRESENTED.values(), ids=PRESENTED.keys())
def test_a_token_opens_both_doors(
    guarded: Any, trace_request: Any, headers: dict[str, str], admitted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = guarded.request(
            "POST", "/v1/traces", trace_request("s"), {"content-type": "application/x-protobuf", **headers}
        )
        with grpc.insecure_channel(guarded.grpc) as channel:
            rpc = channel.unary_unary(EXPORT).future(trace_request("s"), metadata=tuple(headers.items()), timeout=10)
            code = rpc.code()
    assert answer.status_code == (200 if admitted else 401)
    assert code is (grpc.StatusCode.OK if admitted else grpc.StatusCode.UNAUTHENTICATED)
    if not admitted:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "retry-after" not in answer.headers
        status = Status.FromString(answer.content)
        assert (status.code, len(status.details)) == (16, 0)
        assert "google.rpc.retryinfo-bin" not in dict(rpc.trailing_metadata())
        for said in (status.message, rpc.details()):
            assert "OTEL_EXPORTER_OTLP_HEADERS" in said
            assert SECRET not in said
    told = "".join(r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore")))
    assert SECRET not in told


def test_nothing_is_read_of_a_stranger(guarded: Any) -> None:
    """The answer is there although no body ever comes."""
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", guarded.collector.http_port), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")

    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait(10)
        yield b""

    with grpc.insecure_channel(guarded.grpc) as channel:
        rpc = channel.stream_unary(EXPORT).future(silence(), timeout=5)
        assert rpc.code() is grpc.StatusCode.UNAUTHENTICATED
        never.set()
    assert guarded.collector.memory.held == 0


def test_health_needs_no_token(guarded: Any) -> None:
    with grpc.insecure_channel(guarded.grpc) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


EXPORTERS: dict[str, Callable[[Any, str], SpanExporter]] = {
    "gRPC": lambda running, token: GrpcSpans(
        endpoint=running.grpc, insecure=True, headers={"authorization": f"Bearer {token}"}
    ),
    "HTTP": lambda running, token: HttpSpans(
        endpoint=running.http + "/v1/traces", headers={"authorization": f"Bearer {token}"}
    ),
}


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS.keys())
def test_what_a_token_says_overrides_what_a_client_claims(
    start: Any, sink: Any, exporter: Callable[[Any, str], SpanExporter]
) -> None:
    running = start(sink, tokens=TOKENS)
    claims = {"service.name": "agent", "tracegrade.tenant": "victim", "tracegrade.arm": "production"}
    for token in (SHADOW, TENANT, PLAIN):
        send(exporter(running, token), token, **claims)
    running.stop()
    found = {}
    for record in sink.records():
        for block in ExportTraceServiceRequest.FromString(record).resource_spans:
            attributes = [(pair.key, pair.value.string_value) for pair in block.resource.attributes]
            assert len(dict(attributes)) == len(attributes)
            found[block.scope_spans[0].spans[0].name] = dict(attributes)
    assert found == {
        SHADOW: {"service.name": "agent", "tracegrade.tenant": "acme", "tracegrade.arm": "shadow"},
        TENANT: {"service.name": "agent", "tracegrade.tenant": "other", "tracegrade.arm": "production"},
        PLAIN: {"service.name": "agent"},
    }


def test_without_tokens_nobody_can_claim_an_arm_or_a_tenant(start: Any, sink: Any) -> None:
    running = start(sink)
    body = (
        '{"resourceSpans":[{"resource":{"attributes":['
        '{"key":"tracegrade.\\u0061rm","value":{"stringValue":"production"}},'
        '{"key":"tracegrade.tenant","value":{"arrayValue":{"values":[{"kvlistValue":{"values":[]}}]}}}'
        '],"droppedAttributesCount":3},"scopeSpans":[{"spans":[{"name":"s"}]}]}]}'
    )
    assert running.post("/v1/traces", body.encode(), "application/json").status_code == 200
    running.stop()
    [record] = sink.records()
    resource = ExportTraceServiceRequest.FromString(record).resource_spans[0].resource
    assert (list(resource.attributes), resource.dropped_attributes_count) == ([], 3)


RESERVED = {"tracegrade.arm", "tracegrade.tenant"}
KEYS = st.sampled_from([*sorted(RESERVED), "tracegrade.case", "service.name", "tracegrade.arm ", ""])


@given(
    st.sampled_from([ExportTraceServiceRequest, ExportLogsServiceRequest]),
    st.lists(st.lists(st.tuples(KEYS, st.integers(0, 3)), max_size=5), max_size=4),
    st.dictionaries(st.sampled_from(sorted(RESERVED)), st.text(min_size=1, max_size=5), max_size=2),
    st.binary(max_size=10),
)
@settings(max_examples=100)
def test_stamping_changes_two_attributes_and_nothing_else(
    kind: Any, resources: list[list[tuple[str, int]]], stamp: dict[str, str], unknown: bytes
) -> None:
    request = kind()
    blocks = request.resource_spans if kind is ExportTraceServiceRequest else request.resource_logs
    for attributes in resources:
        block = blocks.add(schema_url="https://example/1")
        if attributes:
            block.resource.dropped_attributes_count = 7
        for key, value in attributes:
            block.resource.attributes.add(key=key).value.int_value = value
        if kind is ExportTraceServiceRequest:
            span = block.scope_spans.add().spans.add(name="s", trace_id=unknown)
            span.attributes.add(key="tracegrade.arm").value.string_value = "a span may say what it likes"
        else:
            block.scope_logs.add().log_records.add().body.bytes_value = unknown

    found = kind.FromString(stamped(request.SerializeToString(), stamp))

    for block, attributes in zip(blocks, resources, strict=True):
        del block.resource.attributes[:]
        for key, value in attributes:
            if key not in RESERVED:
                block.resource.attributes.add(key=key).value.int_value = value
        for key, text in stamp.items():
            block.resource.attributes.add(key=key).value.string_value = text
        if not attributes and not stamp:
            block.ClearField("resource")
    assert found == request


def test_stamping_is_no_way_to_fill_memory() -> None:
    with pytest.raises(Refusal, match="200000 resources in one request; 20000 are allowed"):
        stamped(b"\x0a\x00" * 200_000, {"tracegrade.arm": "shadow"})


# --- where tokens come from ---------------------------------------------------------------------------------------


def test_tokens_come_from_files_the_environment_or_their_hash(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}1\n")
    tokens = [
        Token(name="file", file=tmp_path / "token"),
        Token(name="env", env="SUPPORT_TOKEN"),
        Token(name="hash", sha256=hashlib.sha256(f"{SECRET}3".encode()).hexdigest().upper()),
    ]
    doorkeeper = Doorkeeper(tokens, {"SUPPORT_TOKEN": f"{SECRET}2"})
    for number, name in enumerate(("file", "env", "hash"), 1):
        assert doorkeeper.admit([("authorization", f"Bearer {SECRET}{number}")]).name == name
    assert SECRET not in repr(vars(doorkeeper))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is shorter than 16 characters; make one with `openssl rand -hex 32`"),
        (b"\n \n", "is shorter than 16 characters"),
        (b"sh0rt-secret", "is shorter than 16 characters"),
        (b"\xff" * 40, "cannot be read: it is not text"),
    ],
)
def test_a_token_that_cannot_be_used_is_named_and_not_shown(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TokenUnusable, match=re.escape("collector.tokens[0] (support)")) as caught:
        Doorkeeper([Token(name="support", file=path)])
    assert says in str(caught.value)
    assert "sh0rt-secret" not in str(caught.value)
    with pytest.raises(TokenUnusable, match="environment variable MISSING is not set"):
        Doorkeeper([Token(name="support", env="MISSING")], {})
