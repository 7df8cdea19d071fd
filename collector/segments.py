"""The write-ahead log: records that survive a crash from the moment `write` returns until `delete`.

Design constraints

- One process owns the directory (an flock on `lock`); one thread writes, another may read and delete what is sealed.
- A record is one serialised export request, never empty. It is on disk and fsynced before `write` returns.
- A sealed segment is immutable and is itself the body of one ClickHouse `INSERT … FORMAT Protobuf`.
- Everything on disk, quarantine included, stays within the budget.
- Nothing that may have been acknowledged is ever dropped: what cannot be read is moved to quarantine.

On disk, under the buffer directory

    lock                               held while a process runs
    probe                              comes and goes: whether the disk takes anything
    <id>.<signal>.open                 the segment being written, at most one a signal
    <id>.<signal>.pb                   a sealed segment, waiting to be loaded
    <id>.<signal>.index                where its records are
    <id>.<signal>.split                written by the loader once the store has refused the segment as a whole
    quarantine/<id>-<n>.<signal>.pb    a record (or damaged bytes) set aside; beside it a .json with the reason
    retry/<id>-<n>                     somebody asks for it to be loaded again; see `collector.quarantine`

    segment   ┌ varint length ┬ request ┐ ┌ varint length ┬ request ┐ …      ClickHouse's `Protobuf` format
    index     ┌ offset u64 ┬ end u64 ┬ items u32 ┬ crc32 of offset..end u32 ┬ crc32 of this entry u32 ┐ …   28 bytes

Ids are the time of creation and random bits, in hex: they sort by age and never repeat, across restarts too. The
loader uses them as insert tokens.

Writing. Records go to the segment with one `writev`, their entries to the index, then the segment is fdatasynced. The
index is not: it is a second opinion, synced when the segment is sealed. On any error both files are truncated back to
what was last committed and every record of the call is reported as not written.

Sealing. By size, number of records, or age, which counts for less the more sealed segments wait for the store: the index
is synced, the segment renamed, the directory synced.

Recovery. Everything found is read once and checked against its index:

- whole record, checksum agrees                      kept
- no index entry (the index was lost or cut short)   kept if it is a valid request, since it may be acknowledged
- checksum disagrees                                 that record is quarantined; the rest is kept
- incomplete last record of an open segment          a write that was never acknowledged: cut and counted
- anything else that cannot be read                  quarantined up to the next record the index knows

Open segments are then sealed, so a segment is only ever written by the process that created it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from struct import Struct
from threading import Lock
from typing import Final

from zlib_ng import zlib_ng as zlib

from collector.otlp import SIGNALS, Encoding, Reject, Signal, accept
from store import Retryable, StoreError

_ID: Final = re.compile(r"[0-7][0-9a-f]{31}")
_ENTRY: Final = Struct("<QQII")
_ENTRY_CRC: Final = Struct("<I")
_ENTRY_BYTES: Final = _ENTRY.size + _ENTRY_CRC.size
_RECOUNT_SECONDS: Final = 1.0
"""How often a full buffer looks whether someone cleared the quarantine."""
_MOST_AGES: Final = 60
"""How many times its age an open segment may reach while others wait for the store."""
_RECORDS_PER_WRITEV: Final = 256
"""Two buffers each; the kernel takes 1024 buffers a call."""


DAMAGED: Final = "damaged"
"""How the parts begin that the disk, not the sender, spoilt."""


class BufferUnusable(StoreError):
    """The buffer directory cannot be used; nothing can start."""


class BufferInUse(BufferUnusable):
    """Another process has the directory."""


class BufferFull(Retryable):
    """Taking more would exceed the disk budget."""


@dataclass(frozen=True, slots=True)
class Record:
    """One request to be written."""

    payload: bytes
    count: int
    """Spans or log records in it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a record is in its segment, length prefix included."""

    offset: int
    end: int
    count: int
    crc: int

    def packed(self) -> bytes:
        """As the index stores it."""
        body = _ENTRY.pack(self.offset, self.end, self.count, self.crc)
        return body + _ENTRY_CRC.pack(zlib.crc32(body))


@dataclass(frozen=True, slots=True)
class Segment:
    """A sealed segment."""

    id: str
    signal: Signal
    path: Path
    size: int
    count: int
    """Spans or log records in it."""

    @property
    def index(self) -> Path:
        """Where its records are; see `read_index`."""
        return self.path.with_suffix(".index")

    @property
    def split(self) -> Path:
        """The loader's journal; see `collector.loader`."""
        return self.path.with_suffix(".split")


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that cannot be trusted."""

    offset: int
    end: int
    count: int | None
    """Spans or log records lost with it, where the index still knows."""
    reason: str


@dataclass(frozen=True, slots=True)
class Examined:
    """What `examine` made of a segment."""

    kept: tuple[Entry, ...]
    damaged: tuple[Damage, ...]
    torn: int
    """Bytes of an unfinished write at the end."""


@dataclass(slots=True)
class Recovery:
    """What was found at start."""

    kept: dict[Signal, int] = field(default_factory=lambda: dict.fromkeys(SIGNALS, 0))
    """Spans or log records that will be loaded."""
    quarantined: dict[Signal, int] = field(default_factory=lambda: dict.fromkeys(SIGNALS, 0))
    """Spans or log records in damaged records whose number the index still knew."""
    damaged_records: int = 0
    torn_bytes: int = 0


@dataclass(slots=True)
class _Open:
    """The segment being written. `size` and `index_size` cover committed records only."""

    id: str
    path: Path
    data: int
    index: int
    created: float
    size: int = 0
    index_size: int = 0
    records: int = 0
    count: int = 0
    clean: bool = True
    """False while the files may hold bytes of a failed write."""

    def commit(self, records: Sequence[Record]) -> None:
        """Append `records` durably, or leave the segment as it was and raise OSError."""
        self.restore()
        entries = bytearray()
        buffers: list[bytes] = []
        end = self.size
        for record in records:
            header = varint(len(record.payload))
            start, end = end, end + len(header) + len(record.payload)
            entries += Entry(start, end, record.count, zlib.crc32(record.payload, zlib.crc32(header))).packed()
            buffers += (header, record.payload)
        self.clean = False
        try:
            _write_all(self.data, buffers)
            _write_all(self.index, [bytes(entries)])
            os.fdatasync(self.data)
        except BaseException:
            with suppress(OSError):  # tried again before anything else is done with the segment
                self.restore()
            raise
        self.clean = True
        self.size = end
        self.index_size += len(entries)
        self.records += len(records)
        self.count += sum(record.count for record in records)

    def restore(self) -> None:
        """Cut whatever a failed write left behind."""
        if self.clean:
            return
        for fd, size in ((self.data, self.size), (self.index, self.index_size)):
            os.ftruncate(fd, size)
            os.lseek(fd, size, os.SEEK_SET)
        os.fdatasync(self.data)
        self.clean = True

    def close(self) -> None:
        """Release the files."""
        os.close(self.data)
        os.close(self.index)


class SegmentLog:
    """The log in one directory. `write`, `seal*` and `close` belong to one thread; the rest may be called from any."""

    def __init__(
        self,
        directory: Path,
        *,
        disk_budget_bytes: int,
        segment_bytes: int,
        segment_age_seconds: float,
        segment_records: int,
        on_sealed: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the directory and recover what is in it; raises `BufferUnusable`."""
        self.directory = directory
        self.quarantine_directory = directory / "quarantine"
        self._budget = disk_budget_bytes
        self._segment_bytes = segment_bytes
        self._segment_age = segment_age_seconds
        self._segment_records = segment_records
        self._on_sealed = on_sealed
        self._open: dict[Signal, _Open] = {}
        self._sealed: list[Segment] = []
        self._last_id = ""
        self._shared = Lock()
        self.recovery = Recovery()
        self._used = 0
        self._quarantined = 0
        self._recounted = 0.0
        self._closed = False
        self._lock = take(directory)
        try:
            self.quarantine_directory.mkdir(exist_ok=True)
            self._recover()
            self._quarantined = 0
            self._used = sum(path.stat().st_size for path in self.directory.iterdir() if path.is_file())
            self._recount_quarantine()
        except OSError as error:
            os.close(self._lock)
            raise BufferUnusable(
                f"`buffer_dir` {directory} cannot be used: {error.strerror or error}; "
                "make it writable or choose another"
            ) from error
        except BaseException:
            os.close(self._lock)
            raise

    # --- space ---

    @property
    def used_bytes(self) -> int:
        """Disk in use or reserved, quarantine included."""
        with self._shared:
            return self._used

    def reserve(self, size: int) -> None:
        """Set aside disk for a payload about to be written; raises `BufferFull`."""
        needed = _cost(size)
        with self._shared:
            if self._used + needed > self._budget and time.monotonic() - self._recounted > _RECOUNT_SECONDS:
                self._recount_quarantine()
            if self._used + needed > self._budget:
                raise BufferFull(
                    f"the buffer holds {self._used} bytes and may hold {self._budget} (`disk_budget_bytes`); "
                    "it empties as the store takes segments and as quarantine is cleared"
                )
            self._used += needed

    # --- writing ---

    def write(self, signal: Signal, records: Sequence[Record]) -> None:
        """Make `records` durable, all or none of the call; raises OSError.

        Their space must have been reserved; it is given back if they are not written. A call never spans two segments,
        so the segment that takes it may grow past its limit by one call.
        """
        try:
            segment = self._open.get(signal)
            if segment is None:
                segment = self._open[signal] = self._create(signal)
            segment.commit(records)
        except BaseException:
            self._spend(-sum(_cost(len(record.payload)) for record in records))
            raise

    def seal_due(self, now: float) -> None:
        """Seal the open segments that are large, old or full enough."""
        for signal, segment in list(self._open.items()):
            if (
                segment.size >= self._segment_bytes
                or segment.records >= self._segment_records
                or now - segment.created >= self._age()
            ):
                self._seal(signal, segment)

    def seal_all(self) -> None:
        """Seal every open segment."""
        for signal, segment in list(self._open.items()):
            self._seal(signal, segment)

    def next_deadline(self) -> float | None:
        """When the oldest open segment is due, by the monotonic clock."""
        return min((segment.created + self._age() for segment in self._open.values()), default=None)

    def close(self) -> None:
        """Release the directory. Open segments stay as they are; the next start recovers them."""
        with self._shared:
            if self._closed:
                return
            self._closed = True
        for segment in self._open.values():
            segment.close()
        self._open.clear()
        os.close(self._lock)

    # --- reading ---

    def sealed(self) -> tuple[Segment, ...]:
        """Sealed segments, oldest first."""
        with self._shared:
            return tuple(self._sealed)

    def oldest_seconds(self) -> float:
        """How long the oldest sealed segment has been waiting, by the wall clock; 0 if none is."""
        with self._shared:
            # A file that somebody put here may be called anything.
            oldest = next((segment.id for segment in self._sealed if _ID.fullmatch(segment.id)), "")
        return max(0.0, time.time() - int(oldest[:16], 16) / 1e9) if oldest else 0.0

    def probe(self) -> None:
        """Write, sync and remove a file; raises OSError if the disk does not take it."""
        path = self.directory / "probe"
        with path.open("wb") as file:
            file.write(b"?")
            file.flush()
            os.fsync(file.fileno())
        path.unlink(missing_ok=True)  # two may probe at once

    def delete(self, segment: Segment) -> bool:
        """Forget a sealed segment; False, and no effect, once the log is closed."""
        with self._shared:
            if self._closed:
                return False
            freed = sum(path.stat().st_size for path in (segment.path, segment.index) if path.exists())
            segment.path.unlink(missing_ok=True)
            with suppress(OSError):  # what stays behind of the rest is removed at the next start
                if segment.split.exists():
                    # Without its journal a segment that reappears after a power cut would be loaded whole, twice.
                    sync_directory(self.directory)
                    segment.split.unlink()
                segment.index.unlink(missing_ok=True)
            self._sealed.remove(segment)
            self._used -= freed
            return True

    def quarantine(
        self, segment_id: str, signal: Signal, part: str, data: bytes, *, count: int | None, reason: str
    ) -> None:
        """Keep `data` under quarantine with the reason beside it. Doing it twice is doing it once."""
        path = self.quarantine_directory / f"{segment_id}-{part}.{signal}.pb"
        facts = {
            "segment": segment_id,
            "part": part,
            "signal": signal,
            "bytes": len(data),
            "items": count,
            "reason": reason,
            "quarantined_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        note = json.dumps(facts, indent=1).encode()
        grown = 0 if path.exists() else len(data) + len(note)
        write_file(path, data)
        write_file(path.with_suffix(".json"), note)
        with self._shared:
            self._quarantined += grown
            self._used += grown

    # --- inside ---

    def _age(self) -> float:
        """The age at which a segment is due: the more of them wait for the store, the later, for few large inserts cost it
        far less than many small ones."""
        return self._segment_age * min(1 + len(self._sealed), _MOST_AGES)

    def _recount_quarantine(self) -> None:
        """People clear the quarantine while we run."""
        self._recounted = time.monotonic()
        now = 0
        for path in self.quarantine_directory.iterdir():
            with suppress(FileNotFoundError):  # cleared this very moment
                now += path.stat().st_size
        self._used += now - self._quarantined
        self._quarantined = now

    def _spend(self, size: int) -> None:
        with self._shared:
            self._used += size

    def _new_id(self) -> str:
        stamp = max(time.time_ns(), int(self._last_id[:16] or "0", 16) + 1)
        self._last_id = f"{stamp:016x}{secrets.token_hex(8)}"
        return self._last_id

    def _create(self, signal: Signal) -> _Open:
        segment_id = self._new_id()
        path = self.directory / f"{segment_id}.{signal}.open"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with ExitStack() as undo:
            files: list[int] = []
            # The index first: an open segment without one has lost it, which recovery must be able to tell.
            for file in (path.with_suffix(".index"), path):
                files.append(os.open(file, flags, 0o640))
                undo.callback(file.unlink)
                undo.callback(os.close, files[-1])
            sync_directory(self.directory)
            undo.pop_all()
        index, data = files
        return _Open(segment_id, path, data, index, time.monotonic())

    def _seal(self, signal: Signal, segment: _Open) -> None:
        """Raises OSError, leaving the segment open, if the disk refuses."""
        segment.restore()
        if not segment.records:
            segment.path.unlink(missing_ok=True)
            segment.path.with_suffix(".index").unlink(missing_ok=True)
        else:
            os.fsync(segment.index)
            sealed = segment.path.with_suffix(".pb")
            os.rename(segment.path, sealed)
            with suppress(OSError):  # should the old name come back after a power cut, recovery seals it again
                sync_directory(self.directory)
            with self._shared:
                self._sealed.append(Segment(segment.id, signal, sealed, segment.size, segment.count))
        segment.close()
        del self._open[signal]
        self._on_sealed()

    def _recover(self) -> None:
        for path in self.directory.glob("*.tmp"):
            path.unlink()
        for path in self.quarantine_directory.glob("*.tmp"):
            path.unlink()
        for path in self.quarantine_directory.glob("*.json"):
            if not path.with_suffix(".pb").exists():
                path.unlink()
        for path in sorted([*self.directory.glob("*.open"), *self.directory.glob("*.pb")]):
            segment_id, _, signal_name = path.stem.partition(".")
            for signal in SIGNALS:
                if signal == signal_name:
                    self._recover_segment(path, segment_id, signal)
        for path in [*self.directory.glob("*.index"), *self.directory.glob("*.split")]:
            if not path.with_suffix(".pb").exists():
                path.unlink()
        sync_directory(self.directory)
        self._sealed.sort(key=lambda segment: segment.id)
        if self._sealed and _ID.fullmatch(self._sealed[-1].id):
            self._last_id = self._sealed[-1].id

    def _recover_segment(self, path: Path, segment_id: str, signal: Signal) -> None:
        data = path.read_bytes()
        index = path.with_suffix(".index")
        listed, index_readable = read_index(index)
        is_open = path.suffix == ".open"
        found = examine(signal, data, listed, may_be_torn=is_open and index_readable)
        if path.with_suffix(".split").exists():
            # Parts of it are stored already, under tokens made of record numbers, so records must not be renumbered:
            # the loader reads it by its index and checks each record itself.
            if not index_readable or (listed and listed[-1].end != len(data)):
                whole = Damage(0, len(data), None, "the index of a partly loaded segment is lost")
                found = Examined((), (whole,), 0)
            else:
                found = Examined(tuple(listed), (), 0)
        for damage in found.damaged:
            lost = data[damage.offset : damage.end]
            # A segment may be damaged at the same place twice, after what stood there was taken out.
            part = f"{DAMAGED}-{damage.offset}-{zlib.crc32(lost):08x}"
            self.quarantine(segment_id, signal, part, lost, count=damage.count, reason=damage.reason)
            self.recovery.quarantined[signal] += damage.count or 0
            self.recovery.damaged_records += 1
        self.recovery.torn_bytes += found.torn
        if not found.kept:
            path.unlink()
            return
        if found.damaged or found.torn:
            # Without an index the new file is read by its structure, whatever moment the power fails at. A disk too full for
            # the new file leaves the old one its index.
            fresh = _write_beside(path, b"".join(data[entry.offset : entry.end] for entry in found.kept))
            index.unlink(missing_ok=True)
            os.replace(fresh, path)
            sync_directory(self.directory)
        kept = _moved_together(found.kept)
        if kept != tuple(listed) or not index.exists():
            write_file(index, b"".join(entry.packed() for entry in kept))
        if is_open:
            sealed = path.with_suffix(".pb")
            with path.open("rb") as file:
                os.fsync(file.fileno())
            os.rename(path, sealed)
            path = sealed
        count = sum(entry.count for entry in kept)
        self.recovery.kept[signal] += count
        self._sealed.append(Segment(segment_id, signal, path, kept[-1].end, count))


def examine(signal: Signal, data: bytes, listed: Sequence[Entry], *, may_be_torn: bool) -> Examined:
    """Sort the bytes of a segment into kept, damaged and torn; see *Recovery* at the head of the module."""
    by_offset = {entry.offset: entry for entry in listed}
    offsets = sorted(by_offset)
    kept: list[Entry] = []
    damaged: list[Damage] = []
    position = 0
    while position < len(data):
        entry = by_offset.get(position) or _entry_from_structure(signal, data, position)
        if entry is not None and entry.end <= len(data):
            if zlib.crc32(data[entry.offset : entry.end]) == entry.crc:
                kept.append(entry)
            else:
                damaged.append(Damage(entry.offset, entry.end, entry.count, "the checksum does not match the index"))
            position = entry.end
            continue
        known = bisect_right(offsets, position)
        if known < len(offsets) and offsets[known] < len(data):
            damaged.append(Damage(position, offsets[known], None, "no readable record"))
            position = offsets[known]
        elif may_be_torn and _is_unfinished(data, position):
            return Examined(tuple(kept), tuple(damaged), len(data) - position)
        else:
            damaged.append(Damage(position, len(data), None, "no readable record up to the end of the segment"))
            break
    return Examined(tuple(kept), tuple(damaged), 0)


def read_index(path: Path) -> tuple[list[Entry], bool]:
    """The valid entries of an index, and whether it was all there is to an index: present and undamaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], False
    entries: list[Entry] = []
    whole = True
    for start in range(0, len(data) - _ENTRY_BYTES + 1, _ENTRY_BYTES):
        body = data[start : start + _ENTRY.size]
        (crc,) = _ENTRY_CRC.unpack_from(data, start + _ENTRY.size)
        if zlib.crc32(body) == crc:
            entries.append(Entry(*_ENTRY.unpack(body)))
        else:
            whole = False
    return entries, whole


def _cost(size: int) -> int:
    """Disk taken by a record of `size` bytes."""
    return len(varint(size)) + size + _ENTRY_BYTES


def payload_of(data: bytes, entry: Entry) -> bytes:
    """The request of a record, without its length."""
    header = _read_varint(data, entry.offset)
    return data[header[1] if header else entry.offset : entry.end]


def varint(number: int) -> bytes:
    """`number` as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int] | None:
    """The number at `position` and where it ends; None if it does not end or is longer than a length can be."""
    number = 0
    for shift, byte in enumerate(islice(data, position, position + 5)):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number, position + shift + 1
    return None


def _entry_from_structure(signal: Signal, data: bytes, offset: int) -> Entry | None:
    header = _read_varint(data, offset)
    if header is None or header[0] == 0 or header[1] + header[0] > len(data):
        return None
    length, start = header
    end = start + length
    try:
        accepted = accept(signal, Encoding.PROTOBUF, data[start:end])
    except Reject:
        return None
    return Entry(offset, end, accepted.count, zlib.crc32(data[offset:end]))


def _is_unfinished(data: bytes, position: int) -> bool:
    """Whether the rest looks like a write cut short: a record longer than the file, or blocks never filled."""
    header = _read_varint(data, position)
    if header is None:
        return len(data) - position < 5
    return header[1] + header[0] > len(data) or not any(data[position:])


def _moved_together(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    moved: list[Entry] = []
    end = 0
    for entry in entries:
        start, end = end, end + entry.end - entry.offset
        moved.append(Entry(start, end, entry.count, entry.crc))
    return tuple(moved)


def take(directory: Path) -> int:
    """Become the one process of a buffer directory until the descriptor is closed; raises `BufferUnusable`."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise BufferUnusable(
            f"`buffer_dir` {directory} cannot be used: {error.strerror}; make it writable or choose another"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise BufferInUse(
            f"`buffer_dir` {directory} is in use by process {holder}; stop it or give this one its own directory"
        ) from None
    with suppress(OSError):  # only tells the next one who holds it; a full disk must not stop recovery
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _write_all(fd: int, buffers: Sequence[bytes]) -> None:
    step = 2 * _RECORDS_PER_WRITEV
    for first in range(0, len(buffers), step):
        views = [memoryview(buffer) for buffer in buffers[first : first + step]]
        while views:
            written = os.writev(fd, views)
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if views and written:
                views[0] = views[0][written:]


def write_file(path: Path, data: bytes) -> None:
    """Replace `path` durably."""
    os.replace(_write_beside(path, data), path)
    sync_directory(path.parent)


def _write_beside(path: Path, data: bytes) -> Path:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def sync_directory(directory: Path) -> None:
    """Make names created, renamed or removed in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
