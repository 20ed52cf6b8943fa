"""The local SQL warehouse of the tests, as seen from the dbt environment.

`tests/warehouse` speaks Databricks' protocol and executes on a Spark Connect server; what that
proves is said in docs/databricks.md. A test uses it so:

    from tests.support.warehouse import Warehouse, WarehouseLakehouse, warehouse  # the fixture

    def test_x(warehouse: Warehouse, tmp_path: Path) -> None:
        lakehouse = WarehouseLakehouse(tmp_path, catalog=warehouse.new_catalog())
        lakehouse.land("customers", [...], batch_id=1)      # as with Lakehouse, on DuckDB
        lakehouse.dbt("build")                              # the target is `databricks`
        lakehouse.query("select * from silver.customers")   # list of tuples, timestamps in UTC
        lakehouse.catalog.drop()                            # optional: all that it holds goes

Without a Lakehouse: `catalog.profile()` is the text of a profiles.yml, `catalog.register(schema,
table, folder)` makes a Delta folder a table, `catalog.query(sql)` runs one statement. The fixture
is session-scoped; a catalog is empty when it is made, and nobody else uses it.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import databricks.sql
import pytest

from tests.support.apache_spark import apache_spark
from tests.support.components import UnavailableError, fetch, running
from tests.support.lakehouse import Lakehouse

# The connector logs every packet there, whatever the level asked for.
logging.getLogger("databricks.sql.unsafe").setLevel(logging.WARNING)

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = PROJECT / ".venv-warehouse"
_LOCK = PROJECT / "requirements" / "warehouse.lock"

_PROFILE = """\
realtime_insights:
  target: databricks
  outputs:
    databricks:
      type: databricks
      host: http://127.0.0.1:{port}
      http_path: {http_path}
      token: local
      catalog: {catalog}
      schema: {schema}
      threads: {threads}
      connect_retries: 0
      session_properties:
        timezone: UTC
      connection_parameters:
        _connection_uri: http://127.0.0.1:{port}{http_path}
        enable_telemetry: false
        use_cloud_fetch: false
        _retry_stop_after_attempts_count: 1
"""


def environment() -> Path:
    """Return the warehouse's own Python, made from its lock file where that is new."""
    python = ENVIRONMENT / "bin" / "python"
    wanted = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    marker = ENVIRONMENT / ".installed"
    with (PROJECT / "requirements" / "warehouse.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists() or marker.read_text() != wanted:
            venv.create(ENVIRONMENT, with_pip=True, clear=True)
            pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "install"]
            locked = ("--quiet", "--no-deps", "--require-hashes", "--requirement", _LOCK)
            fetch("the local warehouse's environment", [*pip, *locked], PROJECT)
            marker.write_text(wanted)
    return python


@dataclass
class WarehouseCatalog:
    """A catalog of the warehouse: what one test, or one module of tests, works in."""

    warehouse: "Warehouse"
    name: str

    def profile(self, *, schema: str = "default", threads: int = 2) -> str:
        """The text of a profiles.yml whose only target, `databricks`, is this catalog."""
        return _PROFILE.format(
            port=self.warehouse.port,
            http_path=self.warehouse.http_path,
            catalog=self.name,
            schema=schema,
            threads=threads,
        )

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement with this catalog as the current one; its rows, timestamps in UTC."""
        return self.warehouse.query(statement, catalog=self.name)

    def register(self, schema: str, table: str, folder: Path) -> None:
        """Make a Delta folder readable as a table, as production does."""
        self.query(f"create schema if not exists `{schema}`")
        self.query(f"drop table if exists `{schema}`.`{table}`")
        self.query(f"create table `{schema}`.`{table}` using delta location '{folder}'")

    def drop(self) -> None:
        """Drop the catalog and all in it; external tables keep their files."""
        self.warehouse.query(f"drop catalog if exists `{self.name}` cascade")


@dataclass
class WarehouseLakehouse(Lakehouse):
    """A lakehouse whose dbt runs on the warehouse: bronze is registered as external tables."""

    catalog: WarehouseCatalog = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        (self.path / "profiles.yml").write_text(self.catalog.profile())
        self.variables["DATABRICKS_CATALOG"] = self.catalog.name
        for feed in self.feeds:
            self.catalog.register("bronze", feed, self.path / "bronze" / feed)
        self.catalog.register("bronze", "quarantine", self.path / "quarantine")

    def _names(self) -> dict[str, str]:
        return {**super()._names(), "catalog": self.catalog.name}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the catalog of this lakehouse."""
        return self.catalog.query(sql)


class Warehouse:
    """A running warehouse."""

    def __init__(self, port: int, http_path: str) -> None:
        self.port = port
        self.http_path = http_path
        self._catalogs = 0

    def connect(self, *, catalog: str = "main") -> Any:
        """Open a session, by the connector that dbt-databricks uses."""
        return databricks.sql.connect(
            server_hostname=f"http://127.0.0.1:{self.port}",
            http_path=self.http_path,
            access_token="local",  # noqa: S106 # nobody asks for it
            catalog=catalog,
            _connection_uri=f"http://127.0.0.1:{self.port}{self.http_path}",
            enable_telemetry=False,
            use_cloud_fetch=False,
            _retry_stop_after_attempts_count=1,
        )

    def query(self, statement: str, *, catalog: str = "main") -> list[tuple[Any, ...]]:
        """Run one statement in a session of its own."""
        with self.connect(catalog=catalog) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return [tuple(map(_plain, row)) for row in cursor.fetchall()]

    def new_catalog(self) -> WarehouseCatalog:
        """Make a catalog that nobody else uses."""
        self._catalogs += 1
        made = WarehouseCatalog(self, f"catalog_{os.getpid()}_{self._catalogs}")
        self.query(f"create catalog {made.name}")
        return made

    def report(self) -> dict[str, Any]:
        """What was asked so far: counts, and the statements that were not plainly run."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/report") as answer:
            return dict(json.load(answer))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


@contextmanager
def running_warehouse(*options: str) -> Iterator[Warehouse]:
    """Run a warehouse. Raise UnavailableError where its environment cannot be made."""
    python = environment()
    folder = Path(tempfile.mkdtemp(prefix="warehouse-"))
    log = folder / "server.log"
    command = [str(python), "-m", "warehouse.server", "--folder", str(folder), *options]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            # Not as part of `tests`, whose package needs what only the other environment has.
            cwd=PROJECT / "tests",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdin is not None and process.stdout is not None
    try:
        said = process.stdout.readline()
        if not said:
            raise UnavailableError(f"the warehouse did not start: {log.read_text()[-1000:]}")
        yield Warehouse(**json.loads(said))
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def engine_of_choice(engine: str) -> Iterator[Warehouse]:
    """Run a warehouse on `sail` or `spark`. Raise UnavailableError where that cannot run."""
    if engine == "sail":
        with running_warehouse() as running:
            yield running
    elif engine == "spark":
        with (
            tempfile.TemporaryDirectory(prefix="spark-") as folder,
            apache_spark(Path(folder)) as address,
            running_warehouse("--spark", address) as running,
        ):
            yield running
    else:
        raise ValueError(f"WAREHOUSE_ENGINE is sail or spark, not {engine}")


@pytest.fixture(scope="session")
def warehouse() -> Iterator[Warehouse]:
    """A warehouse for the whole test session, on the engine that WAREHOUSE_ENGINE names."""
    component = engine_of_choice(os.environ.get("WAREHOUSE_ENGINE", "sail"))
    yield from running(component, "the local warehouse")


def main() -> None:
    """Run a warehouse until the terminal says stop, and say how to use it."""
    with engine_of_choice(os.environ.get("WAREHOUSE_ENGINE", "sail")) as running:
        catalog = WarehouseCatalog(running, "main")
        print(f"host:      http://127.0.0.1:{running.port}")
        print(f"http_path: {running.http_path}")
        print("Save this as FOLDER/profiles.yml, then: dbt build --profiles-dir FOLDER\n")
        print(catalog.profile())
        print("Ctrl+C ends it.", flush=True)
        with suppress(KeyboardInterrupt):
            sys.stdin.read()


if __name__ == "__main__":
    main()
