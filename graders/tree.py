"""The spans of one trace as a tree, whatever state they arrived in: duplicates, orphans and cycles do no harm."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from store.types import Span, SpanKind


class Tree:
    """Spans by start, parents first, each id once; and the parent of each whose parent is there, without cycles."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.by_id: dict[str, Span] = {}
        for span in spans:
            known = self.by_id.get(span.span_id)
            if (
                known is None or span.end_ns > known.end_ns
            ):  # some senders write a span at its start and again at its end
                self.by_id[span.span_id] = span
        depth: dict[str, int] = {}
        self.parents: dict[str, str] = {}
        for start in self.by_id:
            chain = []
            current = start
            while current in self.by_id and current not in depth:
                depth[current] = -1
                chain.append(current)
                current = self.by_id[current].parent_span_id
            base = depth.get(current, -1)  # -1: a root, an orphan, or the point where a cycle closes
            for span_id in reversed(chain):
                parent = self.by_id[span_id].parent_span_id
                if base >= 0 and parent in self.by_id:
                    self.parents[span_id] = parent
                base = depth[span_id] = base + 1
        self.spans = tuple(sorted(self.by_id.values(), key=lambda s: (s.start_ns, depth[s.span_id], s.span_id)))

    def parent(self, span: Span) -> Span | None:
        """The span around this one."""
        found = self.parents.get(span.span_id)
        return self.by_id[found] if found is not None else None

    def inside(self, span: Span, kind: SpanKind) -> Span | None:
        """The nearest ancestor of a kind."""
        current = self.parents.get(span.span_id)
        while current is not None:
            ancestor = self.by_id[current]
            if ancestor.kind is kind:
                return ancestor
            current = self.parents.get(current)
        return None

    def within(self, span_id: str, others: Collection[str]) -> bool:
        """Whether a span lies inside one of the others."""
        current = self.parents.get(span_id)
        while current is not None and current not in others:
            current = self.parents.get(current)
        return current is not None

    def owner(self, span: Span) -> Span | None:
        """The agent a span belongs to; an agent span right inside one of the same name, or of none, is the same agent."""
        owner = span if span.kind is SpanKind.AGENT else self.inside(span, SpanKind.AGENT)
        while owner is not None:
            outer = self.inside(owner, SpanKind.AGENT)
            if outer is None or outer.agent not in ("", owner.agent):
                return owner
            owner = outer
        return None
