"""A case as canonical JSON, and its digest: the form in which suites are stored and compared.

Canonical means: keys sorted, no insignificant space, every field present. Two files that say the same in another order or
layout have the same digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import orjson

from store.types import Case, Expectations, ExpectedCall


def digest_of(document: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no insignificant space."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def case_document(case: Case) -> str:
    """Canonical JSON of everything in the case but its digest."""
    fields = asdict(case)
    del fields["digest"]
    return canonical(fields).decode()


def with_digest(case: Case) -> Case:
    """The same case, knowing its digest."""
    return replace(case, digest=digest_of(case_document(case).encode()))


def suite_digest(cases: Iterable[Case]) -> str:
    """Digest over the digests of the cases, in order of their ids."""
    return digest_of(canonical([[c.id, c.digest] for c in sorted(cases, key=lambda c: c.id)]))


def read_case(document: str, digest: str) -> Case:
    """The case a document from `case_document` describes."""
    fields = orjson.loads(document)
    expect = fields.pop("expect")
    expect["tools"] = tuple(ExpectedCall(**call) for call in expect["tools"])
    expect["forbidden"] = tuple(ExpectedCall(**call) for call in expect["forbidden"])
    expect["tools_scope"] = tuple(expect["tools_scope"])
    expect["answer_contains"] = tuple(expect["answer_contains"])
    fields["tags"] = tuple(fields["tags"])
    return Case(**fields, expect=Expectations(**expect), digest=digest)
