"""The exporter: what it writes, exactly, and what a reader or a crash can never see."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dashboard.export import (
    CHART_LIBRARY,
    PAGE_FILES,
    REQUIRED_VIEWS,
    ExportError,
    chart_library,
    export,
    json_value,
)
from tests.dashboard.sample_views import Dashboard, sample_rows, write_database

ROOT = Path(__file__).parents[2]
GENERATED_AT = datetime(2026, 9, 30, 22, 0, tzinfo=UTC)


def exported_rows(output: Path, view: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((output / "insights.json").read_text())["views"][view]
    return rows


def run_command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dashboard.export", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("0.10"), "0.10"),
        (Decimal("9999999999999999.99"), "9999999999999999.99"),
        (Decimal("1E+3"), "1000"),
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 60, UTC), "2026-01-02T03:04:05.000060Z"),
        (
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2026-01-01T21:34:05Z",
        ),
        (date(2026, 1, 2), "2026-01-02"),
        (None, None),
        (True, True),
        (2**53 - 1, 9007199254740991),
        (2**53, "9007199254740992"),
        (-(2**53), "-9007199254740992"),
        (float("nan"), None),
        (float("-inf"), None),
        (0.5, 0.5),
    ],
)
def test_a_value_keeps_every_digit_and_its_moment_in_time(value: object, expected: object) -> None:
    converted = json_value(value)
    assert converted == expected
    assert type(converted) is type(expected)


def test_rows_reach_the_json_with_decimals_as_strings_and_timestamps_in_utc(
    dashboard: Dashboard,
) -> None:
    at = datetime(2026, 9, 30, 21, 0, 0, 123_000)
    never = ("quiet", 0, None, None, None, None)
    dashboard.export(
        freshness=[("busy", 2**60, 3, at, at, 0), never],
        cash_back_monthly=[
            (
                date(2026, 9, 1),
                *map(Decimal, ("12345678901234.56", "0.10", "0", "-0.05")),
                Decimal("-1.00"),
                Decimal("1.00"),
                3,
                1,
                True,
            )
        ],
    )  # fmt: skip - the row as it is in the view
    assert exported_rows(dashboard.output, "freshness") == [
        {
            "feed": "busy",
            "records": str(2**60),
            "last_batch_id": 3,
            "last_ingested_at": "2026-09-30T21:00:00.123000Z",
            "last_source_timestamp": "2026-09-30T21:00:00.123000Z",
            "lateness_p95_seconds": 0,
        },
        {
            "feed": "quiet",
            "records": 0,
            "last_batch_id": None,
            "last_ingested_at": None,
            "last_source_timestamp": None,
            "lateness_p95_seconds": None,
        },
    ]
    (month,) = exported_rows(dashboard.output, "cash_back_monthly")
    assert month["month"] == "2026-09-01"
    assert month["interchange_usd"] == "12345678901234.56"
    assert month["cash_back_usd"] == "0.10"
    assert month["servicing_cost_usd"] == "-0.05"


def test_a_timestamp_with_a_zone_is_written_in_utc_wherever_the_machine_is(
    dashboard: Dashboard,
) -> None:
    write_database(dashboard.database, sample_rows(3))
    with duckdb.connect(dashboard.database) as connection:
        connection.execute(
            "create view marts.dashboard_zoned as"
            " select timestamptz '2026-03-01 01:30:00+02:00' as at,"
            " cast(timestamptz '2026-03-01 01:30:00+02:00' as timestamp) as cast_at"
        )
    files = ("--database", dashboard.database, "--output", dashboard.output)
    assert run_command(*files, TZ="Asia/Kolkata").returncode == 0
    assert exported_rows(dashboard.output, "zoned") == [
        {"at": "2026-02-28T23:30:00Z", "cast_at": "2026-02-28T23:30:00Z"}
    ]


def test_every_dashboard_view_of_marts_is_exported_and_nothing_else(dashboard: Dashboard) -> None:
    write_database(dashboard.database, sample_rows(3))
    with duckdb.connect(dashboard.database) as connection:
        connection.execute("create view marts.dashboard_extra as select 1 as one")
        connection.execute("create view marts.customers as select 'private' as name")
        connection.execute("create view data.dashboard_elsewhere as select 'private' as name")
    export(dashboard.database, dashboard.output, GENERATED_AT)
    document = json.loads((dashboard.output / "insights.json").read_text())
    assert document["generated_at"] == "2026-09-30T22:00:00Z"
    assert set(document["views"]) == {*REQUIRED_VIEWS, "extra"}
    assert len(document["views"]["break_even"]) == 3


def test_the_output_is_a_whole_page_and_nothing_but_it(dashboard: Dashboard) -> None:
    dashboard.export()
    names = {path.name for path in dashboard.output.iterdir()}
    assert names == {*PAGE_FILES, CHART_LIBRARY, "insights.json", "insights.js"}
    for name in PAGE_FILES:
        assert (dashboard.output / name).read_bytes() == (ROOT / "dashboard" / name).read_bytes()


def test_the_script_holds_the_same_json_and_can_not_end_its_element(dashboard: Dashboard) -> None:
    hostile = "</script><script>alert(1)</script><!-- \u2028 \u2029 é ] }; //"
    dashboard.export(rejected=[("feed", "staging", hostile, 1, None)])
    text = (dashboard.output / "insights.json").read_text(encoding="ascii")
    script = (dashboard.output / "insights.js").read_text(encoding="ascii")
    assert script == f"window.INSIGHTS = {text.rstrip()};\n"
    assert "<" not in script
    assert exported_rows(dashboard.output, "rejected")[0]["reason"] == hostile


def test_a_reader_that_has_a_file_open_reads_the_old_one_to_its_end(dashboard: Dashboard) -> None:
    dashboard.export()
    old = (dashboard.output / "insights.json").read_text()
    with (dashboard.output / "insights.json").open() as reader:
        start = reader.read(10)
        dashboard.export(rejected=[])
        assert start + reader.read() == old
    assert exported_rows(dashboard.output, "rejected") == []


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_the_old_files_and_no_others(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    dashboard.export()
    before = {path.name: path.read_bytes() for path in dashboard.output.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(ExportError, match=r"cannot write .*: No space left on device"):
        dashboard.export(rejected=[])
    assert {path.name: path.read_bytes() for path in dashboard.output.iterdir()} == before


def test_the_chart_library_is_copied_only_when_its_size_differs(dashboard: Dashboard) -> None:
    dashboard.export()
    copied = dashboard.output / CHART_LIBRARY
    assert copied.read_bytes() == chart_library().read_bytes()
    first = copied.stat()
    dashboard.export()
    assert copied.stat().st_ino == first.st_ino
    copied.write_text("an older one")
    dashboard.export()
    assert copied.stat().st_size == first.st_size


def test_the_command_reads_and_writes_below_lakehouse_path(tmp_path: Path) -> None:
    write_database(tmp_path / "insights.duckdb", sample_rows(5))
    result = run_command(LAKEHOUSE_PATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "dashboard" / "index.html") in result.stdout
    assert len(exported_rows(tmp_path / "dashboard", "break_even")) == 5


def drop_view(database: Path) -> None:
    with duckdb.connect(database) as connection:
        connection.execute("drop view marts.dashboard_rejected")


def break_view(database: Path) -> None:
    with duckdb.connect(database) as connection:
        connection.execute("drop table data.rejected")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Path.unlink, "no database at"),
        (drop_view, "missing view marts.dashboard_rejected"),
        (break_view, "cannot read"),
        (lambda path: path.write_text("this is no database" * 999), "cannot read"),
    ],
    ids=["no database", "missing view", "view that fails", "no DuckDB file"],
)
def test_what_can_not_be_read_is_one_line_and_exit_code_2_and_nothing_is_written(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    database = tmp_path / "insights.duckdb"
    write_database(database, sample_rows(3))
    damage(database)
    result = run_command("--database", database, "--output", tmp_path / "dashboard")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert not (tmp_path / "dashboard").exists()


def test_a_database_that_is_being_written_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    database = tmp_path / "insights.duckdb"
    write_database(database, sample_rows(3))
    with duckdb.connect(database):
        result = run_command("--database", database, "--output", tmp_path / "dashboard")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert f"cannot read {database}" in result.stderr
