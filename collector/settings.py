"""What a user may set on the collector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from collector.redaction.settings import RedactionSettings
from store.tls import Tls

Port = Annotated[int, Field(ge=0, le=65535)]
Origin = Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\s]+)$")]


class Token(BaseModel):
    """A bearer token that senders present, and what their telemetry is stamped with."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """What errors call it."""
    file: Path | None = None
    """The file that holds it; it is read at start."""
    env: str | None = None
    """The environment variable that holds it; none beginning with TRACEGRADE_, which are configuration."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """Its SHA-256, so that the token itself need not be here."""
    arm: Literal["production", "shadow"] | None = None
    """What the telemetry counts as, whatever it says of itself; without it, what it says."""
    tenant: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Resource attribute `tracegrade.tenant` of the telemetry."""

    @field_validator("env")
    @classmethod
    def _is_no_setting(cls, name: str | None) -> str | None:
        if name is not None and name.startswith("TRACEGRADE_"):
            raise ValueError("variables beginning with TRACEGRADE_ are configuration; give it another name")
        return name

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if sum(source is not None for source in (self.file, self.env, self.sha256)) != 1:
            raise ValueError("exactly one of `file`, `env` and `sha256` must be given")
        return self


class CollectorSettings(BaseModel):
    """Settings of the collector; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    buffer_dir: Path = Path("tracegrade-data/buffer")
    """Where acknowledged telemetry waits for the store. One collector a directory; put it on a durable disk."""
    grpc_host: str = "127.0.0.1"
    """Address OTLP/gRPC listens on."""
    grpc_port: Port = 4317
    """Port OTLP/gRPC listens on; 0 takes any free one."""
    http_host: str = "127.0.0.1"
    """Address OTLP/HTTP listens on."""
    http_port: Port = 4318
    """Port OTLP/HTTP listens on; 0 takes any free one."""
    max_request_bytes: Annotated[int, Field(gt=0, lt=2**31)] = 64 * 2**20
    """Largest request taken, before and after decompression."""
    disk_budget_bytes: Annotated[int, Field(gt=0)] = 4 * 2**30
    """Disk the buffer may take, quarantine included; above it senders are told to try again."""
    segment_bytes: Annotated[int, Field(gt=0)] = 32 * 2**20
    """Size at which a segment is handed to the store; if not given, twice this when the store is a server."""
    segment_records: Annotated[int, Field(gt=0)] = 10_000
    """Number of requests at which a segment is handed to the store."""
    segment_age_seconds: Annotated[float, Field(gt=0)] = 1.0
    """Age at which a segment is handed to the store: the longest telemetry waits when little arrives and the store keeps up."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 20.0
    """How long a stop may take to bring what is on disk into the store; what is left waits there for the next start."""
    fsync_interval_seconds: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How long a request waits for others to share its fsync, which those that come during the last one do anyway."""
    redaction: RedactionSettings = RedactionSettings()
    """Personal data and secrets that are replaced before anything reaches the disk."""
    tls: Tls | None = None
    """`cert_file` and `key_file` encrypt both listeners; `client_ca_file` also lets in only clients with a certificate."""
    tokens: tuple[Token, ...] = ()
    """Bearer tokens, each with `name`, one of `file`, `env`, `sha256`, and if wanted `arm`, `tenant`; if any, all need one."""
    cors_allowed_origins: tuple[Origin, ...] = ()
    """Origins of web pages that may send over HTTP, as `https://app.example.com`; `*` in one stands for any letters."""

    @field_validator("tokens")
    @classmethod
    def _are_told_apart(cls, tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        names = [token.name for token in tokens]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two tokens are named {twice[0]}; give each its own name")
        return tokens

    @property
    def authenticates(self) -> bool:
        """Whether nobody can send without proving who they are."""
        return bool(self.tokens) or (self.tls is not None and self.tls.client_ca_file is not None)
