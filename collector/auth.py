"""Who may send: bearer tokens.

Promises that with tokens configured nothing of a request is read before one of them was presented, that the comparison takes
the same time whichever token is nearly right, and that no token ever appears in a message, a log line or a metric. Tokens are
compared by their SHA-256; the tokens themselves are forgotten once they are hashed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from collector.outcomes import Outcome, Refusal
from collector.settings import Token
from collector.stamp import ARM, TENANT
from store import StoreError

_SHORTEST: Final = 16
_HEADERS: Final = ("authorization", "x-api-key", "api-key")
_REFUSED: Final = (
    "no token of this collector; send it as `Authorization: Bearer <token>`, "
    "with OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20<token>"
)


class TokenUnusable(StoreError):
    """A configured token cannot be read; nothing was started."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    name: str = ""
    stamp: Mapping[str, str] = field(default_factory=dict)
    """Resource attributes that everything from this caller carries."""


ANYONE: Final = Caller()


class Doorkeeper:
    """Knows the tokens. Without any, everyone may send."""

    def __init__(self, tokens: Sequence[Token] = (), environ: Mapping[str, str] = os.environ) -> None:
        """Read them; raises `TokenUnusable` naming the entry."""
        self._callers = tuple(
            (
                _digest(f"collector.tokens[{number}] ({token.name})", token, environ),
                Caller(token.name, {k: v for k, v in ((ARM, token.arm), (TENANT, token.tenant)) if v}),
            )
            for number, token in enumerate(tokens)
        )

    @property
    def open(self) -> bool:
        """Whether nobody needs a token."""
        return not self._callers

    def admit(self, headers: Iterable[tuple[str, str]]) -> Caller:
        """Whose token these headers hold; raises `Refusal`."""
        if self.open:
            return ANYONE
        found: Caller | None = None
        for name, value in headers:
            if name in _HEADERS:
                presented = hashlib.sha256(_bare(name, value).encode()).digest()
                for digest, caller in self._callers:
                    if hmac.compare_digest(digest, presented):
                        found = caller
        if found is None:
            raise Refusal(Outcome.UNAUTHENTICATED, _REFUSED)
        return found


def _bare(name: str, value: str) -> str:
    scheme, _, rest = value.strip().partition(" ")
    return rest.strip() if name == "authorization" and scheme.lower() == "bearer" else value.strip()


def _digest(where: str, token: Token, environ: Mapping[str, str]) -> bytes:
    if token.sha256 is not None:
        return bytes.fromhex(token.sha256)
    if token.env is not None:
        source, text = f"environment variable {token.env}", environ.get(token.env)
        if text is None:
            raise TokenUnusable(f"{where}: {source} is not set")
    else:
        assert token.file is not None
        source = f"file {token.file}"
        try:
            text = token.file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise TokenUnusable(f"{where}: {source} cannot be read: {why}") from None
    text = text.strip()
    if len(text) < _SHORTEST:
        raise TokenUnusable(
            f"{where}: the token in {source} is shorter than {_SHORTEST} characters; "
            "make one with `openssl rand -hex 32`"
        )
    return hashlib.sha256(text.encode()).digest()
