"""The engines that tests run on: DuckDB, and dbt-databricks on the local SQL warehouse."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cdc.lab import FEEDS, PROJECT, Builder, lakehouse
from tests.support.components import UnavailableError
from tests.support.warehouse import WarehouseLakehouse, running_warehouse


@dataclass
class Engine:
    """One engine; `new` makes an empty lakehouse on it, of the CDC tests unless told otherwise."""

    name: str
    new: Callable[..., Builder]


@contextmanager
def duckdb() -> Iterator[Engine]:
    """DuckDB, one file for each lakehouse."""
    with tempfile.TemporaryDirectory() as folder:
        yield Engine(
            "duckdb", lambda **options: lakehouse(Path(tempfile.mkdtemp(dir=folder)), **options)
        )


@contextmanager
def warehouse() -> Iterator[Engine]:
    """dbt-databricks on the local SQL warehouse, a catalog for each lakehouse."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            context = running_warehouse()
            running = context.__enter__()
        except UnavailableError as error:
            if os.environ.get("REQUIRE_ALL") == "1":
                raise
            pytest.skip(f"AUTO CDC on the local warehouse: {error}")
        try:
            yield Engine(
                "warehouse",
                lambda **options: WarehouseLakehouse(
                    Path(tempfile.mkdtemp(dir=folder)),
                    catalog=running.new_catalog(),
                    **{"project": PROJECT, "feeds": FEEDS, **options},
                ),
            )
        finally:
            context.__exit__(None, None, None)


ENGINES: list[Callable[[], AbstractContextManager[Engine]]] = [duckdb, warehouse]
