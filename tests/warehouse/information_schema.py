"""The views of information_schema, from what the catalog knows."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from .catalog import Catalog, NotSupportedError, Relation

ColumnsOf = Callable[[Relation], Sequence[tuple[str, str, str | None]]]

# Views of what this warehouse does not have: governance and constraints. They are empty.
_EMPTY = {
    "table_tags": "catalog_name schema_name table_name tag_name tag_value",
    "column_tags": "catalog_name schema_name table_name column_name tag_name tag_value",
    "schema_tags": "catalog_name schema_name tag_name tag_value",
    "column_masks": "table_catalog table_schema table_name column_name mask_name using_columns",
    "row_filters": "table_catalog table_schema table_name filter_name target_columns",
    "table_constraints": "constraint_catalog constraint_schema constraint_name table_catalog"
    " table_schema table_name constraint_type",
    "key_column_usage": "constraint_catalog constraint_schema constraint_name table_catalog"
    " table_schema table_name column_name ordinal_position",
    "referential_constraints": "constraint_catalog constraint_schema constraint_name"
    " unique_constraint_catalog unique_constraint_schema unique_constraint_name",
    "constraint_column_usage": "constraint_catalog constraint_schema constraint_name"
    " table_catalog table_schema table_name column_name",
}


def rows(
    catalog: Catalog,
    names: Sequence[str],
    relations: Sequence[Relation],
    view: str,
    columns: ColumnsOf,
) -> pa.Table:
    """Return the rows of one view of the catalogs `names`, about these relations of theirs."""
    if view == "schemata":
        found = [
            (*key, "local", catalog.schema_comment(*key))
            for name in names
            for key in catalog.schemas(name)
        ]
        return _table("catalog_name schema_name schema_owner comment", found)
    if view == "tables":
        return _table(
            "table_catalog table_schema table_name table_type data_source_format table_owner"
            " comment created last_altered",
            [
                (*r.name, r.kind, None if r.is_view else "DELTA", "local", r.comment, None, None)
                for r in relations
            ],
        )
    if view == "views":
        return _table(
            "table_catalog table_schema table_name view_definition",
            [(*r.name, r.query) for r in relations if r.is_view],
        )
    if view == "columns":
        return _table(
            "table_catalog table_schema table_name column_name ordinal_position full_data_type"
            " data_type comment is_nullable",
            [
                (*r.name, column, place, kind, kind, comment, "YES")
                for r in relations
                for place, (column, kind, comment) in enumerate(columns(r))
            ],
        )
    if view in _EMPTY:
        return _table(_EMPTY[view], [])
    raise NotSupportedError(f"information_schema.{view}")


def _table(names: str, found: Sequence[Sequence[object]]) -> pa.Table:
    return pa.table(
        {
            name: pa.array(
                [row[number] for row in found],
                pa.int32() if name == "ordinal_position" else pa.string(),
            )
            for number, name in enumerate(names.split())
        }
    )
