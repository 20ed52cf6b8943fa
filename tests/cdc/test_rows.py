"""The behaviours of AUTO CDC, a row of docs/auto_cdc.md each, on every engine."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cdc.engines import ENGINES, Engine
from tests.cdc.lab import Lab, Streams, versions

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "auto_cdc.md"
EVENTS = Streams(
    "events",
    {
        "key_1": "k=1:u(a)@1 k=2:u(b)@1 | k=2:u(c)@2",
        "key_2": "k=~:u(x)@1 u(a)@1 | k=~:u(y)@3 u(b)@2",
        "sequence_3": "u(x)@~ u(a)@1 | u(y)@~",
        "sequences_5": "u(a)@1.2 | u(b)@1.1 | u(c)@2.0",
        "upsert_6": "u(a,1)@1 | u(b,~)@2",
        "late_7": "u(a12)@12 | u(b10)@10",
        "many_8": "u(a)@1 u(c)@3 u(b)@2",
        "tombstone_9": "u(a)@17 d@20 | u(b)@18",
        "unknown_10": "d@20 | u(a)@10 | u(b)@30",
        "older_11": "u(a)@10 | d@5 | u(c)@7 | u(e)@3",
        "deletes_12": "d@10 | d@20 | u(a)@15",
        "ties_13": "u(a)@5 u(b)@5 | d@5 | u(c)@5 | u(c)@5",
        "again_14": "u(a)@1 u(b)@2 d@3 u(c)@4 | u(a)@1 u(b)@2 d@3 u(c)@4",
        "condition_15": "u(a,flag=~)@1 | u(b,flag=here)@2 | u(c,flag=gone)@3 | u(d,flag=~)@4",
        "no_condition_16": "u(a)@1 | d(z)@2",
        "null_17": "u(a,1)@1 | u(~,2)@2",
        "ignore_18": "u(a,1,city=Graz,zip=8010)@1 | u(~,2,city=Wien)@2 | u(b)@3",
        "ignore_19": "u(a,1)@1 | u(~,2)@2 | u(b,~)@3",
        "sets_20": "u(a,1)@1 | u(~,2,sets=v)@2 | u(b,~,sets=w)@3 | u(c,3,sets=v+w)@4 | u(e,~)@5",
        "order_21": "u(a,1)@10 u(~,2)@30 | u(b)@20 | u(c,9)@15 | d@25 | u(~,7)@28",
        "order_21_late": "d@10 | u(a,1)@5 | u(~,2)@20 | u(b,~)@15 | d@18",
        "columns_23": "u(a,1)@1",
        "types_24": "u(a)@1 u(b)@2",
        "oaxaca_25": (
            "k=124:u(Oaxaca)@1 k=123:u(Monterrey)@1 | "
            "k=125:u(Tijuana)@2 k=126:u(Juarez)@2 | "
            "k=123:u(Chihuahua)@5 k=125:u(Mexicali)@5 | "
            "k=123:d@6 k=125:u(Guadalajara)@6"
        ),
        "periods_26": "u(a)@1.5 | u(b)@2.7",
        "basics_27": "u(a)@10 | u(b)@20 | d@30",
        "before_28": "u(b)@10 | u(a)@5",
        "inside_29": "u(a)@10 u(b)@20 | u(b)@15",
        "gap_30": "u(a)@10 u(b)@30 | d@20",
        "boundary_31": "u(a)@10 d@20 | d@15 | u(z)@17",
        "deleted_32": "d@20 | u(a)@10 | u(b)@30",
        "between_33": "d@10 | d@20 | u(a)@15",
        "earlier_34": "u(a)@10 | d@5 | u(b)@7 | u(c)@3",
        "unchanged_35": "u(a)@5 u(a)@10 u(a)@15",
        "hidden_36": "u(A)@5 u(A)@10 u(A)@15 | u(C)@20 | u(B)@12",
        "gap_37": "u(a)@1 d@2 u(a)@3",
        "null_safe_38": "u(a,~)@1 u(a,~)@2 | u(a,1)@3 | u(a,~)@4",
        "tracked_39_a": "u(a,1)@10 u(a,2)@20 | u(a,9)@15",
        "tracked_39_b": "u(a,1)@10 u(b)@20 | u(a,7)@15",
        "tracked_39_c": "u(a,1)@10 | u(a,5)@5",
        "once_44": "u(live)@20 | u(newer)@30",
        "once_44_only_live": "u(live)@20",
        "feeds_45": "u(a,1)@10 | u(c,3)@30",
    },
)
EVENTS_B = Streams(
    "events_b",
    {"feeds_45": "u(b,2)@20 | d@40 | u(e,5)@35", "feeds_45_b": "u(z)@1"},
)
EXTRACT = Streams(
    "extract",
    {"once_44": "u(old,1)@10", "once_44_only_extract": "u(past)@5", "once_44_same": "u(x)@1"},
)
TRUNCATED = Streams(
    "truncated",
    {
        "t_22": (
            "k=1:u(a)@5 k=2:u(b)@12 | t@10 | k=1:u(late)@7 k=3:u(late)@8 | k=1:u(new,1)@15 | t@13"
        ),
    },
)
SNAPSHOTS = Streams(
    "snapshots",
    {
        "s_46": (
            "k=1:u(a)@1 k=2:u(b)@1 k=3:u(c)@1 | k=1:u(a)@2 k=2:u(B)@2 | "
            "k=2:u(B)@3 k=3:u(c)@3 k=2:u(B)@4 k=3:u(c)@4 k=4:u(d)@4"
        ),
    },
)

CURRENT = {
    "current": "v, w",
    "current_two_sequences": "v",
    "current_by_text": "v",
    "current_delete_condition": "v",
    "current_without_deletes": "v",
    "current_ignore_null": "v, w, address.city, address.zip",
    "current_ignore_null_in_v": "v, w",
    "current_ignore_null_but_v": "v, w",
    "current_updated_columns": "v, w",
    "current_truncate": "v",
    "current_truncate_ignore_null": "v, w",
    "current_two_feeds": "v, w",
    "current_once": "v, w",
    "current_snapshots": "v",
}
HISTORY = {
    "history": "v",
    "history_by_time": "v",
    "history_ignore_null": "v, w",
    "history_updated_columns": "v, w",
    "history_track_v": "v, w",
    "history_track_but_w": "v, w",
    "history_two_feeds": "v",
    "history_once": "v",
    "history_snapshots": "v",
}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with request.param() as started:
        yield started


@pytest.fixture(scope="module")
def lab(engine: Engine) -> Lab:
    """All streams, applied batch by batch."""
    lab = Lab(engine.new())
    lab.apply([EVENTS, EVENTS_B, EXTRACT, TRUNCATED, SNAPSHOTS], CURRENT, HISTORY)
    return lab


def values(rows: list[Any]) -> list[Any]:
    """The first column of each row."""
    return [None if row is None else row[0] for row in rows]


def test_row_01_composite_keys_match_on_all_columns(lab: Lab) -> None:
    assert values(lab.current("current", "key_1", 2, k=1)) == ["a", "a"]
    assert values(lab.current("current", "key_1", 2, k=2)) == ["b", "c"]
    assert values(lab.current("current", "late_7", 2, k=2)) == [None, None]


def test_row_02_a_change_without_key_is_kept_with_its_reason_and_the_rest_applies(lab: Lab) -> None:
    assert values(lab.current("current", "key_2", 2)) == ["a", "b"]
    for table in ("current", "history"):
        assert lab.builder.query(
            "select feed, source_position, reason from observability.cdc_unusable"
            f" where model = '{table}' and reason = 'no key k for this table' order by 2"
        ) == [
            ("events", position, "no key k for this table")
            for position, *_ in lab.builder.query(
                "select _position from cdc.stg_events"
                " where stream = 'key_2' and k is null order by 1"
            )
        ]


def test_row_03_a_change_without_sequence_is_kept_with_its_reason(lab: Lab) -> None:
    assert values(lab.current("current", "sequence_3", 2)) == ["a", "a"]
    assert lab.builder.query(
        "select count(*), min(reason), max(reason) from observability.cdc_unusable"
        " where model = 'current' and reason like 'no sequence%'"
    ) == [(2, "no sequence _sequence for this table", "no sequence _sequence for this table")]


def test_row_05_several_sequence_columns_are_compared_in_order(lab: Lab) -> None:
    assert values(lab.current("current_two_sequences", "sequences_5", 3)) == ["a", "a", "c"]
    assert lab.builder.query(
        "select v, valid_from.seq as a, valid_from.seq_2 as b, valid_to.seq as c,"
        " valid_to.seq_2 as d"
        " from cdc.history_two_sequences where stream = 'sequences_5' and _is_version order by 2, 3"
    ) == [("b", 1, 1, 1, 2), ("a", 1, 2, 2, 0), ("c", 2, 0, None, None)]


def test_row_06_an_upsert_overwrites_every_other_column(lab: Lab) -> None:
    assert lab.current("current", "upsert_6", 2) == [("a", 1), ("b", None)]


def test_row_07_an_older_change_does_not_win_by_coming_later(lab: Lab) -> None:
    assert values(lab.current("current", "late_7", 2)) == ["a12", "a12"]
    assert values(lab.current("current_by_text", "late_7", 2)) == ["a12", "a12"]


def test_row_08_of_many_changes_in_a_batch_the_greatest_sequence_counts(lab: Lab) -> None:
    assert values(lab.current("current", "many_8", 2)) == ["c", "c"]


def test_row_09_a_tombstone_remembers_its_sequence(lab: Lab) -> None:
    assert values(lab.current("current", "tombstone_9", 2)) == [None, None]


def test_row_10_a_delete_of_an_unknown_key_is_remembered(lab: Lab) -> None:
    assert values(lab.current("current", "unknown_10", 3)) == [None, None, "b"]


def test_row_11_an_older_delete_changes_nothing(lab: Lab) -> None:
    assert values(lab.current("current", "older_11", 4)) == ["a"] * 4


def test_row_12_a_tombstone_keeps_the_greatest_delete(lab: Lab) -> None:
    assert values(lab.current("current", "deletes_12", 3)) == [None, None, None]


def test_row_13_of_the_same_sequence_the_later_arrival_wins(lab: Lab) -> None:
    assert values(lab.current("current", "ties_13", 4)) == ["b", None, "c", "c"]
    assert lab.history("history", "ties_13", 4) == ["b[5,)", "", "c[5,)", "c[5,)"]


def test_row_14_a_batch_that_comes_again_changes_nothing(lab: Lab) -> None:
    assert values(lab.current("current", "again_14", 2)) == ["c", "c"]
    assert lab.history("history", "again_14", 2) == ["a[1,2) b[2,3) c[4,)"] * 2
    # Nothing was written either: the rows are those of the first run.
    for table in ("current", "history"):
        assert lab.builder.query(
            f"select max(_applied_run) from cdc.{table} where stream = 'again_14'"
        ) == [(1,)]


def test_row_15_a_delete_condition_that_is_null_is_an_upsert(lab: Lab) -> None:
    rows = lab.current("current_delete_condition", "condition_15", 4)
    assert values(rows) == ["a", "b", None, "d"]


def test_row_16_without_a_delete_condition_a_delete_is_an_upsert(lab: Lab) -> None:
    assert values(lab.current("current_without_deletes", "no_condition_16", 2)) == ["a", "z"]
    assert values(lab.current("current", "no_condition_16", 2)) == ["a", None]


def test_row_17_a_null_overwrites(lab: Lab) -> None:
    assert lab.current("current", "null_17", 2) == [("a", 1), (None, 2)]


def test_row_18_a_null_can_be_ignored_also_inside_a_nested_field(lab: Lab) -> None:
    assert lab.current("current_ignore_null", "ignore_18", 3) == [
        ("a", 1, "Graz", "8010"),
        ("a", 2, "Wien", "8010"),
        ("b", 2, "Wien", "8010"),
    ]
    assert lab.builder.query(
        "select v, w, address.city, address.zip from cdc.history_ignore_null"
        " where stream = 'ignore_18' and _is_version order by valid_from"
    ) == [("a", 1, "Graz", "8010"), ("a", 2, "Wien", "8010"), ("b", 2, "Wien", "8010")]


def test_row_19_a_null_can_be_ignored_in_some_columns(lab: Lab) -> None:
    in_v = lab.current("current_ignore_null_in_v", "ignore_19", 3)
    assert in_v == [("a", 1), ("a", 2), ("b", None)]
    but_v = lab.current("current_ignore_null_but_v", "ignore_19", 3)
    assert but_v == [("a", 1), (None, 2), ("b", 2)]


def test_row_20_a_record_can_name_the_columns_that_it_sets(lab: Lab) -> None:
    assert lab.current("current_updated_columns", "sets_20", 5) == [
        ("a", 1),
        (None, 1),
        (None, None),
        ("c", 3),
        ("e", None),
    ]
    assert lab.history("history_updated_columns", "sets_20", 5)[-1] == (
        "a,1[1,2) ~,1[2,3) ~,~[3,4) c,3[4,5) e,~[5,)"
    )


def test_row_21_ignored_nulls_and_changes_out_of_order(lab: Lab) -> None:
    rows = lab.current("current_ignore_null", "order_21", 5)
    assert [None if row is None else row[:2] for row in rows] == [
        ("a", 2),
        ("b", 2),
        ("b", 2),
        (None, 2),
        (None, 2),
    ]
    assert lab.history("history_ignore_null", "order_21", 5) == [
        "a,1[10,30) a,2[30,)",
        "a,1[10,20) b,1[20,30) b,2[30,)",
        "a,1[10,15) c,9[15,20) b,9[20,30) b,2[30,)",
        "a,1[10,15) c,9[15,20) b,9[20,25) ~,2[30,)",
        "a,1[10,15) c,9[15,20) b,9[20,25) ~,7[28,30) ~,2[30,)",
    ]
    late = lab.current("current_ignore_null", "order_21_late", 5)
    assert [None if row is None else row[:2] for row in late] == [
        None,
        None,
        (None, 2),
        ("b", 2),
        (None, 2),
    ]


def test_row_22_a_truncate_clears_what_is_older_and_keeps_it_out(lab: Lab) -> None:
    expected = {1: ["a", None, None, "new", "new"], 2: ["b", "b", "b", "b", None], 3: [None] * 5}
    for table in ("current_truncate", "current_truncate_ignore_null"):
        for k, after in expected.items():
            assert values(lab.current(table, "t_22", 5, k=k)) == after, (table, k)


def test_row_23_a_column_list_decides_what_is_written(lab: Lab) -> None:
    def columns(table: str) -> set[str]:
        described = lab.builder.query(f"describe cdc.{table}")
        return {name for name, *_ in described if not name.startswith(("_", "#"))} - {"batch_id"}

    assert columns("current_one_column") == {"stream", "k", "v"}
    assert columns("current_but_some_columns") == {
        *("stream", "k", "v", "flag", "seq", "seq_2", "seq_text", "seq_time"),
    }


def test_row_24_a_table_is_current_or_a_history(lab: Lab) -> None:
    assert values(lab.current("current", "types_24", 1)) == ["b"]
    assert lab.history("history", "types_24", 1) == ["a[1,2) b[2,)"]


def test_row_25_the_example_of_the_documentation(lab: Lab) -> None:
    after = lab.rows[3]["current"]
    assert {k: row[0] for (stream, k), row in after.items() if stream == "oaxaca_25"} == {
        124: "Oaxaca",
        125: "Guadalajara",
        126: "Juarez",
    }
    after_history = lab.histories[3]["history"]
    assert {k: text for (stream, k), text in after_history.items() if stream == "oaxaca_25"} == {
        123: "Monterrey[1,5) Chihuahua[5,6)",
        124: "Oaxaca[1,)",
        125: "Tijuana[2,5) Mexicali[5,6) Guadalajara[6,)",
        126: "Juarez[2,)",
    }


def test_row_26_periods_are_in_units_of_the_sequence_and_in_time(lab: Lab) -> None:
    assert lab.builder.query(
        "select v, valid_from, valid_to, cast(valid_from_at as string), cast(valid_to_at as string)"
        " from cdc.history where stream = 'periods_26' and _is_version order by valid_from"
    ) == [
        ("a", 1, 2, "1970-01-01 00:00:01", "1970-01-01 00:00:02"),
        ("b", 2, None, "1970-01-01 00:00:02", None),
    ]
    for table in ("history", "history_by_time", "history_two_sequences"):
        types = {name: type_ for name, type_, *_ in lab.builder.query(f"describe cdc.{table}")}
        assert types["valid_from"] == types["valid_to"] == types["_sequence"], table


def test_row_27_a_history_opens_closes_and_ends(lab: Lab) -> None:
    assert lab.history("history", "basics_27", 3) == [
        "a[10,)",
        "a[10,20) b[20,)",
        "a[10,20) b[20,30)",
    ]


def test_row_28_a_change_before_all_history_becomes_its_first_version(lab: Lab) -> None:
    assert lab.history("history", "before_28", 2) == ["b[10,)", "a[5,10) b[10,)"]


def test_row_29_a_late_change_splits_a_version(lab: Lab) -> None:
    assert lab.history("history", "inside_29", 2) == ["a[10,20) b[20,)", "a[10,15) b[15,)"]


def test_row_30_a_late_delete_leaves_a_gap(lab: Lab) -> None:
    assert lab.history("history", "gap_30", 2) == ["a[10,30) b[30,)", "a[10,20) b[30,)"]


def test_row_31_an_old_boundary_survives_an_earlier_delete(lab: Lab) -> None:
    assert lab.history("history", "boundary_31", 3) == [
        "a[10,20)",
        "a[10,15)",
        "a[10,15) z[17,20)",
    ]


def test_row_32_a_history_before_and_after_a_delete(lab: Lab) -> None:
    assert lab.history("history", "deleted_32", 3) == ["", "a[10,20)", "a[10,20) b[30,)"]


def test_row_33_a_version_between_two_deletes(lab: Lab) -> None:
    assert lab.history("history", "between_33", 3) == ["", "", "a[15,20)"]


def test_row_34_changes_that_come_ever_earlier(lab: Lab) -> None:
    assert lab.history("history", "earlier_34", 4) == [
        "a[10,)",
        "a[10,)",
        "b[7,10) a[10,)",
        "c[3,5) b[7,10) a[10,)",
    ]


def test_row_35_unchanged_upserts_are_one_version(lab: Lab) -> None:
    assert lab.history("history", "unchanged_35", 1) == ["a[5,)"]


def test_row_36_hidden_changes_come_back_when_a_late_one_needs_them(lab: Lab) -> None:
    assert lab.history("history", "hidden_36", 3) == [
        "A[5,)",
        "A[5,20) C[20,)",
        "A[5,12) B[12,15) A[15,20) C[20,)",
    ]


def test_row_37_a_gap_is_never_bridged(lab: Lab) -> None:
    assert lab.history("history", "gap_37", 1) == ["a[1,2) a[3,)"]


def test_row_38_what_counts_as_a_change_is_null_safe(lab: Lab) -> None:
    assert lab.history("history", "null_safe_38", 3) == [
        "a[1,)",
        "a[1,3) a[3,)",
        "a[1,3) a[3,4) a[4,)",
    ]


def test_row_39_a_change_of_an_untracked_column_updates_in_place(lab: Lab) -> None:
    for table in ("history_track_v", "history_track_but_w"):
        assert lab.history(table, "tracked_39_a", 2) == ["a,2[10,)", "a,2[10,)"]
        assert lab.history(table, "tracked_39_b", 2) == [
            "a,1[10,20) b,~[20,)",
            "a,7[10,20) b,~[20,)",
        ]
        assert lab.history(table, "tracked_39_c", 2) == ["a,1[10,)", "a,1[5,)"]


def test_row_44_a_back_fill_gives_with_the_live_feed_the_state_of_both(lab: Lab) -> None:
    assert lab.current("current_once", "once_44", 2) == [("live", None), ("newer", None)]
    assert lab.current("current_once", "once_44_only_live", 1) == [("live", None)]
    assert values(lab.current("current_once", "once_44_only_extract", 2)) == ["past", "past"]
    assert lab.history("history_once", "once_44", 2) == [
        "old[10,20) live[20,)",
        "old[10,20) live[20,30) newer[30,)",
    ]
    # Once: a later run reads the extract no more.
    assert lab.builder.query(
        "select count(*) from observability.cdc_watermarks"
        " where feed = 'once:extract_rows' and model like '%.current_once'"
    ) == [(1,)]


def test_row_45_several_feeds_make_one_table(lab: Lab) -> None:
    assert values(lab.current("current_two_feeds", "feeds_45", 3)) == ["b", None, None]
    assert lab.history("history_two_feeds", "feeds_45", 3) == [
        "a[10,20) b[20,)",
        "a[10,20) b[20,30) c[30,40)",
        "a[10,20) b[20,30) c[30,35) e[35,40)",
    ]
    assert values(lab.current("current_two_feeds", "feeds_45_b", 1)) == ["z"]


def test_row_46_snapshots_insert_update_and_delete(lab: Lab) -> None:
    expected = {
        1: ["a", "a", None],
        2: ["b", "B", "B"],
        3: ["c", None, "c"],
        4: [None, None, "d"],
    }
    for k, after in expected.items():
        assert values(lab.current("current_snapshots", "s_46", 3, k=k)) == after, k
    history = lab.histories[2]["history_snapshots"]
    assert {k: text for (_, k), text in history.items()} == {
        1: "a[1,3)",
        2: "b[1,2) B[2,)",
        3: "c[1,2) c[3,)",
        4: "d[4,)",
    }
    # Only what changed was written: the row of key 2 is that of the second snapshot.
    assert lab.builder.query("select _sequence from cdc.current_snapshots where k = 2") == [(2,)]


def test_row_50_downstream_reads_only_what_changed(lab: Lab) -> None:
    seen = dict(
        lab.builder.query(
            "select stream, seen_in_run from cdc.changed_keys where k = 1 and stream in"
            " ('late_7', 'basics_27', 'again_14')"
        )
    )
    assert seen == {"late_7": 1, "basics_27": 3, "again_14": 1}


def test_a_full_refresh_gives_the_same_tables(lab: Lab) -> None:
    lab.builder.dbt("run", "--full-refresh", "--exclude", "path:models/streams")
    last = len(lab.rows) - 1
    for table, columns in HISTORY.items():
        assert versions(lab.builder, table, columns) == lab.histories[last][table], table


def test_every_behaviour_of_the_documentation_has_its_test() -> None:
    documented = {
        number
        for first, last in re.findall(
            r"^\| (\d+)(?:[-,] ?(\d+))? \|", DOCUMENTATION.read_text(), re.M
        )
        for number in range(int(first), int(last or first) + 1)
    }
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    tested = {int(number) for number in re.findall(r"row_(\d\d)", tests)}
    assert documented == set(range(1, 53))
    assert documented - tested == {52}, "52 is not there yet, and says so"
