"""A session of the warehouse: what each statement does to the catalog and asks of the engine."""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, Schema
from sqlglot import exp

from . import information_schema
from .catalog import Catalog, Name, NotSupportedError, Relation, WarehouseError
from .engine import Engine, engine_name
from .sql import Reference, Statement, UnparsedError, name_parts, parse, string

_NOTHING = pa.table({})
# Settings that change no result here.
_HARMLESS = {
    "ansi_mode": "true",
    "timezone": "utc",
    "use_cached_result": None,
    "statement_timeout": None,
    "query_tags": None,
    "spark.sql.session.timezone": "utc",
}


def texts(names: Sequence[str], rows: Sequence[Sequence[str | None]]) -> pa.Table:
    """A result of text columns."""
    return pa.table(
        {name: pa.array([row[n] for row in rows], pa.string()) for n, name in enumerate(names)}
    )


@dataclass
class Journal:
    """What the warehouse was asked, for the tests to look at."""

    statements: int = 0
    by_first_word: list[str] = field(default_factory=list)
    unparsed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    governing: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self) -> dict[str, Any]:
        """The counts, and the statements that were not plainly run."""
        with self.lock:
            return {
                "statements": self.statements,
                "by_first_word": self.by_first_word,
                "unparsed": self.unparsed,
                "refused": self.refused,
                "rewritten": self.rewritten,
                "governing": self.governing,
                "slowest": self.slowest,
            }

    def note(self, text: str, seconds: float, statement: Statement | None, error: object) -> None:
        """Count a statement that was run."""
        with self.lock:
            self.statements += 1
            self.slowest = sorted([*self.slowest, (seconds, text)], reverse=True)[:20]
            if isinstance(error, UnparsedError):
                self.unparsed.append(f"{text}\n{error}")
            elif isinstance(error, NotSupportedError):
                self.refused.append(f"{text}\n{error}")
            if statement is not None and statement.is_command:
                self.by_first_word.append(text)


class Session:
    """One session: the current catalog and schema, the settings, the temporary views."""

    def __init__(
        self,
        catalog: Catalog,
        engine: Engine,
        journal: Journal,
        place: tuple[str | None, str | None],
    ) -> None:
        """Start in `place`: a catalog and a schema, each with a default."""
        self._catalog = catalog
        self._pool, self._engine = engine, engine.session()
        self._journal = journal
        self._current = ((place[0] or "main").lower(), (place[1] or "default").lower())
        self._settings: dict[str, str] = {}
        self._pinned: Mapping[str, str] = {}

    def close(self) -> None:
        """End the session."""
        self._pool.release(self._engine)

    def execute(self, text: str) -> pa.Table:
        """Run one statement. Raise WarehouseError, or what the engine raises."""
        started, statement, failure = time.monotonic(), None, None
        try:
            statement = parse(text)
            self._pinned = _pinned(statement.tree)
            handler = next(
                (h for kind, h in self._HANDLERS.items() if isinstance(statement.tree, kind)), None
            )
            if handler is None:
                raise NotSupportedError(f"{type(statement.tree).__name__}: {statement.text[:200]}")
            return handler(self, statement)
        except Exception as error:
            failure = error
            raise
        finally:
            self._journal.note(text, time.monotonic() - started, statement, failure)

    # Names

    def _name(self, parts: tuple[str, ...]) -> Name:
        if len(parts) > 3:
            raise NotSupportedError(f"the name {'.'.join(parts)}")
        full = (*self._current, *parts)[-3:] if len(parts) < 3 else parts
        if len(parts) == 2:
            full = (self._current[0], *parts)
        return Name(*full)

    def _schema_name(self, parts: tuple[str, ...]) -> tuple[str, str]:
        if len(parts) > 2:
            raise NotSupportedError(f"the schema name {'.'.join(parts)}")
        return parts if len(parts) == 2 else (self._current[0], parts[0])

    def _declared_name(self, reference: Reference) -> str | None:
        """Tell the engine about a relation that a statement reads; return its name there."""
        parts = reference.parts
        if len(parts) == 1 and parts[0] in self._engine.temporary_views:
            return None
        if parts[0] == "delta":
            raise NotSupportedError("a table by its path")
        if len(parts) > 1 and parts[-2] == "information_schema":
            return self._information_schema(parts)
        name = self._name(parts)
        self._engine.declare(self._catalog, name)
        return engine_name(name)

    def _information_schema(self, parts: tuple[str, ...]) -> str:
        """Make a view of information_schema a temporary one; return its name."""
        catalog = parts[0] if len(parts) == 3 else self._current[0]
        # The catalog `system` shows all of them.
        catalogs = self._catalog.catalogs() if catalog == "system" else [catalog]
        relations = [r for name in catalogs for r in self._catalog.relations(name)]
        if parts[-1] == "columns":
            # To look up the columns of each takes time: only of those that can be meant.
            pinned = self._pinned
            relations = [
                r
                for r in relations
                if all(
                    pinned.get(f"table_{column}", part) == part
                    for column, part in zip(("catalog", "schema", "name"), r.name, strict=True)
                )
            ]
        rows = information_schema.rows(self._catalog, catalogs, relations, parts[-1], self._columns)
        view = f"__information_schema_{catalog}_{parts[-1]}"
        self._engine.show_rows(view, rows)
        return view

    def _for_engine(self, statement: Statement, start: int = 0, head: str = "") -> str:
        """The statement from `start` on, after `head`, as the engine is to run it."""
        catalog, schema = (f"'{name}'" for name in self._current)
        functions = {
            "current_catalog": catalog,
            "current_schema": schema,
            "current_database": schema,
        }
        text = head + statement.with_names(self._declared_name, functions, start)
        rewritten = self._engine.rewritten(text)
        if rewritten != text:
            with self._journal.lock:
                self._journal.rewritten.append(rewritten)
        return rewritten

    # Queries and changes of rows

    def _query(self, statement: Statement) -> pa.Table:
        return self._engine.sql(self._for_engine(statement, head=statement.head))

    def _insert(self, statement: Statement) -> pa.Table:
        tree = statement.tree
        if tree.args.get("partition") or tree.args.get("where") or tree.args.get("by_name"):
            raise NotSupportedError("INSERT with PARTITION, REPLACE WHERE or BY NAME")
        target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        name = self._writable(target).name
        columns = self._engine.columns(f"select * from {self._engine_table(name)}")
        given = [column.lower() for column, _ in columns]
        start = statement.references()[0].end
        if isinstance(tree.this, exp.Schema):
            given = [column.name.lower() for column in tree.this.expressions]
            if unknown := set(given) - {column.lower() for column, _ in columns}:
                raise WarehouseError(f"[UNRESOLVED_COLUMN] {sorted(unknown)} in INSERT INTO {name}")
            last = max(i.meta["end"] for i in tree.this.expressions)
            start = next(w.end for w in statement.words if w.start > last) + 1
        query = self._for_engine(statement, start)
        # Columns that are not listed are NULL: Sail wants all of them, each with a name.
        values = ", ".join(
            f"`{column}`" if column.lower() in given else f"cast(null as {kind}) as `{column}`"
            for column, kind in columns
        )
        listed = ", ".join(f"`{column}`" for column in given)
        return self._engine.sql(
            f"insert {'overwrite' if tree.args.get('overwrite') else 'into'}"
            f" {engine_name(name)} select {values} from ({query}) as _given({listed})"
        )

    def _engine_table(self, name: Name) -> str:
        self._engine.declare(self._catalog, name)
        return engine_name(name)

    def _writable(self, target: exp.Expr) -> Relation:
        relation = self._catalog.get(self._name(name_parts(target)))
        if relation.is_view:
            raise WarehouseError(f"[EXPECT_TABLE_NOT_VIEW] {relation.name} is a view.")
        return relation

    def _merge(self, statement: Statement) -> pa.Table:
        self._writable(statement.tree.this)
        return self._engine.sql(self._for_engine(statement))

    def _delete(self, statement: Statement) -> pa.Table:
        tree = statement.tree
        self._writable(tree.this)
        where = tree.args.get("where")
        if where is None or not (self._engine.deletes_only_plainly or where.find(exp.Query)):
            return self._engine.sql(self._for_engine(statement))
        # Not every condition is known to DELETE: merge the rows that a SELECT finds.
        name = self._name(name_parts(tree.this))
        columns = self._engine.columns(f"select * from {self._engine_table(name)}")
        same = " and ".join(f"_t.`{c}` <=> _s.`{c}`" for c, _ in columns)
        first = min(r.start for r in statement.references())
        found = self._for_engine(statement, first, "select * from ")
        return self._engine.sql(
            f"merge into {engine_name(name)} as _t using (select distinct * from ({found})) as _s"
            f" on {same} when matched then delete"
        )

    def _truncate(self, statement: Statement) -> pa.Table:
        (table,) = statement.tree.expressions
        self._writable(table)
        name = self._name(name_parts(table))
        return self._engine.sql(f"delete from {self._engine_table(name)} where true")

    # Definitions

    def _create(self, statement: Statement) -> pa.Table:
        kind = statement.tree.args["kind"]
        if kind == "SCHEMA":
            self._catalog.create_schema(
                *self._schema_name(name_parts(statement.tree.this)),
                if_not_exists=bool(statement.tree.args.get("exists")),
            )
            return _NOTHING
        if kind == "TABLE" and not statement.tree.args.get("clone"):
            return self._create_table(statement)
        if kind == "VIEW":
            return self._create_view(statement)
        if kind == "FUNCTION":
            name = self._name(name_parts(statement.tree.this.this))
            self._catalog.check_schema(name.catalog, name.schema)
            with self._catalog.change_functions() as functions:
                functions.add(name)
            return self._govern(statement)
        raise NotSupportedError(f"CREATE {kind} or CLONE")

    # Governance: remembered, without effect

    def _govern(self, statement: Statement) -> pa.Table:
        with self._journal.lock:
            self._journal.governing.append(statement.text)
        return _NOTHING

    def _grant(self, statement: Statement) -> pa.Table:
        tree = statement.tree
        kind = (tree.args.get("kind") or "TABLE").upper()
        if kind == "SCHEMA":
            self._catalog.check_schema(*self._schema_name(name_parts(tree.args["securable"])))
            return self._govern(statement)
        if kind not in {"TABLE", "VIEW"}:
            raise NotSupportedError(f"grants on {kind}")
        with self._catalog.change(self._name(name_parts(tree.args["securable"]))) as relation:
            for privilege in tree.args["privileges"]:
                for principal in tree.args["principals"]:
                    grant = (principal.this.name, privilege.this.name.upper())
                    if isinstance(tree, exp.Grant):
                        relation.grants.add(grant)
                    else:
                        relation.grants.discard(grant)
        return self._govern(statement)

    def _show_grants(self, words: Sequence[str]) -> pa.Table:
        kind, *rest = words[1:] if words and words[0].upper() == "ON" else words
        parts = _dotted(rest if kind.upper() in {"TABLE", "VIEW"} else [kind, *rest])[0]
        relation = self._catalog.get(self._name(parts))
        rows = [[*grant, "TABLE", str(relation.name)] for grant in sorted(relation.grants)]
        return texts(["Principal", "ActionType", "ObjectType", "ObjectKey"], rows)

    def _alter_words(self, statement: Statement) -> pa.Table:
        """ALTER of which sqlglot knows the first word only: tags and masks of a column."""
        words = [word.text for word in statement.words][1:]
        kind, (parts, rest) = words[0].upper(), _dotted(words[1:])
        clause = [word.upper() for word in rest]
        if kind == "SCHEMA" and clause == ["ENABLE", "PREDICTIVE", "OPTIMIZATION"]:
            self._catalog.check_schema(*self._schema_name(parts))
            return self._govern(statement)
        if kind != "TABLE" or clause[:2] != ["ALTER", "COLUMN"]:
            raise NotSupportedError(statement.text[:200])
        relation = self._writable(exp.table_(*reversed(self._name(parts))))
        if rest[2].lower() not in {name.lower() for name, _, _ in self._columns(relation)}:
            raise WarehouseError(f"[UNRESOLVED_COLUMN] {rest[2]} in {relation.name}")
        if clause[3:5] == ["SET", "MASK"]:
            function = self._name(_dotted(rest[5:])[0])
            with self._catalog.change_functions() as functions:
                if function not in functions:
                    raise WarehouseError(f"[ROUTINE_NOT_FOUND] {function} cannot be found.")
        elif clause[3:5] != ["SET", "TAGS"]:
            raise NotSupportedError(statement.text[:200])
        return self._govern(statement)

    def _definition(self, statement: Statement, allowed: Sequence[type[exp.Expr]]) -> Relation:
        """The new relation with all that its properties and column list say."""
        tree = statement.tree
        named = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        relation = Relation(self._name(name_parts(named)), self._catalog.next_version())
        properties = tree.args.get("properties")
        for item in properties.expressions if properties else []:
            if not isinstance(item, (*allowed, exp.SchemaCommentProperty, exp.Property)):
                raise NotSupportedError(f"{type(item).__name__} in CREATE")
            if isinstance(item, exp.SchemaCommentProperty):
                relation.comment = string(item.this)
            elif isinstance(item, exp.FileFormatProperty):
                if string(item.this).lower() != "delta":
                    raise NotSupportedError(f"USING {string(item.this)}: tables are Delta tables")
            elif isinstance(item, exp.LocationProperty):
                relation.external = True
                relation.folder = Path(string(item.this).removeprefix("file://")).resolve()
            elif isinstance(item, exp.ClusterProperty):
                relation.cluster_by = [string(c) for c in item.expressions]
            elif type(item) is exp.Property:
                relation.properties[string(item.this)] = string(item.args["value"])
        if isinstance(tree.this, exp.Schema):
            relation.column_comments = self._column_comments(tree.this.expressions)
        return relation

    @staticmethod
    def _column_comments(columns: Sequence[exp.Expr]) -> dict[str, str]:
        """The comments of a column list; refuse what else it says, but for NOT NULL."""
        comments = {}
        for column in columns:
            for constraint in column.args.get("constraints") or []:
                if isinstance(constraint.kind, exp.CommentColumnConstraint):
                    comments[column.name.lower()] = string(constraint.kind.this)
                elif not isinstance(constraint.kind, exp.NotNullColumnConstraint):
                    raise NotSupportedError(f"{type(constraint.kind).__name__}")
        return comments

    def _is_there(self, tree: exp.Expr, name: Name, *, is_view: bool) -> bool:
        """Whether IF NOT EXISTS has nothing to do. Raise where CREATE must not replace."""
        self._catalog.check_schema(name.catalog, name.schema)
        standing = self._catalog.find(name)
        if standing is None:
            return False
        if tree.args.get("exists"):
            return True
        if not tree.args.get("replace"):
            raise WarehouseError(f"[TABLE_OR_VIEW_ALREADY_EXISTS] {name} already exists.")
        if standing.is_view != is_view:
            expected = "VIEW_NOT_TABLE" if is_view else "TABLE_NOT_VIEW"
            raise WarehouseError(f"[EXPECT_{expected}] {name} is a {standing.kind}.")
        return False

    def _create_table(self, statement: Statement) -> pa.Table:
        tree = statement.tree
        relation = self._definition(
            statement,
            (
                exp.FileFormatProperty,
                exp.LocationProperty,
                exp.ClusterProperty,
                exp.PartitionedByProperty,
            ),
        )
        name = relation.name
        if self._is_there(tree, name, is_view=False):
            return _NOTHING
        if relation.folder is not None:
            if isinstance(tree.this, exp.Schema) or tree.expression is not None:
                raise NotSupportedError("LOCATION for a table that is not there yet")
            if not DeltaTable.is_deltatable(str(relation.folder)):
                raise WarehouseError(f"[DELTA_TABLE_NOT_FOUND] {relation.folder}")
            self._catalog.put(relation)
            return _NOTHING
        relation.folder = self._catalog.new_folder(name)
        partitions = next(
            (p.sql(dialect="databricks") for p in tree.find_all(exp.PartitionedByProperty)), ""
        )
        columns = query = ""
        if tree.expression is not None:
            query = self._for_engine(statement, statement.query_start())
        elif isinstance(tree.this, exp.Schema):
            listed = ", ".join(
                f"`{c.name}` {c.args['kind'].sql(dialect='databricks')}"
                + (" not null" if c.find(exp.NotNullColumnConstraint) else "")
                for c in tree.this.expressions
            )
            columns = f"({listed})"
        else:
            raise NotSupportedError("CREATE TABLE without columns")
        # A table that is replaced gets a folder of its own: who reads the old one still can.
        self._engine.create_table(relation.folder, partitions, columns, query)
        self._catalog.put(relation)
        return _NOTHING

    def _create_view(self, statement: Statement) -> pa.Table:
        tree = statement.tree
        properties = tree.args.get("properties")
        if properties and properties.find(exp.TemporaryProperty):
            (name,) = name_parts(tree.this)
            query = self._for_engine(statement, statement.query_start())
            replace = "or replace " if tree.args.get("replace") else ""
            result = self._engine.sql(f"create {replace}temporary view `{name}` as {query}")
            self._engine.temporary_views.add(name)
            return result
        relation = self._definition(statement, ())
        if self._is_there(tree, relation.name, is_view=True):
            return _NOTHING
        start = statement.query_start()
        relation.query = statement.text[start:]
        read = statement.references(start)
        if any(len(r.parts) == 1 and r.parts[0] in self._engine.temporary_views for r in read):
            raise WarehouseError("[INVALID_TEMP_OBJ_REFERENCE] a view reads a temporary view.")
        relation.reads = tuple(self._name(r.parts) for r in read)
        relation.engine_query = self._for_engine(statement, start)
        if isinstance(tree.this, exp.Schema):
            columns = ", ".join(f"`{column.name}`" for column in tree.this.expressions)
            relation.engine_query = f"select * from ({relation.engine_query}) as v({columns})"
        relation.columns = [name for name, _ in self._engine.columns(relation.engine_query)]
        self._catalog.put(relation)
        return _NOTHING

    def _drop(self, statement: Statement) -> pa.Table:
        tree = statement.tree
        (table,) = tree.args["tables"]
        if tree.args["kind"] == "SCHEMA":
            held = self._catalog.drop_schema(
                *self._schema_name(name_parts(table)), cascade=bool(tree.args.get("cascade"))
            )
            for one in held:
                self._remove_files(one)
            return _NOTHING
        if tree.args["kind"] not in {"TABLE", "VIEW"}:
            raise NotSupportedError(f"DROP {tree.args['kind']}")
        parts = name_parts(table)
        if len(parts) == 1 and parts[0] in self._engine.temporary_views:
            self._engine.temporary_views.discard(parts[0])
            return self._engine.sql(f"drop view `{parts[0]}`")
        name = self._name(parts)
        relation = self._catalog.find(name)
        if relation is None:
            if tree.args.get("exists"):
                return _NOTHING
            self._catalog.get(name)
        elif relation.is_view != (tree.args["kind"] == "VIEW"):
            raise WarehouseError(f"[WRONG_COMMAND_FOR_OBJECT_TYPE] {name} is a {relation.kind}.")
        else:
            self._catalog.remove(name)
            self._engine.forget(name)
            self._remove_files(relation)
        return _NOTHING

    @staticmethod
    def _remove_files(relation: Relation) -> None:
        if relation.folder is not None and not relation.external:
            shutil.rmtree(relation.folder, ignore_errors=True)

    def _alter(self, statement: Statement) -> pa.Table:
        tree = statement.tree
        name = self._name(name_parts(tree.this))
        for action in tree.args["actions"]:
            if self._governs(name, action):
                self._govern(statement)
            else:
                self._alter_one(name, action)
        return _NOTHING

    def _governs(self, name: Name, action: exp.Expr) -> bool:
        """Whether an action is remembered only; raise where what it names is not there."""
        if isinstance(action, exp.AlterColumn) and action.args.get("allow_null") is False:
            named = [action.this]
        elif isinstance(action, exp.AddConstraint):
            key = action.expressions[0].expressions[0]
            if not isinstance(key, exp.PrimaryKey | exp.ForeignKey):
                return False
            named = key.expressions
            for table in key.find_all(exp.Table):
                self._catalog.get(self._name(name_parts(table)))
        elif isinstance(action, exp.Drop) and action.args["kind"] == "CONSTRAINT":
            named = []
        else:
            return isinstance(action, exp.AlterSet) and bool(action.args.get("tag"))
        known = {column.lower() for column, _, _ in self._columns(self._catalog.get(name))}
        if unknown := {column.name.lower() for column in named} - known:
            raise WarehouseError(f"[UNRESOLVED_COLUMN] {sorted(unknown)} in {name}")
        return True

    def _alter_one(self, name: Name, action: exp.Expr) -> None:
        if isinstance(action, exp.Schema | exp.ColumnDef):
            columns = action.expressions if isinstance(action, exp.Schema) else [action]
            self._add_columns(name, columns)
        elif isinstance(action, exp.AlterRename):
            self._rename(name, self._name(name_parts(action.this)))
        elif isinstance(action, exp.AlterColumn) and action.args.get("comment"):
            with self._catalog.change(name) as relation:
                relation.column_comments[action.name.lower()] = string(action.args["comment"])
        elif isinstance(action, exp.AlterSet) and action.expressions:
            with self._catalog.change(name) as relation:
                for item in action.find_all(exp.Property):
                    relation.properties[string(item.this)] = string(item.args["value"])
        elif isinstance(action, exp.ClusterProperty):
            with self._catalog.change(name) as relation:
                relation.cluster_by = [string(c) for c in action.expressions]
        else:
            raise NotSupportedError(f"ALTER: {action.sql(dialect='databricks')}")

    def _add_columns(self, name: Name, columns: Sequence[exp.Expr]) -> None:
        relation = self._writable(exp.table_(*reversed(name)))
        nulls = ", ".join(
            f"cast(null as {c.args['kind'].sql(dialect='databricks')}) as `{c.name}`"
            for c in columns
        )
        fields = Schema.from_arrow(self._engine.sql(f"select {nulls} where false").schema).fields
        DeltaTable(str(relation.folder)).alter.add_columns(fields)
        with self._catalog.change(name) as changed:
            changed.version = self._catalog.next_version()
            changed.column_comments |= self._column_comments(columns)

    def _rename(self, name: Name, target: Name) -> None:
        self._catalog.check_schema(target.catalog, target.schema)
        if self._catalog.find(target) is not None:
            raise WarehouseError(f"[TABLE_OR_VIEW_ALREADY_EXISTS] {target} already exists.")
        relation = self._catalog.get(name)
        self._catalog.remove(name)
        self._engine.forget(name)
        relation.name, relation.version = target, self._catalog.next_version()
        self._catalog.put(relation)

    def _comment(self, statement: Statement) -> pa.Table:
        tree = statement.tree
        kind, text = tree.args["kind"].upper(), string(tree.args["expression"])
        parts = name_parts(tree.this)
        if kind == "SCHEMA":
            self._catalog.set_schema_comment(*self._schema_name(parts), text)
        elif kind == "COLUMN":
            with self._catalog.change(self._name(parts[:-1])) as relation:
                relation.column_comments[parts[-1]] = text
        elif kind in {"TABLE", "VIEW"}:
            with self._catalog.change(self._name(parts)) as relation:
                relation.comment = text
        else:
            raise NotSupportedError(f"COMMENT ON {kind}")
        return _NOTHING

    # The session itself

    def _use(self, statement: Statement) -> pa.Table:
        parts = name_parts(statement.tree.this)
        if string(statement.tree.args.get("kind")).upper() == "CATALOG":
            self._catalog.check_catalog(parts[0])
            self._current = (parts[0], "default")
        else:
            schema = self._schema_name(parts)
            self._catalog.check_schema(*schema)
            self._current = schema
        return _NOTHING

    def _set(self, statement: Statement) -> pa.Table:
        for item in statement.tree.expressions:
            key = item.this.this.sql(dialect="databricks").lower()
            self.set(key, string(item.this.expression))
        return _NOTHING

    def set(self, key: str, value: str) -> None:
        """Change a setting; refuse one that would change what statements mean."""
        of_the_wire = key.startswith("spark.thriftserver.")
        wanted = None if of_the_wire else _HARMLESS.get(key.lower(), "")
        if wanted is not None and value.lower() != wanted:
            raise NotSupportedError(f"the setting {key} = {value}")
        self._settings[key] = value

    # Descriptions

    def _columns(self, relation: Relation) -> list[tuple[str, str, str | None]]:
        """Name, type and comment of each column."""
        found = self._engine.columns(f"select * from {self._engine_table(relation.name)}")
        return [(c, kind, relation.column_comments.get(c.lower())) for c, kind in found]

    def _describe(self, statement: Statement) -> pa.Table:
        tree = statement.tree
        style = (tree.args.get("style") or "").upper()
        parts = name_parts(tree.this)
        if (tree.args.get("kind") or "").upper() in {"SCHEMA", "DATABASE"}:
            catalog, schema = self._schema_name(parts)
            self._catalog.check_schema(catalog, schema)
            items = [
                ("Catalog Name", catalog),
                ("Namespace Name", schema),
                ("Comment", self._catalog.schema_comment(catalog, schema) or ""),
            ]
            return texts(["database_description_item", "database_description_value"], items)
        if len(parts) == 1 and parts[0] in self._engine.temporary_views:
            columns = [(*c, None) for c in self._engine.columns(f"select * from `{parts[0]}`")]
            if tree.args.get("as_json"):
                described = self._as_json(Relation(Name("", "", parts[0]), 0), columns)
                return texts(["json_metadata"], [[json.dumps(described)]])
            return texts(["col_name", "data_type", "comment"], columns)
        relation = self._catalog.get(self._name(parts))
        if style == "HISTORY":
            return self._history(relation)
        if tree.args.get("as_json"):
            described = self._as_json(relation, self._columns(relation))
            return texts(["json_metadata"], [[json.dumps(described)]])
        rows: list[tuple[str, str, str | None]] = list(self._columns(relation))
        if style == "EXTENDED":
            rows += self._details(relation)
        elif style:
            raise NotSupportedError(f"DESCRIBE {style}")
        return texts(["col_name", "data_type", "comment"], rows)

    def _details(self, relation: Relation) -> list[tuple[str, str, str | None]]:
        found = {
            "Catalog": relation.name.catalog,
            "Database": relation.name.schema,
            "Table": relation.name.relation,
            "Owner": "local",
            "Type": relation.kind,
            "Comment": relation.comment,
        }
        if relation.is_view:
            found["View Text"] = relation.query
        else:
            found["Provider"] = "delta"
            found["Location"] = f"file:{relation.folder}"
        properties = ",".join(f"{k}={v}" for k, v in sorted(relation.properties.items()))
        found["Table Properties"] = f"[{properties}]"
        head = [("", "", ""), ("# Detailed Table Information", "", "")]
        return [*head, *((key, value, "") for key, value in found.items() if value is not None)]

    @staticmethod
    def _as_json(
        relation: Relation, columns: Sequence[tuple[str, str, str | None]]
    ) -> Mapping[str, Any]:
        found: dict[str, Any] = {
            "table_name": relation.name.relation,
            "catalog_name": relation.name.catalog,
            "schema_name": relation.name.schema,
            "namespace": [relation.name.schema],
            "columns": [
                {"name": name, "type": {"name": kind}, "comment": comment, "nullable": True}
                for name, kind, comment in columns
            ],
            "comment": relation.comment,
            "owner": "local",
            "provider": "delta",
            "type": relation.kind,
            "table_properties": relation.properties,
        }
        if relation.is_view:
            found["view_text"] = relation.query
        return found

    @staticmethod
    def _history(relation: Relation) -> pa.Table:
        if relation.folder is None:
            raise WarehouseError(f"[EXPECT_TABLE_NOT_VIEW] {relation.name} is a view.")
        names = ["version", "timestamp", "operation", "operationMetrics"]
        entries = DeltaTable(str(relation.folder)).history()
        rows = [
            [
                str(e.get("version")),
                str(e.get("timestamp")),
                e.get("operation"),
                json.dumps(e.get("operationMetrics"), default=str),
            ]
            for e in entries
        ]
        return texts(names, rows)

    # Statements that sqlglot knows only by their first word

    def _command(self, statement: Statement) -> pa.Table:
        words = [word.text for word in statement.words]
        if words[0].upper() == "ALTER":
            return self._alter_words(statement)
        for head, handler in self._COMMANDS.items():
            if [w.upper() for w in words[: len(head)]] == list(head):
                return handler(self, words[len(head) :])
        raise NotSupportedError(statement.text[:200])

    def _schema_words(self, words: Sequence[str]) -> tuple[tuple[str, str], list[str]]:
        """The schema after IN or FROM, and the words that follow."""
        if words and words[0].upper() in {"IN", "FROM"}:
            parts, rest = _dotted(words[1:])
            return self._schema_name(parts), rest
        return self._current, list(words)

    def _show_schemas(self, words: Sequence[str]) -> pa.Table:
        catalog, rest = self._current[0], list(words)
        if rest and rest[0].upper() in {"IN", "FROM"}:
            (catalog,), rest = _dotted(rest[1:])
        matches = _pattern(rest)
        found = [[s] for _, s in self._catalog.schemas(catalog) if matches(s)]
        return texts(["databaseName"], found)

    def _show_catalogs(self, words: Sequence[str]) -> pa.Table:
        matches = _pattern(words)
        return texts(["catalog"], [[c] for c in self._catalog.catalogs() if matches(c)])

    def _show_tables(self, words: Sequence[str]) -> pa.Table:
        schema, rest = self._schema_words(words)
        found = self._catalog.relations(*schema, _pattern(rest))
        rows = [[r.name.schema, r.name.relation, "false"] for r in found]
        return texts(["database", "tableName", "isTemporary"], rows)

    def _show_views(self, words: Sequence[str]) -> pa.Table:
        schema, rest = self._schema_words(words)
        found = [r for r in self._catalog.relations(*schema, _pattern(rest)) if r.is_view]
        rows = [[r.name.schema, r.name.relation, "false", "false"] for r in found]
        return texts(["namespace", "viewName", "isTemporary", "isMaterialized"], rows)

    def _show_table_extended(self, words: Sequence[str]) -> pa.Table:
        schema, rest = self._schema_words(words)
        rows = []
        for relation in self._catalog.relations(*schema, _pattern(rest)):
            lines = [f"{key}: {value}" for key, value, _ in self._details(relation)[2:]]
            columns = [
                f" |-- {c}: {kind} (nullable = true)" for c, kind, _ in self._columns(relation)
            ]
            text = "\n".join([*lines, "Schema: root", *columns, ""])
            rows.append([relation.name.schema, relation.name.relation, "false", text])
        return texts(["database", "tableName", "isTemporary", "information"], rows)

    def _show_properties(self, words: Sequence[str]) -> pa.Table:
        relation = self._catalog.get(self._name(_dotted(words)[0]))
        found = dict(relation.properties)
        if relation.cluster_by:
            found["clusteringColumns"] = json.dumps(
                [[c] for c in relation.cluster_by], separators=(",", ":")
            )
        return texts(["key", "value"], [[k, v] for k, v in found.items()])

    def _show_columns(self, words: Sequence[str]) -> pa.Table:
        relation = self._catalog.get(self._name(_dotted(words[1:])[0]))
        return texts(["col_name"], [[name] for name, _, _ in self._columns(relation)])

    def _optimize(self, words: Sequence[str]) -> pa.Table:
        parts, rest = _dotted(words)
        if rest:
            raise NotSupportedError(f"OPTIMIZE with {' '.join(rest)}")
        relation = self._catalog.get(self._name(parts))
        DeltaTable(str(relation.folder)).optimize.compact()
        return _NOTHING

    def _vacuum(self, words: Sequence[str]) -> pa.Table:
        relation = self._catalog.get(self._name(_dotted(words)[0]))
        DeltaTable(str(relation.folder)).vacuum(dry_run=False)
        return _NOTHING

    def _create_catalog(self, words: Sequence[str]) -> pa.Table:
        self._catalog.create_catalog(words[-1].lower())
        return _NOTHING

    def _drop_catalog(self, words: Sequence[str]) -> pa.Table:
        rest = [w for w in words if w.upper() not in {"IF", "EXISTS", "CASCADE"}]
        self._catalog.drop_catalog(rest[0].lower())
        return _NOTHING

    def _analyze(self, statement: Statement) -> pa.Table:
        for table in statement.tree.args["tables"]:
            self._catalog.get(self._name(name_parts(table)))
        return _NOTHING

    # Metadata requests of the wire

    def schemas(self) -> pa.Table:
        """Answer the request for schemas."""
        rows = [[schema, catalog] for catalog, schema in self._catalog.schemas()]
        return texts(["TABLE_SCHEM", "TABLE_CATALOG"], rows)

    def tables(self, catalog: str | None, schema: str | None) -> pa.Table:
        """Answer the request for tables."""
        found = self._catalog.relations(
            (catalog or self._current[0]).lower(), schema.lower() if schema else None
        )
        names = ["TABLE_CAT", "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE", "REMARKS"]
        rows = [[*r.name, "VIEW" if r.is_view else "TABLE", r.comment] for r in found]
        return texts(names, rows)

    _HANDLERS: Mapping[type[exp.Expr], Callable[..., pa.Table]] = {
        exp.Command: _command,
        exp.Query: _query,
        exp.Values: _query,
        exp.Insert: _insert,
        exp.Merge: _merge,
        exp.Delete: _delete,
        exp.Update: _merge,
        exp.TruncateTable: _truncate,
        exp.Create: _create,
        exp.Drop: _drop,
        exp.Alter: _alter,
        exp.Comment: _comment,
        exp.Use: _use,
        exp.Set: _set,
        exp.Describe: _describe,
        exp.Analyze: _analyze,
        exp.Grant: _grant,
        exp.Revoke: _grant,
    }
    _COMMANDS: Mapping[tuple[str, ...], Callable[..., pa.Table]] = {
        ("SHOW", "TABLE", "EXTENDED"): _show_table_extended,
        ("SHOW", "SCHEMAS"): _show_schemas,
        ("SHOW", "DATABASES"): _show_schemas,
        ("SHOW", "CATALOGS"): _show_catalogs,
        ("SHOW", "TABLES"): _show_tables,
        ("SHOW", "VIEWS"): _show_views,
        ("SHOW", "TBLPROPERTIES"): _show_properties,
        ("SHOW", "COLUMNS"): _show_columns,
        ("SHOW", "GRANTS"): _show_grants,
        ("OPTIMIZE",): _optimize,
        ("VACUUM",): _vacuum,
        ("CREATE", "CATALOG"): _create_catalog,
        ("DROP", "CATALOG"): _drop_catalog,
    }


def _pinned(tree: exp.Expr) -> dict[str, str]:
    """The columns that the WHERE of a plain SELECT fixes, each with its value."""
    where = tree.args.get("where") if isinstance(tree, exp.Select) else None
    found: dict[str, str] = {}
    if where is not None and len(list(tree.find_all(exp.Table))) == 1:
        for condition in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
            if isinstance(condition, exp.EQ) and isinstance(condition.expression, exp.Literal):
                found[condition.this.name.lower()] = condition.expression.name
    return found


def _dotted(words: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The name that the words start with, and the words after it."""
    parts, rest = [words[0].lower()], list(words[1:])
    while len(rest) > 1 and rest[0] == ".":
        parts.append(rest[1].lower())
        rest = rest[2:]
    return tuple(parts), rest


def _pattern(words: Sequence[str]) -> Callable[[str], object]:
    """What LIKE 'a*|b' chooses; without it, all."""
    if not words:
        return lambda name: True
    text = words[-1].replace("%", "*")
    choices = "|".join(re.escape(one).replace(r"\*", ".*") for one in text.split("|"))
    return re.compile(choices, re.IGNORECASE).fullmatch
