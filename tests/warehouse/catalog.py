"""What Unity Catalog would remember: catalogs, schemas, relations, their comments and properties.

In memory: a warehouse and all that it holds live as long as its process.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class WarehouseError(Exception):
    """A statement that fails, in the words and with the error class that Databricks uses."""


class NotSupportedError(WarehouseError):
    """A statement that may be right on Databricks and that this warehouse cannot run."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not supported by the local warehouse: {what}")


class Name(NamedTuple):
    """The full name of a relation, in lower case, as Unity Catalog keeps it."""

    catalog: str
    schema: str
    relation: str

    def __str__(self) -> str:
        return ".".join(f"`{part}`" for part in self)


@dataclass
class Relation:
    """A table or a view.

    `folder`: of a table, its Delta folder. `external`: not removed when the table is dropped.
    `query`: of a view, its text as it was given; `engine_query`: with the names of the engine;
    `columns`: its columns; `reads`: the relations that it names.
    `version` changes with every definition.
    """

    name: Name
    version: int
    folder: Path | None = None
    external: bool = False
    query: str = ""
    engine_query: str = ""
    columns: Sequence[str] = ()
    reads: Sequence[Name] = ()
    comment: str | None = None
    column_comments: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    cluster_by: Sequence[str] = ()
    grants: set[tuple[str, str]] = field(default_factory=set)

    @property
    def is_view(self) -> bool:
        """Whether it is a view."""
        return self.folder is None

    @property
    def kind(self) -> str:
        """The type that Databricks shows."""
        return "VIEW" if self.is_view else "EXTERNAL" if self.external else "MANAGED"


class Catalog:
    """All relations of the warehouse. Every method is safe to call from several threads."""

    def __init__(self, folder: Path) -> None:
        """Keep managed tables under `folder`."""
        self._folder = folder
        self._lock = threading.RLock()
        self._version = 0
        self._schemas: dict[tuple[str, str], str | None] = {}
        self._catalogs: set[str] = set()
        self._relations: dict[Name, Relation] = {}
        self._functions: set[Name] = set()

    def next_version(self) -> int:
        """Return a number that was never returned before."""
        with self._lock:
            self._version += 1
            return self._version

    def new_folder(self, name: Name) -> Path:
        """Return a folder for the data of a table, which does not exist yet."""
        folder = f"{name.relation}_{self.next_version()}"
        return self._folder / name.catalog / name.schema / folder

    # Catalogs and schemas

    def create_catalog(self, catalog: str) -> None:
        """Make a catalog with its schema `default`; one that is there stays."""
        with self._lock:
            self._catalogs.add(catalog)
            self._schemas.setdefault((catalog, "default"), None)

    def drop_catalog(self, catalog: str) -> None:
        """Forget a catalog and all in it."""
        with self._lock:
            self._catalogs.discard(catalog)
            for key in [key for key in self._schemas if key[0] == catalog]:
                self.drop_schema(*key, cascade=True)

    def catalogs(self) -> list[str]:
        """All catalogs."""
        with self._lock:
            return sorted(self._catalogs)

    def create_schema(self, catalog: str, schema: str, *, if_not_exists: bool) -> None:
        """Make a schema."""
        with self._lock:
            self.check_catalog(catalog)
            if (catalog, schema) in self._schemas and not if_not_exists:
                raise WarehouseError(f"[SCHEMA_ALREADY_EXISTS] Cannot create schema `{schema}`.")
            self._schemas.setdefault((catalog, schema), None)

    def drop_schema(self, catalog: str, schema: str, *, cascade: bool) -> list[Relation]:
        """Forget a schema; with `cascade`, all in it. Return the relations it held."""
        with self._lock:
            held = self.relations(catalog, schema)
            if held and not cascade:
                raise WarehouseError(f"[SCHEMA_NOT_EMPTY] Cannot drop a schema `{schema}`.")
            self._schemas.pop((catalog, schema), None)
            for relation in held:
                del self._relations[relation.name]
            return held

    def schemas(self, catalog: str | None = None) -> list[tuple[str, str]]:
        """All schemas, with their catalogs."""
        with self._lock:
            return sorted(key for key in self._schemas if catalog in {None, key[0]})

    def set_schema_comment(self, catalog: str, schema: str, comment: str) -> None:
        """Comment on a schema."""
        with self._lock:
            self.check_schema(catalog, schema)
            self._schemas[catalog, schema] = comment

    def schema_comment(self, catalog: str, schema: str) -> str | None:
        """Return the comment on a schema."""
        with self._lock:
            return self._schemas.get((catalog, schema))

    def check_catalog(self, catalog: str) -> None:
        """Raise WarehouseError unless the catalog is there."""
        with self._lock:
            if catalog not in self._catalogs:
                raise WarehouseError(
                    f"[NO_SUCH_CATALOG_EXCEPTION] Catalog '{catalog}' was not found."
                )

    def check_schema(self, catalog: str, schema: str) -> None:
        """Raise WarehouseError unless the schema is there."""
        with self._lock:
            self.check_catalog(catalog)
            if (catalog, schema) not in self._schemas:
                raise WarehouseError(
                    f"[SCHEMA_NOT_FOUND] The schema `{catalog}`.`{schema}` cannot be found."
                )

    # Relations

    def find(self, name: Name) -> Relation | None:
        """Return a relation, or None."""
        with self._lock:
            return self._relations.get(name)

    def get(self, name: Name) -> Relation:
        """Return a relation. Raise WarehouseError where it is not there."""
        relation = self.find(name)
        if relation is None:
            raise WarehouseError(
                f"[TABLE_OR_VIEW_NOT_FOUND] The table or view {name} cannot be found."
                " SQLSTATE: 42P01"
            )
        return relation

    def put(self, relation: Relation) -> None:
        """Make or replace a relation; grants on what it replaces hold on."""
        with self._lock:
            self.check_schema(relation.name.catalog, relation.name.schema)
            if relation.name in self._relations:
                relation.grants |= self._relations[relation.name].grants
            self._relations[relation.name] = relation

    @contextmanager
    def change(self, name: Name) -> Iterator[Relation]:
        """Change what is kept of a relation."""
        with self._lock:
            yield self.get(name)

    @contextmanager
    def change_functions(self) -> Iterator[set[Name]]:
        """Read or change the names of the functions."""
        with self._lock:
            yield self._functions

    def remove(self, name: Name) -> Relation | None:
        """Forget a relation; return it if it was there."""
        with self._lock:
            return self._relations.pop(name, None)

    def relations(
        self, catalog: str, schema: str | None = None, match: Callable[[str], object] | None = None
    ) -> list[Relation]:
        """The relations of a catalog or schema, by name; `match` chooses by the last part."""
        with self._lock:
            return [
                self._relations[name]
                for name in sorted(self._relations)
                if name.catalog == catalog
                and schema in {None, name.schema}
                and (match is None or match(name.relation))
            ]
