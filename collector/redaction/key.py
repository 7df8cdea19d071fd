"""The key of the placeholders: who has it can test whether a placeholder stands for a value he guesses."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from collector.redaction.settings import RedactionSettings
from store import StoreError

_SHORTEST: Final = 16


class KeyUnavailable(StoreError):
    """There is no key, and none could be made."""


def load_key(settings: RedactionSettings, default: Path) -> bytes:
    """The configured key, or that of the key file, which is made if there is none; raises `KeyUnavailable`."""
    if settings.key is not None:
        return settings.key.get_secret_value().encode()
    path = (settings.key_file or default).expanduser()
    try:
        key = path.read_bytes().strip() if path.exists() else _make(path)
    except OSError as error:
        raise KeyUnavailable(
            f"`redaction.key_file` {path}: {error.strerror}; make it readable, or set `redaction.key`"
        ) from error
    if len(key) < _SHORTEST:
        raise KeyUnavailable(
            f"`redaction.key_file` {path} holds {len(key)} bytes and needs {_SHORTEST}; delete it to have one made"
        )
    return key


def _make(path: Path) -> bytes:
    """A new key, whole or not at all, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_hex(32).encode()
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(key + b"\n")
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:  # another process was quicker
            return path.read_bytes().strip()
    finally:
        fresh.unlink()
    return key
