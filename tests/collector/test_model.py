"""Log, loader, ledger and quarantine against a model that fits on a page: which names are where.

A state machine writes records, some of them poison or too large for the store's memory, loads them into a store that is
down, loses its answers, keeps half of what it is given or runs out of memory, drives pieces of the quarantine back in, drops
them, and crashes at any moment with a torn tail, a flipped bit or a lost index. At every step the books balance, and at the
end everything acknowledged is in the store once, or set aside, or was dropped by hand.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.ledger import Counts, Ledger
from collector.loader import Loader, _GiveWay
from collector.quarantine import Quarantine
from collector.segments import Record, SegmentLog, read_index, varint
from store import OutOfMemory, Permanent, Retryable, StoreError

KINDS = ("sound", "sound", "sound", "poison", "huge")
SPANS = {"sound": 1, "poison": 2, "huge": 3}
WEATHER = ("fine", "fine", "down", "lost", "half")


def request(name: str) -> bytes:
    message = ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    for _ in range(SPANS[name.partition("-")[0]]):
        scope.spans.add(name=f"<{name}>")
    return message.SerializeToString()


def names_in(data: bytes) -> set[str]:
    return {found.decode() for found in re.findall(rb"<((?:sound|poison|huge)-[0-9]+)>", data)}


class Store:
    """Two tables that each take an id once, as ClickHouse's do; memory for nothing huge; refuses poison until cured."""

    def __init__(self) -> None:
        self.tables: list[dict[str, set[str]]] = [{}, {}]
        self.weather = "fine"
        self.cured: set[str] = set()

    def load(self, signal: str, segment_id: str, path: Path, /) -> None:
        names = names_in(path.read_bytes())
        if self.weather == "down":
            raise Retryable("down")
        if any(name.startswith("poison") for name in names - self.cured):
            raise Permanent("poison")
        if any(name.startswith("huge") for name in names - self.cured):
            raise OutOfMemory("huge")
        first, second = self.tables
        first.setdefault(segment_id, names)
        if self.weather == "half":
            raise Retryable("the first table has it, the second has not")
        second.setdefault(segment_id, names)
        if self.weather == "lost":
            raise Retryable("the answer was lost")

    def names(self) -> list[Counter[str]]:
        return [Counter(name for names in table.values() for name in names) for table in self.tables]


class Collecting(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = Store()
        self.acknowledged: set[str] = set()
        self.dropped: set[str] = set()
        self.flipped: set[str] = set()
        """A bit of these was flipped on the disk: they must not be lost, but their name may be."""
        self.unreadable: set[str] = set()
        """Pieces ever set aside in which no name can be read."""

    @initialize()
    def start(self) -> None:
        self.log = SegmentLog(
            self.directory,
            disk_budget_bytes=10**9,
            segment_bytes=10**9,
            segment_age_seconds=10**6,
            segment_records=10**6,
        )
        found = self.log.recovery
        self.ledger = Ledger()
        self.ledger.recovered("traces", found.kept["traces"] + found.quarantined["traces"])
        self.ledger.quarantined("traces", found.quarantined["traces"])
        self.loader = Loader(self.log, self.store, self.ledger, threading.Event())
        self.kept = Quarantine(self.directory)
        self.unreadable |= {piece.id for piece in self.kept.pieces() if not names_in(self.kept.read(piece))}

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.settle()
            self.log.close()
        shutil.rmtree(self.directory)

    # --- what senders do ---

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
    def send(self, kinds: list[str]) -> None:
        names = [f"{kind}-{len(self.acknowledged) + number}" for number, kind in enumerate(kinds)]
        records = [Record(request(name), SPANS[name.partition("-")[0]]) for name in names]
        for record in records:
            self.ledger.received("traces", record.count)
            self.log.reserve(len(record.payload))
        self.log.write("traces", records)
        self.acknowledged.update(names)

    @rule()
    def send_while_the_disk_is_full(self) -> None:
        self.ledger.received("traces", 1)
        self.ledger.refused("traces", 1)

    # --- what the collector does ---

    @rule()
    def seal(self) -> None:
        self.log.seal_all()

    @rule(which=st.integers(0, 5), weather=st.sampled_from(WEATHER))
    def load(self, which: int, weather: str) -> None:
        sealed = self.log.sealed()
        if sealed:
            self.store.weather = weather
            with suppress(StoreError, _GiveWay):
                self.loader._load(sealed[which % len(sealed)])

    # --- what people do ---

    @precondition(lambda self: hasattr(self, "kept") and self.kept.pieces())
    @rule(which=st.integers(0, 5), weather=st.sampled_from(WEATHER), cured=st.booleans())
    def retry(self, which: int, weather: str, cured: bool) -> None:
        pieces = self.kept.pieces()
        piece = pieces[which % len(pieces)]
        self.store.weather = weather
        if cured:
            self.store.cured |= names_in(self.kept.read(piece))
        self.kept.ask(piece)
        self.look_for_what_is_asked()

    def look_for_what_is_asked(self) -> None:
        self.loader._looked = 0.0
        self.loader._retry_what_is_asked()

    @precondition(lambda self: hasattr(self, "kept") and self.kept.pieces())
    @rule(which=st.integers(0, 5))
    def drop(self, which: int) -> None:
        pieces = self.kept.pieces()
        piece = pieces[which % len(pieces)]
        self.dropped |= names_in(self.kept.read(piece))
        self.kept.drop(piece)

    # --- what the machine does ---

    @rule(torn=st.none() | st.binary(max_size=8), index=st.sampled_from(["kept", "kept", "cut", "flipped"]))
    def crash(self, torn: bytes | None, index: str) -> None:
        """Die with a segment open; its last write may have left a torn tail, its index may be damaged."""
        self.log.close()
        for path in self.directory.glob("*.open"):
            entries = path.with_suffix(".index")
            if torn is not None and index == "kept":
                with path.open("ab") as file:
                    file.write(varint(1000) + torn)
            elif index == "cut":
                os.truncate(entries, entries.stat().st_size // 2)
            elif index == "flipped":
                flip(entries, entries.stat().st_size // 2)
        self.start()

    @rule(which=st.integers(0, 5), where=st.floats(0, 1, exclude_max=True))
    def crash_and_flip_a_bit(self, which: int, where: float) -> None:
        self.log.close()
        files = sorted([*self.directory.glob("*.open"), *self.directory.glob("*.pb")])
        if files:
            path = files[which % len(files)]
            data = path.read_bytes()
            position = int(where * len(data))
            entries, _ = read_index(path.with_suffix(".index"))
            for entry in entries:
                if entry.offset <= position < entry.end:
                    self.flipped |= names_in(data[entry.offset : entry.end])
            flip(path, position)
        self.start()

    # --- what must hold ---

    @property
    def counts(self) -> Counts:
        return self.ledger.snapshot(0).signals["traces"]

    @invariant()
    def the_sum_rule_holds(self) -> None:
        if hasattr(self, "ledger"):
            c = self.counts
            assert c.received + c.recovered == c.stored + c.rejected + c.buffered + c.quarantined
            assert min(c.received, c.recovered, c.stored, c.rejected, c.buffered, c.quarantined) >= 0

    @invariant()
    def nothing_is_doubled(self) -> None:
        for table in self.store.names():
            assert {name for name, n in table.items() if n > 1} <= self.flipped

    @invariant()
    def what_is_buffered_is_what_is_on_disk(self) -> None:
        if hasattr(self, "log"):
            sealed = sum(segment.count for segment in self.log.sealed())
            assert self.counts.buffered == sealed + sum(segment.count for segment in self.log._open.values())

    def settle(self) -> None:
        """The weather clears up and everything is loaded: where is what?"""
        self.store.weather = "fine"
        self.log.seal_all()
        for _ in range(1000):
            for segment in self.log.sealed():
                with suppress(OutOfMemory):
                    self.loader._load(segment)
            self.look_for_what_is_asked()
            if not self.log.sealed() and not self.kept.asked():
                break
        assert self.counts.buffered == 0
        self.the_sum_rule_holds()
        first, second = self.store.names()
        aside: set[str] = set()
        for piece in self.kept.pieces():
            names = names_in(self.kept.read(piece))
            aside |= names
            if not names:
                self.unreadable.add(piece.id)
        whole = self.acknowledged - self.flipped
        assert first.keys() & whole - self.dropped == second.keys() & whole - self.dropped
        assert whole == (first.keys() | aside | self.dropped) & whole, "lost"
        assert not first.keys() & aside & whole, "stored and set aside"
        assert not {name for name in aside if name.startswith("sound")} & whole, "set aside for nothing"
        assert len(self.flipped - first.keys() - aside - self.dropped) <= len(self.unreadable), "damaged and gone"


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[position] ^= 0x10
        path.write_bytes(data)


TestCollecting: Any = Collecting.TestCase
TestCollecting.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
