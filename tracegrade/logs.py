"""What the servers log: a line of text or a JSON object each, on stderr.

Promises that one record is one line whatever is in it. What telemetry says is not logged by anyone: ids, counts, sizes, places
and the words of errors are.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Final, Literal

LogFormat = Literal["text", "json"]

_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


class JsonFormatter(logging.Formatter):
    """`time` (RFC 3339, UTC), `level`, `logger`, `message`, and `exception` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        facts = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps(facts)


class TextFormatter(logging.Formatter):
    """For people; what could drive their terminal is escaped. An exception takes more lines, each of them indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(_CONTROL).replace("\n", "\n  ")


def configure_logging(log_format: LogFormat) -> None:
    """Send everything from INFO up to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # It warns of whatever a stranger sends that is no HTTP.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    # It warns of each try to reach a store that is away; the collector and the grader say so once.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
