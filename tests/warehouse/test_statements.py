"""Every kind of statement that dbt and the project's macros send does on the warehouse what it
does on Databricks."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import databricks.sql
import pytest

from tests.support.warehouse import Warehouse, WarehouseCatalog

Query = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def catalog(warehouse: Warehouse) -> Iterator[WarehouseCatalog]:
    catalog = warehouse.new_catalog()
    yield catalog
    catalog.drop()


@pytest.fixture
def query(catalog: WarehouseCatalog) -> Iterator[Query]:
    """Run statements in an empty schema `s`."""
    catalog.query("create schema s")
    yield catalog.query
    catalog.query("drop schema s cascade")


def test_create_or_replace_table_takes_other_columns_and_reads_itself(query: Query) -> None:
    query("create table s.t using delta as select 1 as a, 'x' as b")
    query(
        "create or replace table s.t using delta as select a + 1 as a, cast(1.5 as decimal(9, 2))"
        " as d, named_struct('x', a) as n from s.t"
    )
    assert query("select * from s.t") == [(2, Decimal("1.50"), {"x": 1})]


def test_create_table_with_columns_keeps_the_one_that_stands(query: Query) -> None:
    query("create table if not exists s.t (a int, at timestamp comment 'when')")
    query("insert into s.t select 1, timestamp '2026-01-01 00:00:00'")
    query("create table if not exists s.t (a int)")
    assert query("select * from s.t") == [(1, datetime(2026, 1, 1))]
    with pytest.raises(Exception, match="TABLE_OR_VIEW_ALREADY_EXISTS"):
        query("create table s.t (a int)")
    assert query("describe table s.t") == [("a", "int", None), ("at", "timestamp", "when")]


def test_insert_fills_the_columns_it_does_not_name_with_null(query: Query) -> None:
    query("create table s.t (a int, b string, c decimal(9, 2))")
    query("insert into s.t (c, a) select 1.25, 1")
    query("insert into s.t (b) values ('x'), ('y')")
    query("insert into s.t select null, null, null")
    query("delete from s.t where coalesce(b, string(a)) is null")
    assert query("select * from s.t order by a, b") == [
        (None, "x", None),
        (None, "y", None),
        (1, None, Decimal("1.25")),
    ]


def test_merge_matches_null_keys_and_writes_only_the_named_columns(query: Query) -> None:
    query(
        "create table s.t using delta as select * from values"
        " (1, 'p', 'keep'), (null, 'q', 'keep'), (3, 'r', 'keep') as v(k, v, w)"
    )
    query("""
        merge into s.t as t
        using (select * from values (1, 'new'), (null, 'null'), (9, 'in'), (3, 'x') as v(k, v)) as s
        on t.k <=> s.k
        when matched and s.v = 'x' then delete
        when matched then update set v = s.v
        when not matched then insert (k, v) values (s.k, s.v)
    """)
    assert query("select * from s.t order by k") == [
        (None, "null", "keep"),
        (1, "new", "keep"),
        (9, "in", None),
    ]


def test_merge_takes_stars_and_rows_missing_in_the_source(query: Query) -> None:
    query("create table s.t using delta as select 1 as k, 'a' as v union all select 2, 'b'")
    query(
        "merge into s.t as t using (select 1 as k, 'z' as v union all select 5, 'n') as s"
        " on t.k = s.k when matched then update set * when not matched then insert *"
        " when not matched by source then delete"
    )
    assert query("select * from s.t order by k") == [(1, "z"), (5, "n")]


def test_merge_with_two_rows_for_one_key_is_an_error(query: Query) -> None:
    query("create table s.t using delta as select 1 as k, 'a' as v")
    with pytest.raises(Exception, match=r"(?i)multiple|ambiguous|more than one|CARDINALITY"):
        query(
            "merge into s.t as t using (select 1 as k, 'y' as v union all select 1, 'z') as s"
            " on t.k = s.k when matched then update set v = s.v"
        )


@pytest.mark.parametrize(
    "condition",
    [
        "t.k in (select max(u.k) from s.t as u)",
        "exists (select 1 from s.gone as g where g.k = t.k)",
    ],
)
def test_delete_takes_a_subquery(query: Query, condition: str) -> None:
    query(
        "create table s.t using delta as select * from values (1, 'a'), (3, 'x'), (3, null)"
        " as v(k, v)"
    )
    query("create table s.gone using delta as select 3 as k")
    query(f"delete from s.t as t where {condition}")
    assert query("select * from s.t") == [(1, "a")]


def test_delete_and_update_by_condition(query: Query) -> None:
    query("create table s.t using delta as select * from values (1, 'a'), (2, 'b') as v(k, v)")
    query("update s.t set v = 'u' where k = 1")
    query("delete from s.t where k = 2")
    assert query("select * from s.t") == [(1, "u")]


def test_added_columns_are_null_in_old_rows_and_seen_by_other_sessions(query: Query) -> None:
    query("create table s.t using delta as select 1 as a")
    query("create view s.v as select * from s.t")
    query("alter table s.t add columns (b decimal(18, 2) comment 'money', c struct<x: bigint>)")
    query("insert into s.t select 2, 1.5, named_struct('x', 3L)")
    assert query("select * from s.t order by a") == [
        (1, None, None),
        (2, Decimal("1.50"), {"x": 3}),
    ]
    assert query("describe s.t")[1] == ("b", "decimal(18,2)", "money")
    # A view keeps the columns that it had when it was made.
    assert query("select * from s.v order by a") == [(1,), (2,)]


def test_drop_is_quiet_only_with_if_exists(query: Query) -> None:
    query("create table s.t using delta as select 1 as a")
    query("drop table if exists s.t")
    query("drop table if exists s.t")
    with pytest.raises(Exception, match="TABLE_OR_VIEW_NOT_FOUND"):
        query("drop table s.t")
    query("create table s.t using delta as select 'again' as b")
    assert query("select * from s.t") == [("again",)]


def test_a_table_is_described_with_its_comment_type_and_properties(query: Query) -> None:
    query(
        "create table s.t (a int comment 'one') using delta tblproperties ('k' = 'v')"
        " comment 'the table'"
    )
    query("alter table s.t alter column a comment 'two'")
    query("comment on table s.t is 'it\\'s'")
    rows = {row[0]: row[1:] for row in query("describe table extended s.t")}
    assert rows["a"] == ("int", "two")
    assert (rows["Type"][0], rows["Comment"][0]) == ("MANAGED", "it's")
    assert query("show tblproperties s.t") == [("k", "v")]
    assert "CREATE" in query("describe history s.t")[0][2]


def test_an_external_table_shows_what_is_appended_and_outlives_its_drop(
    query: Query, tmp_path: Path, catalog: WarehouseCatalog
) -> None:
    import pyarrow as pa  # noqa: PLC0415 # here only
    from deltalake import write_deltalake  # noqa: PLC0415

    write_deltalake(str(tmp_path / "t"), pa.table({"a": [1]}))
    catalog.register("s", "t", tmp_path / "t")
    write_deltalake(str(tmp_path / "t"), pa.table({"a": [2]}), mode="append")
    assert query("select * from s.t order by a") == [(1,), (2,)]
    query("drop table s.t")
    assert (tmp_path / "t" / "_delta_log").is_dir()


# One expression or query, and what Databricks answers.
_VALUES = "from values (1, null, 1), (2, 5, 2), (2, 7, null) as t(a, b, c)"
ANSWERS = {
    "select last_value(b) ignore nulls over (order by a, b) from values (1, 4), (2, null)"
    " as t(a, b) order by a": [(4,), (4,)],
    f"select max_by(named_struct('b', b), named_struct('a', a, 'b', b)) {_VALUES}": [({"b": 7},)],
    f"select max(named_struct('a', a, 'b', b)) {_VALUES}": [({"a": 2, "b": 7},)],
    f"select a {_VALUES} where named_struct('x', a, 'y', b) > named_struct('x', 2, 'y', 5)": [(2,)],
    f"select named_struct('x', a, 'y', b) as s {_VALUES} order by s desc": [
        ({"x": 2, "y": 7},),
        ({"x": 2, "y": 5},),
        ({"x": 1, "y": None},),
    ],
    f"select b {_VALUES} qualify row_number() over"
    " (partition by a order by named_struct('x', b) desc) = 1 order by a": [(None,), (7,)],
    f"select a, lag(b) over (order by named_struct('x', a, 'y', b)) as before {_VALUES}"
    " order by a, before": [(1, None), (2, None), (2, 5)],
    "select array_contains(array(1, null), 1), array_contains(array(1, null), 2),"
    " array_contains(array(1), 2)": [(True, None, False)],
    f"select a is distinct from c, b is not distinct from null {_VALUES} order by a, b": [
        (False, True),
        (False, False),
        (True, False),
    ],
    "select try_cast('x' as int), try_cast('12' as bigint), try_cast('1.239' as decimal(18, 2)),"
    " try_cast('1.5' as int), try_cast('nope' as timestamp)": [
        (None, 12, Decimal("1.24"), None, None)
    ],
    'select from_json(\'{"a": "1", "b": {"c": "x"}}\', \'a STRING, b STRUCT<c: STRING>\')': [
        ({"a": "1", "b": {"c": "x"}},)
    ],
    "select from_json('{cut off', 'a STRING, b STRUCT<c: STRING>')": [({"a": None, "b": None},)],
    "select unix_micros(timestamp_micros(1780000000123456)), timestamp_micros(-1)": [
        (1780000000123456, datetime(1969, 12, 31, 23, 59, 59, 999999))
    ],
    "select percentile_disc(0.95) within group (order by a), bround(1.5bd, 0) from values (1), (2)"
    " as t(a)": [(2.0, Decimal(2))],
    "select bround(0.285bd, 2), bround(0.275bd, 2), bround(-2.5bd, 0), bround(-0.125bd, 2)": [
        (Decimal("0.28"), Decimal("0.28"), Decimal(-2), Decimal("-0.12"))
    ],
    "select datediff(date '2026-01-03', timestamp '2026-01-01 23:00:00'),"
    " date_from_unix_date(20000), timestamp_millis(1)": [
        (2, date(2024, 10, 4), datetime(1970, 1, 1, 0, 0, 0, 1000))
    ],
    "with a as (select 1 as x), b as (with c as (select * from a) select * from c)"
    " select * from b": [(1,)],
}


@pytest.mark.parametrize("statement", ANSWERS)
def test_a_query_is_answered_as_on_databricks(catalog: WarehouseCatalog, statement: str) -> None:
    assert catalog.query(statement) == ANSWERS[statement]


def test_the_current_catalog_and_schema_are_those_of_the_session(
    catalog: WarehouseCatalog, query: Query
) -> None:
    assert query("select current_catalog(), current_schema() as s") == [(catalog.name, "default")]
    with catalog.warehouse.connect(catalog=catalog.name) as session, session.cursor() as cursor:
        cursor.execute("use schema s")
        cursor.execute("create table t using delta as select current_database() as d")
        cursor.execute("select d from t")
        assert [tuple(row) for row in cursor.fetchall()] == [("s",)]


def test_qualify_keeps_the_columns_and_their_order(query: Query) -> None:
    query(
        "create table s.t using delta as select * from values (1, 2, 'x'), (1, 3, 'y')"
        " as v(a, `order`, c)"
    )
    assert query(
        "with w as (select *, c || '!' as d from s.t qualify row_number() over"
        " (partition by a order by `order` desc) = 1) select * from w"
    ) == [(1, 3, "y", "y!")]


def test_temporary_views_belong_to_their_session(warehouse: Warehouse) -> None:
    with warehouse.connect() as one, warehouse.connect() as other:
        with one.cursor() as cursor:
            cursor.execute("create temporary view mine as select 1 as a")
            cursor.execute("select a from mine")
            assert [tuple(row) for row in cursor.fetchall()] == [(1,)]
        with other.cursor() as cursor, pytest.raises(databricks.sql.Error, match="NOT_FOUND"):
            cursor.execute("select a from mine")


def test_sessions_append_to_one_table_at_the_same_time(query: Query) -> None:
    query("create table s.t (a int)")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: query(f"insert into s.t select {n}"), range(12)))
    assert query("select count(*), count(distinct a) from s.t") == [(12, 12)]


@pytest.mark.parametrize(
    "statement",
    [
        "grant usage on catalog main to `somebody`",
        "alter table s.t alter column a set default 1",
        "copy into s.t from '/x' fileformat = json",
        "create table s.t using parquet as select 1 as a",
        "select * from s.t version as of 1",
        "set timezone = 'Asia/Tokyo'",
        "optimize s.t zorder by (a)",
    ],
)
def test_what_cannot_be_done_is_refused_in_words(query: Query, statement: str) -> None:
    with pytest.raises(Exception, match="not supported by the local warehouse: "):
        query(statement)


def test_a_text_that_is_not_databricks_sql_is_an_error_and_counted(
    warehouse: Warehouse, query: Query
) -> None:
    before = len(warehouse.report()["unparsed"])
    with pytest.raises(Exception, match="not parsed as Databricks SQL"):
        query("select from where")
    assert len(warehouse.report()["unparsed"]) == before + 1
