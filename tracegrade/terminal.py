"""What every command shares: how it reads its configuration, opens the store, and says what went wrong.

Exit code 2 is for a usage or configuration error, 4 for what keeps the work from being done.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn, TypeVar

import click
from rich.console import Console
from rich.markup import escape

from store import StoreError
from store.client import Dsn, Store, connect
from store.yamlfile import ConfigError
from tracegrade.config import Config, load_config
from tracegrade.running import find

USAGE, INFRASTRUCTURE = 2, 4
_T = TypeVar("_T")


def reader_left() -> NoReturn:
    """Leave as a shell expects after a closed pipe, without writing to it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


class Output(Console):
    """A console whose closed pipe is no verdict: rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        reader_left()


out = Output(soft_wrap=True)
err = Output(stderr=True, soft_wrap=True)


def fail(message: str, code: int) -> NoReturn:
    """Say what went wrong and leave."""
    err.print(f"[red]error:[/red] {escape(message)}", highlight=False)
    sys.exit(code)


def guarded(call: Callable[[], _T]) -> _T:
    """Turn the failures a user can cause or meet into a message and an exit code."""
    try:
        return call()
    except ConfigError as error:
        for problem in error.problems:
            err.print(f"[red]error:[/red] {escape(str(problem))}", highlight=False)
        sys.exit(USAGE)
    except ValueError as error:
        fail(str(error), USAGE)
    except StoreError as error:
        fail(str(error), INFRASTRUCTURE)


def configured(path: Path | None) -> Config:
    return guarded(lambda: load_config(path))


config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), help="Configuration file (YAML)."
)


def open_store(config: Config) -> Store:
    """The configured store; through the running server if that has it open."""
    running = find(config.data_dir) if config.store is None else None
    dsn = Dsn.parse(config.dsn)
    if running and running.clickhouse:
        return connect(f"clickhouse://{running.clickhouse}/{dsn.database}", create=False)
    if dsn.embedded and not Path(dsn.path).is_dir():
        raise ValueError(
            f"there is no database at {dsn.path}; is it served elsewhere? name it with --config or --store"
        )
    return connect(dsn)


def running_gate(config: Config) -> str | None:
    """The address of the gate that has the configured store open, if one does."""
    running = find(config.data_dir) if config.store is None else None
    return f"http://{running.gate}" if running else None


def since(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """A date, a time, or days back from now: 2026-11-01, 2026-11-01T12:00:00Z, 30d."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,5}d", value):
        return datetime.now(UTC) - timedelta(days=int(value[:-1]))
    try:
        at = datetime.fromisoformat(value)
    except ValueError as error:
        message = f"{value!r} is no time; write 2026-11-01, 2026-11-01T12:00:00Z or 30d"
        raise click.BadParameter(message) from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
