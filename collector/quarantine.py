"""What was set aside, each piece with its reason: seen, driven into the store again, or dropped.

Promises, towards a collector that runs at the same time and towards people who delete files by hand:

- Whoever holds the lock of the buffer directory writes here and loads from here; anybody may read, drop and `ask`.
- A piece is loaded under an id made of its name and its bytes, and deleted only then: however often a retry is cut short,
  it is stored once. What the store refuses again stays, with the new reason.
- A name from outside never leads out of the directory, and neither does a link.

On disk, under the buffer directory

    quarantine/<segment>-<part>.<signal>.pb      the piece: length-delimited requests, or bytes that cannot be read as such
    quarantine/<segment>-<part>.<signal>.json    its `Note`
    retry/<segment>-<part>                       empty: asks the running collector to retry it
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from zlib_ng import zlib_ng as zlib

from collector.otlp import SIGNALS, Signal
from collector.segments import DAMAGED, examine, payload_of, sync_directory, write_file
from store import OutOfMemory, Permanent

_ID: Final = re.compile(r"[A-Za-z0-9]+-[A-Za-z0-9-]+")
_MESSAGES: Final = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}


class Sink(Protocol):
    """Where pieces go; see `collector.loader.Sink`."""

    def load(self, signal: Signal, segment_id: str, path: Path, /) -> None:
        """Store the run of length-delimited requests in `path`, once for each id."""


class Note(BaseModel):
    """Why a piece was set aside."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    segment: str
    part: str
    signal: Signal
    bytes: int = Field(ge=0)
    items: int | None = Field(ge=0)
    """Spans or log records in it; unknown for bytes that cannot be read."""
    reason: str
    quarantined_at: str
    retried_at: str = ""
    """When the store last refused it again."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Something set aside."""

    id: str
    signal: Signal
    path: Path
    size: int
    note: Note | None
    """None if it is missing or damaged."""

    @property
    def reason(self) -> str:
        """Why it is here."""
        return self.note.reason if self.note else "its note is missing or damaged"

    @property
    def damaged(self) -> bool:
        """Whether its bytes are not those that were acknowledged, although they may still be readable."""
        return self.id.partition("-")[2].startswith(DAMAGED)

    def facts(self) -> dict[str, object]:
        """Everything but the payload."""
        note = self.note
        return {
            "id": self.id,
            "signal": self.signal,
            "segment": self.id.partition("-")[0],
            "part": self.id.partition("-")[2],
            "bytes": self.size,
            "items": note.items if note else None,
            "quarantined_at": note.quarantined_at if note else None,
            "retried_at": (note and note.retried_at) or None,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of a retry."""

    count: int
    """Spans or log records in the piece, as far as they can be read."""
    refusal: str | None
    """Why the store will not have it, or None if it has."""


class UnknownPiece(ValueError):
    """Nothing is set aside under this id."""


class Quarantine:
    """The quarantine of one buffer directory."""

    def __init__(self, buffer: Path) -> None:
        self._directory = buffer / "quarantine"
        self._asked = buffer / "retry"
        self._tries: dict[str, int] = {}

    def pieces(self) -> list[Piece]:
        """Everything set aside, oldest first."""
        return sorted(self._find("*"), key=lambda piece: (piece.id[:16], piece.path.name))

    def piece(self, name: str) -> Piece:
        """The piece with this id; raises `UnknownPiece`."""
        found = list(self._find(name)) if _ID.fullmatch(name) else []
        if not found:
            raise UnknownPiece(
                f"nothing is in quarantine under {name!r}; `tracegrade quarantine list` shows what is there"
            )
        return found[0]

    def read(self, piece: Piece) -> bytes:
        """Its bytes; raises `UnknownPiece` if somebody deleted it meanwhile."""
        try:
            with open(os.open(piece.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                return file.read()
        except OSError as error:
            raise UnknownPiece(f"{piece.id} cannot be read any more: {error.strerror}") from error

    def text(self, piece: Piece) -> str:
        """Its payload for a person: requests in protobuf's text form, everything else as escaped bytes."""
        data = self.read(piece)
        found = examine(piece.signal, data, (), may_be_torn=False)
        parts = [(entry.offset, _as_text(piece.signal, payload_of(data, entry))) for entry in found.kept]
        parts += [(damage.offset, repr(data[damage.offset : damage.end])[2:-1]) for damage in found.damaged]
        return "\n".join(text for _, text in sorted(parts))

    def drop(self, piece: Piece) -> None:
        """Delete it. Deleting it twice, or by hand at the same time, is no error."""
        # The note last: the next start sweeps a note alone away, bytes without a note would be a riddle.
        piece.path.unlink(missing_ok=True)
        piece.path.with_suffix(".json").unlink(missing_ok=True)
        self.answered(piece.id)
        sync_directory(self._directory)

    def retry(self, piece: Piece, sink: Sink, *, tries: int = 1) -> Retried:
        """Drive it into the store once more; raises `Retryable` if that cannot be tried now. For the holder of the lock.

        A store that runs out of memory over it `tries` times refuses it.
        """
        data = self.read(piece)
        found = examine(piece.signal, data, (), may_be_torn=False)
        count = sum(entry.count for entry in found.kept)
        insert_id = f"{piece.id}:{zlib.crc32(data):08x}"
        if found.damaged or not found.kept:
            refusal = found.damaged[0].reason if found.damaged else "it is empty"
        else:
            try:
                sink.load(piece.signal, insert_id, piece.path)
            except Permanent as error:
                refusal = str(error)
            except OutOfMemory as error:
                self._tries[insert_id] = self._tries.get(insert_id, 0) + 1
                if self._tries[insert_id] < tries:
                    raise
                refusal = str(error)
            else:
                self.drop(piece)
                return Retried(count, None)
        self._tries.pop(insert_id, None)
        self._write_note(piece, count, refusal)
        self.answered(piece.id)
        return Retried(count, refusal)

    # --- between a command and the running collector ---

    def ask(self, piece: Piece) -> None:
        """Have the collector that holds the directory retry a piece; it removes the mark once it has."""
        self._asked.mkdir(exist_ok=True)
        (self._asked / piece.id).touch()

    def asked(self) -> list[str]:
        """Ids somebody asked to retry."""
        try:
            return sorted(os.listdir(self._asked))
        except FileNotFoundError:
            return []

    def answered(self, name: str) -> None:
        """Forget that somebody asked."""
        with suppress(OSError):
            (self._asked / name).unlink()

    def wait_until_answered(self, name: str, seconds: float) -> bool:
        """Whether the collector answered within so many seconds."""
        deadline = time.monotonic() + seconds
        while (self._asked / name).exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    # --- inside ---

    def _find(self, name: str) -> Iterator[Piece]:
        for path in self._directory.glob(f"{name}.*.pb"):
            piece_id, _, signal_name = path.stem.rpartition(".")
            if not _ID.fullmatch(piece_id) or path.is_symlink() or not path.is_file():
                continue
            for signal in SIGNALS:
                if signal == signal_name:
                    with suppress(FileNotFoundError):
                        yield Piece(piece_id, signal, path, path.stat().st_size, _read_note(path.with_suffix(".json")))

    def _write_note(self, piece: Piece, count: int, reason: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        segment, _, part = piece.id.partition("-")
        note = piece.note or Note(
            segment=segment,
            part=part,
            signal=piece.signal,
            bytes=piece.size,
            items=count or None,
            reason=reason,
            quarantined_at=now,
        )
        text = note.model_copy(update={"reason": reason, "retried_at": now}).model_dump_json(indent=1)
        if piece.path.exists():
            write_file(piece.path.with_suffix(".json"), text.encode())


def _read_note(path: Path) -> Note | None:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return Note.model_validate_json(file.read(1 << 20))
    except (OSError, ValidationError):
        return None


def _as_text(signal: Signal, payload: bytes) -> str:
    message = _MESSAGES[signal]()
    try:
        message.ParseFromString(payload)
    except DecodeError:
        return repr(payload)[2:-1]
    return text_format.MessageToString(message, as_utf8=True)
