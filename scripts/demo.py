"""The demo: simulated changes and files to a dashboard page, in two waves, with a summary.

Everything is made anew under LAKEHOUSE_PATH, which must be absent, empty or an earlier demo's.
Apache Kafka is used where KAFKA_BOOTSTRAP_SERVERS names it; else a small broker from PyPI stands in
for it while the demo runs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.artifacts.schemas.run import RunExecutionResult
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest

from ingestion.standin_broker import (
    RECEIVE_MESSAGE_MAX_BYTES,
    StandinUnavailableError,
    standin_broker,
)

PROJECT = Path(__file__).resolve().parents[1]
MARKER = ".demo"
BANK = ("--customers", "400", "--days", "120")
WAVES = 2
CUSTOMER = (
    "customer_id, full_name, total_balance_usd, segment, engagement_level as engagement,"
    " engagement_trend as trend, top_preference as likes, cash_back_programme as programme,"
    " net_to_date_usd, is_cash_back_loss as loses"
)
# Marts of which the summary shows five rows: which columns, in which order.
HEADLINES = {
    "customer_engagement": (
        "customer_id, number_of_online_txns, engagement_level, engagement_trend",
        "customer_id",
    ),
    "customer_lifetime": (
        "customer_id, lifetime_days, net_to_date_usd, net_per_month_usd",
        "lifetime_days desc, customer_id",
    ),
    "customer_preferences": (
        "customer_id, category, preference_rank, events, spend_usd, spend_share_pct, trend",
        "spend_usd desc, customer_id",
    ),
    "personalized_offers": (
        "customer_id, offer_rank, title, value_usd, valid_until_date, reason",
        "triggered_at desc, customer_id, offer_rank",
    ),
    "cash_back_monthly": (
        "customer_id, month, programme, spend_usd, interchange_usd, cash_back_usd,"
        " monthly_fee_usd, servicing_cost_usd, net_usd",
        "net_usd, customer_id",
    ),
    "cash_back_break_even": (
        "customer_id, programme, months, average_monthly_spend_usd, break_even_spend_usd,"
        " distance_usd, break_even_status",
        "distance_usd, customer_id",
    ),
}


def main() -> int:
    """Run the demo; return the exit code."""
    started = time.monotonic()
    lakehouse = Path(os.environ.get("LAKEHOUSE_PATH", "lakehouse")).resolve()
    os.environ["LAKEHOUSE_PATH"] = str(lakehouse)
    os.chdir(PROJECT)
    _make_room(lakehouse)
    try:
        with _broker() as name:
            _say(f"Kafka: {name}")
            for wave in range(1, WAVES + 1):
                _wave(wave)
    except StandinUnavailableError as error:
        sys.exit(f"demo: {error}; name a broker with KAFKA_BOOTSTRAP_SERVERS")
    _run("python", "-m", "dashboard.export")
    _summary(lakehouse)
    print(f"\nDone in {time.monotonic() - started:.0f} s.")
    return 0


def _make_room(lakehouse: Path) -> None:
    """Empty the folder, if nothing but an earlier demo is in it."""
    if lakehouse.exists() and any(lakehouse.iterdir()) and not (lakehouse / MARKER).exists():
        sys.exit(
            f"demo: {lakehouse} holds a lakehouse that no demo made, and the demo starts from "
            "nothing: set LAKEHOUSE_PATH to another folder"
        )
    shutil.rmtree(lakehouse, ignore_errors=True)
    lakehouse.mkdir(parents=True)
    (lakehouse / MARKER).write_text("Made by `make demo`, which deletes this folder each time.\n")


@contextmanager
def _broker() -> Iterator[str]:
    """Name the broker to use, and set what the commands need to find it."""
    if named := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield named
        return
    with tempfile.TemporaryDirectory() as data, standin_broker(Path(data)) as address:
        os.environ["KAFKA_BOOTSTRAP_SERVERS"] = address
        os.environ["KAFKA_RECEIVE_MESSAGE_MAX_BYTES"] = str(RECEIVE_MESSAGE_MAX_BYTES)
        yield "a stand-in from PyPI (set KAFKA_BOOTSTRAP_SERVERS to use Apache Kafka)"


def _wave(wave: int) -> None:
    """Simulate a part of what arrives, land it, build the models."""
    print(f"\nWave {wave} of {WAVES}", flush=True)
    simulated = json.loads(_run("ingest", "simulate", *BANK, "--part", f"{wave}/{WAVES}", "--json"))
    flaws = Counter(simulated["imperfections"])
    malformed = sum(count for flaw, count in flaws.items() if flaw.startswith("mal"))
    _say(
        f"simulated {simulated['records']:,} records: {flaws['late']:,} late, "
        f"{flaws['out_of_order']:,} out of order, {flaws['duplicate']:,} duplicate, "
        f"{malformed:,} malformed, {sum(simulated['deleted'].values()):,} deletes"
    )
    landed = json.loads(_run("ingest", "run", "--once", "--json"))
    _say(f"landed {landed['landed']:,} in bronze, {landed['rejected']:,} in quarantine")
    _dbt_build(tested=wave == WAVES)


def _dbt_build(*, tested: bool) -> None:
    """Build every model, and test it if asked to; end where something fails."""
    started = time.monotonic()
    tests = () if tested else ("--exclude-resource-type", "test", "unit_test")
    result = dbtRunner(_manifest()).invoke(["--quiet", "build", *tests])
    # Else dbt keeps the database open, and no other process can read it.
    DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]  # not typed
    if not result.success or not isinstance(result.result, RunExecutionResult):
        sys.exit(f"demo: dbt build failed: {result.exception or 'see above'}")
    kinds = Counter(str(node.node.resource_type) for node in result.result.results)
    passed = f", {kinds['test'] + kinds['unit_test']} tests passed" if tested else ""
    _say(f"dbt build: {kinds['model']} models{passed} ({time.monotonic() - started:.0f} s)")


@cache
def _manifest() -> Manifest:
    """The parsed project: read once, because that takes seconds."""
    result = dbtRunner().invoke(["--quiet", "parse"])
    if not isinstance(result.result, Manifest):
        sys.exit(f"demo: dbt parse failed: {result.exception}")
    return result.result


def _run(command: str, *arguments: str) -> str:
    """Run a command of the environment, return its output; end if it fails, with its message."""
    done = subprocess.run(  # noqa: S603 - our own commands
        [Path(sys.executable).with_name(command), *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout)
        sys.exit(f"demo: {command} {' '.join(arguments[:2])} failed")
    return done.stdout


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


def _summary(lakehouse: Path) -> None:
    with duckdb.connect(str(lakehouse / "insights.duckdb"), read_only=True) as connection:
        connection.execute("load delta")

        def show(title: str, sql: str) -> None:
            print(f"\n{title}")
            cursor = connection.execute(sql)
            _print_table([column[0] for column in cursor.description or ()], cursor.fetchall())

        show(
            "Landed in bronze (without Kafka tombstones; late: a day or more after it happened)",
            "select feed, records, last_batch_id, late_records"
            " from observability.feed_freshness order by feed",
        )
        show(
            "Rejected, and why",
            "select reason, stage, count(*) as feeds, sum(records) as records"
            " from observability.quarantine_summary group by all order by records desc, reason",
        )
        show(
            "Segments: what customers do with their cards, and what to do about it",
            "select segment, count(*) as customers, sum(spend_usd) as spend_90_days_usd,"
            " (select min(meaning) from seeds.segment_rules r where r.segment = s.segment)"
            " as meaning from marts.customer_segments s group by all"
            " order by spend_90_days_usd desc",
        )
        show(
            "Who brought the bank most, and who cost it most (marts.customer_360)",
            f"select {CUSTOMER} from marts.customer_360"  # noqa: S608 - a constant
            " qualify row_number() over (order by net_to_date_usd desc, customer_id) <= 3"
            " or row_number() over (order by net_to_date_usd, customer_id) <= 3"
            " order by net_to_date_usd desc, customer_id",
        )
        for mart, (columns, order) in HEADLINES.items():
            show(f"marts.{mart}", f"select {columns} from marts.{mart} order by {order} limit 5")  # noqa: S608 - constants above
    packages = json.loads((PROJECT / "dbt_packages" / ".installed").read_text())["packages"]
    print(f"\ndbt packages: {packages}")
    print(f"Tables:       {lakehouse / 'insights.duckdb'}")
    print(f"Dashboard:    {lakehouse / 'dashboard' / 'index.html'}  (open it in a browser)")


def _print_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print columns, numbers to the right, times to the second."""
    numeric = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(head))]
    lines = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        )
        print(("  " + "  ".join(cells)).rstrip())


def _is_number(value: Any) -> bool:
    return value is None or (not isinstance(value, bool) and hasattr(value, "__abs__"))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return str(value).split(".")[0] if hasattr(value, "tzinfo") else str(value)


if __name__ == "__main__":
    sys.exit(main())
