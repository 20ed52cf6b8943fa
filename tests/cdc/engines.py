"""The engines that the CDC macros are tested on."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cdc.lab import Builder, lakehouse


@dataclass
class Engine:
    """One engine; `new` makes an empty lakehouse on it."""

    name: str
    new: Callable[[], Builder]


@contextmanager
def duckdb() -> Iterator[Engine]:
    """DuckDB, one file for each lakehouse."""
    with tempfile.TemporaryDirectory() as folder:
        yield Engine("duckdb", lambda: lakehouse(Path(tempfile.mkdtemp(dir=folder))))


ENGINES: list[Callable[[], AbstractContextManager[Engine]]] = [duckdb]
