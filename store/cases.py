"""A case as a JSON document: the form in which suites are stored."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import orjson

from store.types import Case, Expectations, ExpectedCall


def digest_of(document: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no insignificant space."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


_LATER = ("compare", "fitting", "unfitting")
"""Expectations that came after the first suites were pinned: where they ask nothing, a case keeps its digest."""


def case_document(case: Case) -> str:
    """JSON of everything in the case but its digest, keys sorted."""
    fields = asdict(case)
    del fields["digest"]
    for name in _LATER:
        if not fields["expect"][name]:
            del fields["expect"][name]
    return canonical(fields).decode()


def read_case(document: str, digest: str) -> Case:
    """The case a document from `case_document` describes."""
    fields = orjson.loads(document)
    expect = fields.pop("expect")
    for calls in ("tools", "forbidden"):
        expect[calls] = tuple(ExpectedCall(**call) for call in expect[calls])
    for texts in ("tools_scope", "answer_contains", *_LATER):
        expect[texts] = tuple(expect.get(texts, ()))
    return Case(**{**fields, "tags": tuple(fields["tags"])}, expect=Expectations(**expect), digest=digest)
