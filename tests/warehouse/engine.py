"""The engines that execute: Spark Connect servers, each with its own gaps."""

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from .catalog import Catalog, Name, Relation
from .rewriting import for_sail, for_spark


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
    """One session of an engine: its temporary views are its own.

    What is here fits Spark; another engine overrides what it does in another way.
    """

    # Whether conditions that a SELECT takes can fail in a DELETE.
    deletes_only_plainly = False

    def __init__(self, spark: Any, declared: Declared) -> None:
        self._spark = spark
        self._declared = declared
        self.temporary_views: set[str] = set()

    def sql(self, text: str) -> pa.Table:
        """Run a statement of the engine's dialect."""
        rows: pa.Table = self._spark.sql(text).toArrow()
        return rows

    def define(self, text: str) -> None:
        """Run a statement that answers nothing: a definition is run when it is sent."""
        self._spark.sql(text)

    def rewritten(self, text: str) -> str:
        """Return a statement of Databricks SQL in the engine's dialect."""
        return for_spark(text)

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

    def create_table(self, folder: Path, partitions: str, columns: str, query: str) -> None:
        """Make a Delta table in a folder, out of a column list or of a query."""
        name = f"`new`.`{folder.name}`"
        self._declare_schema("new")
        how = f"using delta {partitions} location 'file://{folder}'"
        self.define(f"create table {name} {columns} {how} {query and f'as {query}'}")
        # The catalog knows it now by its name; the files stay.
        self.define(f"drop table {name}")

    def declare(self, catalog: Catalog, name: Name) -> object:
        """Tell the engine about a relation and those it reads; return its fingerprint."""
        relation = catalog.get(name)
        with self._declared.lock:
            self._declare_schema(f"{name.catalog}__{name.schema}")
            reads = tuple(self.declare(catalog, read) for read in relation.reads)
            fingerprint = (relation.version, reads)
            known = self._declared.relations.get(engine_name(name))
            if known != fingerprint:
                self.forget(name)
                self._define(relation)
                self._declared.relations[engine_name(name)] = fingerprint
            return fingerprint

    def forget(self, name: Name) -> None:
        """Take a relation out of the engine; its files stay."""
        with self._declared.lock:
            if self._declared.relations.pop(engine_name(name), None) is not None:
                for kind in ("view", "table"):
                    # One of the two is the wrong kind.
                    with suppress(Exception):
                        self.define(f"drop {kind} if exists {engine_name(name)}")

    def forget_temporary_views(self) -> None:
        """Be as a new session is to whoever uses it."""
        for view in self.temporary_views:
            self.define(f"drop view `{view}`")
        self.temporary_views.clear()

    def _declare_schema(self, schema: str) -> None:
        with self._declared.lock:
            if schema not in self._declared.schemas:
                self.define(f"create schema if not exists `{schema}`")
                self._declared.schemas.add(schema)

    def _define(self, relation: Relation) -> None:
        target = engine_name(relation.name)
        if relation.is_view:
            self.define(f"create view {target} as {self._view_query(relation)}")
        else:
            self.define(f"create table {target} using delta location 'file://{relation.folder}'")

    def _view_query(self, relation: Relation) -> str:
        """The query of a view, with the columns that it had when it was made."""
        listed = ", ".join(f"`{column}`" for column in relation.columns)
        return f"select {listed} from ({relation.engine_query})"


class _SailSession(EngineSession):
    """A session of Sail."""

    deletes_only_plainly = True

    def rewritten(self, text: str) -> str:
        """Say what Sail lacks in what it has."""
        return for_sail(text)

    def create_table(self, folder: Path, partitions: str, columns: str, query: str) -> None:
        """Make the table first: Sail's CREATE ... AS makes columns of literals NOT NULL."""
        if not query:
            super().create_table(folder, partitions, columns, "")
            return
        listed = ", ".join(f"`{name}` {kind}" for name, kind in self.columns(query))
        how = f"using delta {partitions} location 'file://{folder}'"
        name = f"`new`.`{folder.name}`"
        self._declare_schema("new")
        self.define(f"create table {name} ({listed}) {how}")
        self.define(f"insert into {name} {query}")

    def _view_query(self, relation: Relation) -> str:
        """The query of a view, past whose column `_n` Sail pushes no filter.

        It would put the expression of a column in the place of every mention of it, and of those
        in it again: planning a filter on a staging view took 11 s, and takes 0.1 s so.
        """
        listed = ", ".join(f"`{column}`" for column in relation.columns)
        numbered = f"select *, row_number() over (order by 1) as _n from ({relation.engine_query})"
        return f"select {listed} from ({numbered}) where _n > 0"


class Engine:
    """What executes. Its sessions are used again: each would have to be told of every relation."""

    def __init__(self) -> None:
        """Begin without sessions."""
        self._idle: list[EngineSession] = []

    def session(self) -> EngineSession:
        """Open a session, or give one that nobody uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._new_session()

    def release(self, session: EngineSession) -> None:
        """Take back a session."""
        session.forget_temporary_views()
        self._idle.append(session)

    def _new_session(self) -> EngineSession:
        raise NotImplementedError


class Sail(Engine):
    """Sail, inside this process. Its catalog belongs to a session."""

    def __init__(self) -> None:
        super().__init__()
        os.environ.setdefault("RUST_LOG", "error")
        from pysail.spark import SparkConnectServer  # noqa: PLC0415 # only where it is the engine

        self._server = SparkConnectServer()
        self._server.start(background=True)
        _, port = self._server.listening_address
        self._address = f"sc://127.0.0.1:{port}"

    def _new_session(self) -> EngineSession:
        return _SailSession(_connect(self._address), Declared())


class Spark(Engine):
    """Apache Spark with Delta Lake, another process. All sessions share its catalog."""

    def __init__(self, address: str) -> None:
        """Use the Spark Connect server at `address`."""
        super().__init__()
        self._address = address
        self._declared = Declared()

    def _new_session(self) -> EngineSession:
        return EngineSession(_connect(self._address), self._declared)


def _connect(address: str) -> Any:
    from pyspark.sql import SparkSession  # noqa: PLC0415 # slow to import

    spark = SparkSession.builder.remote(address).create()
    spark.client.disable_reattachable_execute()  # nobody loses a connection within a machine
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    return spark
