"""The embedded engine, told not to look around.

Left alone it reads a `config.xml` from the working directory, whoever wrote it: when its module is imported, and again for each
connection. Such a file can move the data elsewhere, and have programs run.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlencode

_HERE = Path(__file__).parent
OPTIONS = {"config-file": str(_HERE / "engine.xml")}
"""What every connection is opened with."""


_loading = Lock()


@cache
def load() -> Any:
    """The engine's module; raises ImportError where it is not installed."""
    with _loading:
        before = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.chdir(_HERE)  # importing it opens a first connection, to which nothing can be said
            import chdb
        finally:
            os.fchdir(before)
            os.close(before)
        return chdb


def connect(path: str) -> Any:
    """A connection to the engine in a directory."""
    return load().connect(f"{path}?{urlencode(OPTIONS)}")
