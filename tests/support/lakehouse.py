"""A lakehouse in a temporary folder: bronze is written directly, dbt runs on it in this process."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from dbt.cli.main import dbtRunner, dbtRunnerResult
from deltalake import DeltaTable, write_deltalake

from tests.support.dbt_in_process import ParsedProject

PROJECT = Path(__file__).resolve().parents[2]
FEEDS = (
    "customers",
    "accounts",
    "card_transactions",
    "checking_transactions",
    "loan_applications",
    "purchase_trends",
    "checking_acct",
    "clickstream",
    "vendor_tickets",
    "vendor_travel",
    "vendor_dining",
    "vendor_retail",
)
BRONZE_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("partition", pa.int32()),
        ("position", pa.int64()),
        ("key", pa.string()),
        ("value", pa.string()),
        ("headers", pa.map_(pa.string(), pa.string())),
        ("source_timestamp", pa.timestamp("us", "UTC")),
        ("ingested_at", pa.timestamp("us", "UTC")),
        ("batch_id", pa.int64()),
    ]
)
QUARANTINE_SCHEMA = BRONZE_SCHEMA.append(pa.field("feed", pa.string())).append(
    pa.field("reason", pa.string())
)
LANDED_AT = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def envelope(
    op: str,
    row: Mapping[str, Any] | None,
    lsn: int,
    *,
    before: Mapping[str, Any] | None = None,
    at_ms: int | None = None,
    schemas: bool = False,
) -> str:
    """A Debezium envelope as text; `row` is `after`, or the key of a delete's `before`."""
    at_ms = 1_780_000_000_000 + lsn if at_ms is None else at_ms
    body = {
        "before": row if op == "d" else before,
        "after": None if op == "d" else row,
        "source": {"lsn": lsn, "ts_ms": at_ms, "ts_us": at_ms * 1000},
        "op": op,
        "ts_ms": at_ms + 5,
    }
    return json.dumps({"schema": {"type": "struct"}, "payload": body} if schemas else body)


@dataclass
class Lakehouse:
    """A temporary lakehouse and the dbt project over it.

    `project` is the dbt project's folder; `variables` go to dbt as environment variables.
    """

    path: Path
    project: Path = PROJECT
    feeds: Sequence[str] = FEEDS
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for feed in self.feeds:
            self._create(self.path / "bronze" / feed, BRONZE_SCHEMA)
        self._create(self.path / "quarantine", QUARANTINE_SCHEMA)
        shutil.copy(PROJECT / "profiles.yml.example", self.path / "profiles.yml")
        self._parsed = ParsedProject(self.path / "target", self._names())

    def _names(self) -> dict[str, str]:
        """What stands in the project as dbt parses it, and differs from lakehouse to lakehouse."""
        return {"path": str(self.path), "project": str(self.project)}

    @staticmethod
    def _create(path: Path, schema: pa.Schema) -> None:
        if not DeltaTable.is_deltatable(str(path)):
            path.mkdir(parents=True, exist_ok=True)
            DeltaTable.create(str(path), schema)

    def land(
        self,
        feed: str,
        values: Iterable[str | None],
        *,
        batch_id: int,
        source: str | None = None,
        landed_at: datetime = LANDED_AT,
    ) -> None:
        """Append one batch of values to the bronze table of `feed`, in this order."""
        table = DeltaTable(str(self.path / "bronze" / feed))
        start = table.count()
        rows = [
            {
                "source": source or feed,
                "partition": 0,
                "position": start + number,
                "key": None,
                "value": value,
                "headers": [],
                "source_timestamp": landed_at,
                "ingested_at": landed_at,
                "batch_id": batch_id,
            }
            for number, value in enumerate(values)
        ]
        write_deltalake(table, pa.Table.from_pylist(rows, schema=BRONZE_SCHEMA), mode="append")

    def forget(self, feed: str, *, batch_id: int) -> None:
        """Remove one batch from bronze, as retention does."""
        DeltaTable(str(self.path / "bronze" / feed)).delete(f"batch_id = {batch_id}")

    @contextmanager
    def _environment(self) -> Any:
        settings = {
            "LAKEHOUSE_PATH": str(self.path),
            "DBT_PROFILES_DIR": str(self.path),
            "DBT_TARGET_PATH": str(self.path / "target"),
            "DBT_LOG_PATH": str(self.path / "logs"),
            "DBT_LOG_LEVEL_FILE": "none",
            # A sixth of a run, and few tests read what it writes.
            "DBT_WRITE_JSON": "false",
            **self.variables,
        }
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name)
                else:
                    os.environ[name] = value

    def dbt(self, *arguments: str, check: bool = True) -> dbtRunnerResult:
        """Run one dbt command, in this process; with `check`, a failure raises its messages."""
        settings = (self.project / "dbt_project.yml").read_text()
        variables = dict(pairwise(arguments)).get("--vars")
        self._parsed.provide(type(self), settings, variables)
        with self._environment():
            result = dbtRunner().invoke(
                ["--quiet", *arguments, "--project-dir", str(self.project)],
            )
        self._parsed.keep()
        if check and not result.success:
            nodes = getattr(result.result, "results", None) or []
            messages = [
                f"{n.node.name if hasattr(n, 'node') else n.unique_id}: {n.message}"
                for n in nodes
                if n.status not in ("success", "pass")
            ]
            raise AssertionError("\n".join(messages) or repr(result.exception))
        return result

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the database of this lakehouse."""
        with duckdb.connect(str(self.path / "insights.duckdb")) as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute("load delta")
            return connection.execute(sql).fetchall()
