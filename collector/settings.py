"""What a user may set on the collector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=0, le=65535)]


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
    """Size at which a segment is handed to the store."""
    segment_records: Annotated[int, Field(gt=0)] = 10_000
    """Number of requests at which a segment is handed to the store."""
    segment_age_seconds: Annotated[float, Field(gt=0)] = 1.0
    """Age at which a segment is handed to the store: the longest telemetry waits when little arrives."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 20.0
    """How long a stop may take to bring what is on disk into the store; what is left waits there for the next start."""
    fsync_interval_seconds: Annotated[float, Field(ge=0, le=1)] = 0.002
    """How long a request waits for others to share its fsync; every acknowledgement waits for its fsync."""
