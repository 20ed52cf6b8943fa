"""The engines that execute: Spark Connect servers, each with its own gaps."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from .catalog import Catalog, Name, Relation


def engine_name(name: Name) -> str:
    """The name of a relation inside the engine, whose only catalog holds those of all."""
    return f"`{name.catalog}__{name.schema}`.`{name.relation}`"


@dataclass
class Declared:
    """What a catalog of the engine knows, by engine name: a fingerprint of the definition."""

    relations: dict[str, object] = field(default_factory=dict)
    schemas: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)


class EngineSession:
    """One session of an engine: its temporary views are its own."""

    def __init__(
        self,
        spark: Any,
        declared: Declared,
        view_query: Callable[[str, Sequence[str]], str] = lambda query, _: query,
    ) -> None:
        """`view_query`: how the engine wants a view's query with its columns written."""
        self._spark = spark
        self._view_query = view_query
        self._declared = declared
        self.temporary_views: set[str] = set()

    def sql(self, text: str) -> pa.Table:
        """Run a statement of the engine's dialect."""
        return self._spark.sql(text).toArrow()

    def columns(self, query: str) -> list[tuple[str, str]]:
        """Return the names and types of a query's columns, without running it."""
        return [(c.name, c.dataType.simpleString()) for c in self._spark.sql(query).schema]

    def show_rows(self, name: str, rows: pa.Table) -> None:
        """Make a temporary view of some rows."""
        if rows.num_rows:
            frame = self._spark.createDataFrame(rows)
        else:
            types = {pa.int32(): "int", pa.string(): "string"}
            nulls = ", ".join(f"cast(null as {types[c.type]}) as {c.name}" for c in rows.schema)
            frame = self._spark.sql(f"select {nulls} where false")
        frame.createOrReplaceTempView(name)

    def declare(self, catalog: Catalog, name: Name) -> object:
        """Tell the engine about a relation and those it reads; return its fingerprint."""
        relation = catalog.get(name)
        with self._declared.lock:
            self.declare_schema(name)
            reads = tuple(self.declare(catalog, read) for read in relation.reads)
            fingerprint = (relation.version, reads)
            known = self._declared.relations.get(engine_name(name))
            if known != fingerprint:
                self._define(relation, known)
                self._declared.relations[engine_name(name)] = fingerprint
            return fingerprint

    def declare_schema(self, name: Name) -> None:
        """Make the schema that holds a relation, in the engine."""
        schema = f"{name.catalog}__{name.schema}"
        with self._declared.lock:
            if schema not in self._declared.schemas:
                self.sql(f"create schema if not exists `{schema}`")
                self._declared.schemas.add(schema)

    def forget(self, name: Name) -> None:
        """Take a relation out of the engine; its files stay."""
        with self._declared.lock:
            if self._declared.relations.pop(engine_name(name), None) is not None:
                for kind in ("view", "table"):
                    try:
                        self.sql(f"drop {kind} if exists {engine_name(name)}")
                    except Exception:  # noqa: BLE001,S110 # one of the two is the wrong kind
                        pass

    def _define(self, relation: Relation, known: object) -> None:
        target = engine_name(relation.name)
        if known is not None:
            self.forget(relation.name)
        if relation.is_view:
            query = self._view_query(relation.engine_query, relation.columns)
            self.sql(f"create or replace view {target} as {query}")
        else:
            self.sql(f"create table {target} using delta location 'file://{relation.folder}'")

    def close(self) -> None:
        """End the session on the engine."""
        self._spark.stop()


class Sail:
    """Sail, inside this process. Its catalog belongs to a session."""

    name = "sail"

    def __init__(self) -> None:
        os.environ.setdefault("RUST_LOG", "error")
        from pysail.spark import SparkConnectServer  # noqa: PLC0415 # only where it is the engine

        self._server = SparkConnectServer()
        self._server.start(background=True)
        self._address = "sc://127.0.0.1:%d" % self._server.listening_address[1]

    def session(self) -> EngineSession:
        """Open a session."""
        from pyspark.sql import SparkSession  # noqa: PLC0415 # slow to import

        spark = SparkSession.builder.remote(self._address).create()
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        return EngineSession(spark, Declared(), _with_barrier)


def _with_barrier(query: str, columns: Sequence[str]) -> str:
    """The query of a view, past whose column `_n` Sail pushes no filter.

    It would put the expression of a column in the place of every mention of it, and of those in
    it again: planning a filter on a staging view took 11 s, and takes 0.1 s so.
    """
    listed = ", ".join(f"`{column}`" for column in columns)
    numbered = f"select *, row_number() over (order by 1) as _n from ({query})"
    return f"select {listed} from ({numbered}) where _n > 0"
