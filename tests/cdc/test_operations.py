"""What happens around the tables: errors, crashes, schema changes, metrics, operations."""

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from tests.cdc.engines import ENGINES, Engine, duckdb
from tests.cdc.lab import PROJECT, Builder, current_rows, parse, versions


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with request.param() as started:
        yield started


@pytest.fixture
def builder(engine: Engine) -> Builder:
    return engine.new()


@pytest.fixture
def on_duckdb() -> Iterator[Builder]:
    """For what is decided in Jinja, before any engine is asked."""
    with duckdb() as started:
        yield started.new()


def land(builder: Builder, text: str, *, batch_id: int, feed: str = "events") -> None:
    """Land one batch of one stream, in the notation of the tests."""
    builder.land(feed, [json.dumps(r) for r in parse(text, "s")], batch_id=batch_id)


def messages(result: Any) -> str:
    """All that dbt said about the nodes of a run."""
    nodes = getattr(result.result, "results", None) or []
    return " ".join(str(node.message) for node in nodes) + repr(result.exception)


def run(builder: Builder, *models: str, check: bool = True, **variables: Any) -> Any:
    """Build some models and the staging views below them."""
    return builder.dbt(
        "run", "--select", *(f"+{m}" for m in models), "--vars", json.dumps(variables), check=check
    )


def test_row_42_tombstones_stay_until_they_are_purged(
    builder: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    day = 86_400
    now_ish = 1_790_000_000
    land(
        builder,
        f"k=1:u(a)@{day} k=1:d@{2 * day} k=2:d@{now_ish} k=3:u(c)@{day}",
        batch_id=1,
    )
    run(builder, "current")
    builder.dbt("run-operation", "purge_tombstones")
    assert "kept for ever" in capsys.readouterr().out
    builder.dbt("run-operation", "purge_tombstones", "--args", "{older_than_days: 5000}")
    said = capsys.readouterr().out
    assert "current: 1 tombstones of deletes before" in said
    assert "5000 days late or more, brings the key back" in said
    assert builder.query("select k, _is_deleted from cdc.current order by k") == [
        (2, True),
        (3, False),
    ]
    # As announced: the purged key comes back, the one whose tombstone stayed does not.
    land(builder, f"k=1:u(late)@{day} k=2:u(late)@{day}", batch_id=2)
    run(builder, "current")
    assert current_rows(builder, "current", "v") == {("s", 1): ("late",), ("s", 3): ("c",)}


def test_row_43_a_crash_before_the_watermark_moves_and_a_retry_converge(builder: Builder) -> None:
    land(builder, "u(a)@1 u(b)@2", batch_id=1)
    run(builder, "current_crash", "history_crash")
    land(builder, "u(c)@3 d@4", batch_id=2)
    result = run(builder, "current_crash", "history_crash", check=False, crash=True)
    assert not result.success and "crash" in messages(result)
    land(builder, "u(e)@6 u(late)@2", batch_id=3)
    run(builder, "current_crash", "history_crash")
    assert current_rows(builder, "current_crash", "v") == {("s", 1): ("e",)}
    assert versions(builder, "history_crash") == {("s", 1): "a[1,2) late[2,3) c[3,4) e[6,)"}
    run(builder, "current_crash", "history_crash")
    assert versions(builder, "history_crash") == {("s", 1): "a[1,2) late[2,3) c[3,4) e[6,)"}


def test_row_49_every_record_of_a_run_is_accounted_for(builder: Builder) -> None:
    land(builder, "k=1:u(a)@1 k=1:u(a)@1 k=1:u(b)@3 k=2:d@5 k=~:u(x)@1", batch_id=1)
    run(builder, "current", "history")
    land(builder, "k=1:u(late)@2 k=1:u(b)@3 k=1:d@4 k=2:u(c)@6", batch_id=2)
    run(builder, "current", "history")
    run(builder, "current", "history")
    counted = builder.query(
        "select model, run_number, changes_read, quarantined, duplicates, stale, upserted, deleted"
        " from observability.cdc_log where status = 'success' order by 1, 2"
    )
    assert counted == [
        ("current", 1, 5, 1, 1, 1, 1, 1),
        ("current", 2, 4, 0, 0, 2, 1, 1),
        ("current", 3, 0, 0, 0, 0, 0, 0),
        ("history", 1, 5, 1, 1, 0, 2, 1),
        ("history", 2, 4, 0, 1, 0, 2, 1),
        ("history", 3, 0, 0, 0, 0, 0, 0),
    ]
    for _, _, read, *parts in counted:
        assert read == sum(parts)


def test_row_49_a_run_that_fails_half_way_has_metrics_all_the_same(builder: Builder) -> None:
    land(builder, "u(a)@1", batch_id=1)
    run(builder, "current", "current_crash", check=False, crash=True)
    assert builder.query(
        "select model, status, upserted from observability.cdc_log order by 1"
    ) == [("current", "success", 1), ("current_crash", "error", None)]


def test_a_run_with_nothing_new_writes_nothing_and_reads_no_change(builder: Builder) -> None:
    land(builder, "u(a)@5", batch_id=1)
    run(builder, "current", "history")
    # Only stale events: they are read once.
    land(builder, "u(b)@4", batch_id=2)
    run(builder, "current", "history")
    result = run(builder, "current", "history")
    read = "select max(changes_read) from observability.cdc_log where run_number = 3"
    assert builder.query(read) == [(0,)]
    assert builder.query("select max(_applied_run) from cdc.current") == [(1,)]
    assert result.success


def test_a_run_opens_only_the_files_of_new_batches_and_touches_only_their_keys(
    on_duckdb: Builder,
) -> None:
    folder = on_duckdb.path / "bronze" / "events"

    def files() -> set[Path]:
        return set(folder.glob("*.parquet"))

    land(on_duckdb, "k=1:u(a)@1 k=2:u(b)@1", batch_id=1)
    first = files()
    land(on_duckdb, "k=1:u(c)@2", batch_id=2)
    second = files() - first
    run(on_duckdb, "current", "history")
    for file in first:
        file.unlink()
    land(on_duckdb, "k=1:u(d)@3", batch_id=3)
    run(on_duckdb, "current", "history")
    assert current_rows(on_duckdb, "current", "v") == {("s", 1): ("d",), ("s", 2): ("b",)}
    assert versions(on_duckdb, "history") == {("s", 1): "a[1,2) c[2,3) d[3,)", ("s", 2): "b[1,)"}
    for table in ("current", "history"):
        written = on_duckdb.query(
            f"select k, max(_applied_run) from cdc.{table} group by k order by k"
        )
        assert written == [(1, 2), (2, 1)]
    # Nothing new: only the newest file is looked at.
    for file in second:
        file.unlink()
    run(on_duckdb, "current", "history")


def statements(builder: Builder, *models: str) -> dict[str, int]:
    """Build models, and count what each of their nodes asked the engine."""
    builder.variables.update(DBT_LOG_LEVEL_FILE="debug", DBT_LOG_FORMAT_FILE="json")
    log = builder.path / "logs" / "dbt.log"
    log.unlink(missing_ok=True)
    run(builder, *models)
    lines = map(json.loads, log.read_text().splitlines())
    asked = [line["data"].get("conn_name") for line in lines if line["info"]["name"] == "SQLQuery"]
    return {model: asked.count(f"model.realtime_insights.{model}") for model in models}


def test_a_table_asks_little_and_less_where_nothing_is_new(
    engine: Engine, builder: Builder
) -> None:
    """Each statement is a round trip; 11 on the warehouse are the adapter's own look-ups."""
    land(builder, "k=1:u(a)@1 k=2:u(b)@1", batch_id=1)
    run(builder, "current", "history")
    land(builder, "k=1:u(c)@2", batch_id=2)
    for_a_batch = statements(builder, "current", "history")
    for_nothing = statements(builder, "current", "history")
    most = {"duckdb": (15, 2), "warehouse": (21, 2)}[engine.name]
    assert 0 < max(for_a_batch.values()) <= most[0]
    assert 0 < max(for_nothing.values()) <= most[1]


def test_a_key_tells_its_story(builder: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    land(builder, "u(a)@10 u(b)@30 k=2:u(x)@1", batch_id=1)
    run(builder, "current", "history")
    land(builder, "u(late)@20 u(B)@30 d@40", batch_id=2)
    run(builder, "current", "history")
    for table, late in (("current", "ignored"), ("history", "part of the history")):
        arguments = json.dumps({"table": table, "key": {"stream": "s", "k": 1}})
        builder.dbt("run-operation", "key_story", "--args", arguments)
        said = capsys.readouterr().out
        lines = [line.split("|") for line in said.splitlines() if line.count("|") > 5]
        story = [(cells[0].strip(), cells[2].strip(), cells[3].strip()) for cells in lines[1:]]
        assert [(sequence, outcome) for sequence, outcome, _ in story] == [
            ("10", "stood, until a newer change" if table == "current" else late),
            ("20", late),
            ("30", "replaced"),
            ("30", "stood, until a newer change" if table == "current" else late),
            ("40", "deleted the row"),
        ]
        assert story[1][2] == "it arrived late: 30 was there"
        assert f"{table} holds" in said and "and agrees with the records" in said
    builder.query("update cdc.current set _sequence = 39 where k = 1")
    arguments = json.dumps({"table": "current", "key": {"stream": "s", "k": 1}})
    builder.dbt("run-operation", "key_story", "--args", arguments)
    assert "DOES NOT agree" in capsys.readouterr().out


def test_a_key_is_asked_for_by_all_its_columns_and_never_as_sql(
    builder: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    land(builder, "u(a)@10", batch_id=1)
    run(builder, "current")
    result = builder.dbt(
        "run-operation", "key_story", "--args", "{table: current, key: {k: 1}}", check=False
    )
    assert not result.success
    assert "name a value for each of stream, k" in capsys.readouterr().out
    hostile = json.dumps({"table": "current", "key": {"stream": "x' or '1'='1", "k": 1}})
    builder.dbt("run-operation", "key_story", "--args", hostile)
    assert "holds 0 row(s)" in capsys.readouterr().out


MODEL = "{{{{ cdc_{kind}(changes=ref('stg_events'), keys=['stream', 'k'], {options}) }}}}"


@pytest.fixture
def own_model(tmp_path: Path) -> Callable[[Builder, str], None]:
    """Write the text of the model `own` into a copy of the project, which is built from then on."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    for model in project.glob("models/**/*.sql"):
        if not model.name.startswith("stg_"):
            model.unlink()
    settings = project / "dbt_project.yml"
    settings.write_text(
        settings.read_text().replace("../../../macros", str(PROJECT.parents[2] / "macros"))
    )

    def write(builder: Builder, text: str) -> None:
        builder.project = project  # type: ignore[attr-defined]  # Builders have a project.
        (project / "models" / "own.sql").write_text(text)

    return write


def refused(builder: Builder) -> str:
    """What dbt says when it refuses to build the model `own`."""
    result = run(builder, "own", check=False)
    assert not result.success
    return messages(result)


WRONG = {
    "row_01_no_key": ("keys=[], columns=['v']", "option keys: a table needs at least one key"),
    "keys_as_text": ("keys='k', columns=['v']", "write keys=['...']"),
    "row_23_both_lists": (
        "columns=['v'], except_columns=['w']",
        "option except_columns: it excludes",
    ),
    "row_23_key_left_out": ("except_columns=['k']", "option except_columns: k is a key"),
    "unknown_option": ("columns=['v'], delete_if='x'", "option delete_if: there is no such option"),
    "unknown_column": ("columns=['v'], partial=['z']", "option partial: z is not a column"),
    "ignore_null_both": (
        "columns=['v'], ignore_null_updates=['v'], ignore_null_updates_except=['v']",
        "option ignore_null_updates_except: it excludes",
    ),
    "ignore_null_and_updated_columns": (
        "columns=['v'], ignore_null_updates=true, updated_columns='sets'",
        "option updated_columns: it excludes",
    ),
    "subject_of_no_customer": (
        "columns=['v'], subject='v'",
        "option subject: it names the customer column",
    ),
    "unknown_subject": (
        "columns=['v'], subject={'customer': 'v', 'at': 'z'}",
        "option subject: z is not a column",
    ),
    "no_sequence": ("columns=['v'], sequence=[]", "option sequence: changes need an order"),
    "changes_and_snapshots": (
        "columns=['v'], snapshots=ref('stg_snapshots')",
        "option changes: a table is made of changes or of snapshots",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_row_01_row_23_a_wrong_option_is_an_error_that_names_it_and_the_fix(
    wrong: str, on_duckdb: Builder, own_model: Callable[[Builder, str], None]
) -> None:
    options, said = WRONG[wrong]
    keys = "" if "keys=" in options else "keys=['stream', 'k'], "
    own_model(on_duckdb, f"{{{{ cdc_current(changes=ref('stg_events'), {keys}{options}) }}}}")
    message = refused(on_duckdb)
    assert "model own" in message and "Fix: " in message
    assert said.lower() in message.lower()


def test_row_04_a_sequence_that_has_no_order_is_refused(
    builder: Builder, own_model: Callable[[Builder, str], None]
) -> None:
    own_model(builder, MODEL.format(kind="current", options="columns=['v'], sequence='tags'"))
    land(builder, "u(a)@1", batch_id=1)
    message = refused(builder)
    assert "option sequence: tags is of type map" in message.lower() and "Fix: " in message


def test_row_22_a_history_refuses_truncates(
    on_duckdb: Builder, own_model: Callable[[Builder, str], None]
) -> None:
    own_model(
        on_duckdb,
        MODEL.format(kind="history", options="columns=['v'], truncate_when=\"_op = 't'\""),
    )
    assert "option truncate_when: a truncate has no meaning in a history" in refused(on_duckdb)


def test_row_39_tracked_columns_are_named_one_way(
    on_duckdb: Builder, own_model: Callable[[Builder, str], None]
) -> None:
    own_model(
        on_duckdb,
        MODEL.format(kind="history", options="columns=['v'], track=['v'], track_except=['v']"),
    )
    assert "option track_except: it excludes the option track" in refused(on_duckdb)


def test_row_46_a_snapshot_that_is_older_than_the_last_is_refused(builder: Builder) -> None:
    land(builder, "k=1:u(a)@1 k=2:u(b)@1 k=1:u(a)@5", batch_id=1, feed="snapshots")
    run(builder, "current_snapshots", "history_snapshots")
    land(builder, "k=1:u(z)@3", batch_id=2, feed="snapshots")
    for table in ("current_snapshots", "history_snapshots"):
        result = run(builder, table, check=False)
        assert not result.success
        assert "snapshot 3 arrived after snapshot 5" in messages(result)
    assert current_rows(builder, "current_snapshots", "v") == {("s", 1): ("a",)}
    # The way out that the error names: all snapshots in their order.
    builder.dbt("run", "--full-refresh", "--select", "current_snapshots", "history_snapshots")
    assert versions(builder, "history_snapshots") == {
        ("s", 1): "a[1,3) z[3,5) a[5,)",
        ("s", 2): "b[1,3)",
    }


CHANGED = {
    "keys": ("current", "columns=['v'], keys=['stream']", "another keys"),
    "kind": ("history", "columns=['v'], keys=['stream', 'k']", "another kind of table"),
    "sequence": (
        "current",
        "columns=['v'], keys=['stream', 'k'], sequence='seq_text'",
        "another sequence",
    ),
    "ignored": (
        "current",
        "columns=['v'], keys=['stream', 'k'], ignore_null_updates=true",
        "another columns that a change may leave unset",
    ),
}


@pytest.mark.parametrize("change", CHANGED)
def test_row_47_a_table_that_exists_is_not_written_with_another_meaning(
    change: str, on_duckdb: Builder, own_model: Callable[[Builder, str], None]
) -> None:
    own_model(on_duckdb, MODEL.format(kind="current", options="columns=['v']"))
    land(on_duckdb, "u(a)@1", batch_id=1)
    run(on_duckdb, "own")
    kind, options, said = CHANGED[change]
    own_model(on_duckdb, f"{{{{ cdc_{kind}(changes=ref('stg_events'), {options}) }}}}")
    land(on_duckdb, "u(b)@2", batch_id=2)
    message = refused(on_duckdb)
    assert said in message and "--full-refresh" in message and "Nothing was written" in message
    assert on_duckdb.query("select v, _sequence from cdc.own") == [("a", 1)]


def test_row_47_tracked_columns_of_a_history_do_not_change(
    builder: Builder, own_model: Callable[[Builder, str], None]
) -> None:
    own_model(builder, MODEL.format(kind="history", options="columns=['v', 'w'], track=['v']"))
    land(builder, "u(a)@1", batch_id=1)
    run(builder, "own")
    own_model(builder, MODEL.format(kind="history", options="columns=['v', 'w'], track=['w']"))
    assert "another track" in refused(builder)


@pytest.mark.parametrize("kind", ["current", "history"])
def test_row_48_columns_come_and_go_and_a_changed_type_is_refused(
    kind: str, builder: Builder, own_model: Callable[[Builder, str], None]
) -> None:
    own_model(builder, MODEL.format(kind=kind, options="columns=['v']"))
    land(builder, "k=1:u(a,1)@1 k=2:u(b,2)@1", batch_id=1)
    run(builder, "own")
    # A new column is added even by a run with nothing new; rows that stand have NULL in it.
    own_model(builder, MODEL.format(kind=kind, options="columns=['v', 'w']"))
    run(builder, "own")
    assert builder.query("select k, v, w from cdc.own order by k") == [
        (1, "a", None),
        (2, "b", None),
    ]
    land(builder, "k=1:u(c,3)@2", batch_id=2)
    run(builder, "own")
    newest = "select k, v, w from cdc.own where _sequence = 2 or k = 2 order by k"
    assert builder.query(newest) == [(1, "c", 3), (2, "b", None)]
    # A vanished column stays, and is NULL in what is written from then on.
    own_model(builder, MODEL.format(kind=kind, options="columns=['w']"))
    land(builder, "k=2:u(e,5)@3", batch_id=3)
    run(builder, "own")
    assert builder.query("select v, w from cdc.own where _sequence = 3") == [(None, 5)]
    assert builder.query("select v from cdc.own where k = 1 and _sequence = 2") == [("c",)]
    if kind == "history":
        assert builder.query("select v from cdc.own where k = 2 and _sequence = 1") == [("b",)]
    # A changed type is an error, and nothing is written.
    land(builder, "k=2:u(f,6)@4", batch_id=4)
    result = run(builder, "own", check=False, type_of_w="bigint")
    assert not result.success
    message = messages(result)
    assert "column w is now of type" in message and "--full-refresh" in message
    assert builder.query("select count(*) from cdc.own where _sequence = 4") == [(0,)]


def test_a_full_refresh_that_would_lose_data_is_refused(builder: Builder) -> None:
    land(builder, "k=1:u(a)@1", batch_id=1)
    land(builder, "k=2:u(b)@2", batch_id=2)
    run(builder, "current")
    builder.forget("events", batch_id=1)  # type: ignore[attr-defined]  # Retention took batch 1.
    result = builder.dbt("run", "--full-refresh", "--select", "current", check=False)
    assert not result.success
    assert "A full refresh would lose what came before" in messages(result)
    assert len(current_rows(builder, "current")) == 2
    builder.dbt(
        *("run", "--full-refresh", "--select", "current"),
        *("--vars", "{allow_incomplete_refresh: true}"),
    )
    assert list(current_rows(builder, "current", "v").values()) == [("b",)]


def test_row_51_a_sequence_that_is_the_time_of_arrival_is_flagged(
    builder: Builder, own_model: Callable[[Builder, str], None]
) -> None:
    own_model(
        builder, MODEL.format(kind="current", options="columns=['v'], sequence='_ingested_at'")
    )
    project: Path = builder.project  # type: ignore[attr-defined]
    (project / "models" / "stg_wrong.sql").write_text(
        "select * from (select stream, k, v, _reject_reason, _ingested_at,"
        " {{ epoch_microseconds('_ingested_at') }} as _sequence from {{ ref('stg_events') }}) as e"
    )
    (project / "models" / "lint.yml").write_text(
        "models:\n"
        "  - {name: stg_wrong, data_tests: [sequence_is_not_ingestion_time]}\n"
        "  - {name: stg_events, data_tests: [sequence_is_not_ingestion_time]}\n"
    )
    (project / "tests").mkdir()
    lint = PROJECT.parents[2] / "tests" / "dbt" / "tables_are_not_ordered_by_arrival.sql"
    shutil.copy(lint, project / "tests")
    land(builder, "k=1:u(a)@1 k=2:u(b)@2", batch_id=1)
    # The pipeline is green ...
    run(builder, "own", "stg_wrong")
    # ... and the lint is not.
    result = builder.dbt("test", check=False)
    tests = [n for n in result.result.results if n.node.resource_type == "test"]
    assert {(n.node.name, str(n.status)) for n in tests} == {
        ("sequence_is_not_ingestion_time_stg_wrong_", "fail"),
        ("sequence_is_not_ingestion_time_stg_events_", "pass"),
        ("tables_are_not_ordered_by_arrival", "fail"),
    }


def test_a_table_of_a_partner_is_a_feed_and_what_becomes_visible_late_is_not_missed(
    on_duckdb: Builder, own_model: Callable[[Builder, str], None]
) -> None:
    own_model(
        on_duckdb, "{{ cdc_current(changes=ref('stg_partner'), keys=['id'], columns=['name']) }}"
    )
    project: Path = on_duckdb.project  # type: ignore[attr-defined]
    table = on_duckdb.path / "partner"  # type: ignore[attr-defined]
    (project / "models" / "partner.yml").write_text(
        "sources:\n"
        "  - name: partner\n"
        "    tables:\n"
        "      - name: members\n"
        "        config:\n"
        "          meta:\n"
        f"            external_location: \"delta_scan('{table}')\"\n"
        "            feed: {written_at: _fivetran_synced, overlap_seconds: 60}\n"
    )
    (project / "models" / "stg_partner.sql").write_text(
        "{{ fivetran_changes(source('partner', 'members'), feed='members',"
        " columns={'id': 'bigint', 'name': 'string'}, keys=['id']) }}"
    )

    def synced(second: int, rows: list[tuple[int, str]]) -> None:
        at = datetime(2026, 7, 1, 12, 0, second, tzinfo=UTC)
        records = [
            {"id": i, "name": name, "_fivetran_synced": at, "_fivetran_deleted": False}
            for i, name in rows
        ]
        write_deltalake(table, pa.Table.from_pylist(records), mode="append")

    names = "select name from cdc.own order by id"
    synced(30, [(1, "a")])
    run(on_duckdb, "own")
    # Written with an earlier time, but visible only now.
    synced(10, [(2, "late")])
    run(on_duckdb, "own")
    assert on_duckdb.query(names) == [("a",), ("late",)]
    run(on_duckdb, "own")
    assert on_duckdb.query("select max(_applied_run) from cdc.own") == [(2,)]
