"""What a batch costs the marts, beside their full build, and as history grows.

    make bench-marts
    make bench-marts ARGS="--transactions 500000 --customers 20000"

A bank of 200,000 customers with 5 M card transactions in a year is landed in bronze and built to
silver. Then all marts are built whole; a run finds nothing new; batches arrive that touch 1 % of
the customers, with transactions at any time of the history. The same with five years of history.
Each time is a process, `dbt run --select path:models/marts`; its processor time, which other load
disturbs less, and silver, which another process builds before it, are given beside. The benchmark
waits until the load average is low, and says what it was.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from bench import common
from bench.marts_data import Bank

PROJECT = common.BENCH.parent
DBT = Path(sys.executable).with_name("dbt")
SHARE = 0.01
MARTS = ("--select", "path:models/marts")
SILVER = ("--exclude", "path:models/marts")
FEEDS = [
    "customers", "accounts", "card_transactions", "checking_transactions", "loan_applications",
    "purchase_trends", "checking_acct", "clickstream", "vendor_tickets", "vendor_travel",
    "vendor_dining", "vendor_retail",
]  # fmt: skip


class Lakehouse:
    """A folder with bronze and the database, and dbt over it."""

    def __init__(self, path: Path) -> None:
        """Make the folder."""
        self.path = path
        path.mkdir(parents=True)
        output = {
            "type": "duckdb",
            "path": str(path / "insights.duckdb"),
            "schema": "main",
            "threads": 2,
            "extensions": ["delta"],
            "settings": {"TimeZone": "UTC", "threads": 2, "memory_limit": "6GB"},
        }
        profile = {"realtime_insights": {"target": "bench", "outputs": {"bench": output}}}
        (path / "profiles.yml").write_text(yaml.safe_dump(profile))
        os.environ.update(
            LAKEHOUSE_PATH=str(path),
            DBT_PROFILES_DIR=str(path),
            DBT_TARGET_PATH=str(path / "target"),
            DBT_LOG_PATH=str(path / "logs"),
        )

    def dbt(self, *arguments: str) -> common.Run:
        """Run dbt to its end, as a process of its own."""
        command = [DBT, "--quiet", *arguments, "--project-dir", PROJECT]
        return common.run(command, self.path)


def wait_for_quiet(most: float, seconds: float) -> float:
    """Wait until the load average is at most that, or the time is over; return what it is."""
    until = time.monotonic() + seconds
    while os.getloadavg()[0] > most and time.monotonic() < until:
        time.sleep(10)
    return round(os.getloadavg()[0], 2)


def measure(bank: Bank, lakehouse: Lakehouse, options: argparse.Namespace) -> dict[str, Any]:
    """Build a bank and apply batches to it."""
    bank.create(FEEDS)
    bank.land_history()
    lakehouse.dbt("seed")
    silver = lakehouse.dbt("run", *SILVER)
    load = [wait_for_quiet(options.load, options.wait)]
    full = lakehouse.dbt("run", *MARTS)
    nothing, batches, applied = [], [], []
    for _ in range(options.runs):
        bank.land_batch(SHARE)
        applied.append(lakehouse.dbt("run", *SILVER))
        load.append(wait_for_quiet(options.load, options.wait))
        batches.append(lakehouse.dbt("run", *MARTS))
        nothing.append(lakehouse.dbt("run", *MARTS))
    return {
        "transactions": bank.transactions,
        "silver_seconds": silver.seconds,
        "full_seconds": full.seconds,
        "full_processor_seconds": full.processor_seconds,
        "full_peak_bytes": full.peak_bytes,
        "start_seconds": statistics.median(run.seconds for run in nothing),
        "start_processor_seconds": statistics.median(run.processor_seconds for run in nothing),
        "batch_seconds": [run.seconds for run in batches],
        "batch_median_seconds": statistics.median(run.seconds for run in batches),
        "batch_processor_seconds": statistics.median(run.processor_seconds for run in batches),
        "silver_batch_seconds": [run.seconds for run in applied],
        "load_averages": load,
    }


def targets(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, float]]:
    """Return what is promised: its name, the most it may be, and what was measured."""
    first, last = results[0], results[-1]

    def work(result: Mapping[str, Any], of: str, unit: str) -> float:
        return float(result[f"{of}_{unit}"] - result[f"start_{unit}"])

    def ratio(above: Mapping[str, Any], below: Mapping[str, Any], of: str) -> tuple[float, float]:
        return (
            work(above, "batch_median", "seconds") / work(below, of, "seconds"),
            work(above, "batch", "processor_seconds")
            / work(below, of.removesuffix("_median"), "processor_seconds"),
        )

    lines = [
        ("full build, seconds", 60, first["full_seconds"]),
        ("full build, peak GiB", 8, first["full_peak_bytes"] / common.GIB),
    ]
    compared = [("batch / full build, without start", 0.03, ratio(first, first, "full"))]
    if last is not first:
        name = "batch on the long history / on the short one, without start"
        compared.append((name, 1.3, ratio(last, first, "batch_median")))
    for name, most, (of_time, of_processor) in compared:
        lines += [(name, most, of_time), (f"{name}, processor time", most, of_processor)]
    return lines


def as_row(result: Mapping[str, Any]) -> list[object]:
    """Return what is printed of a result."""
    names = ("silver_seconds", "full_seconds", "start_seconds", "batch_median_seconds")
    processor = ("full_processor_seconds", "start_processor_seconds", "batch_processor_seconds")
    return [
        f"{result['transactions']:,} transactions",
        *(f"{result[name]:.1f}" for name in (*names, *processor)),
        round(result["full_peak_bytes"] / common.MIB),
        f"{min(result['load_averages'])}-{max(result['load_averages'])}",
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--transactions", type=int, default=5_000_000, help="of a year")
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--years", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--load", type=float, default=0.5, help="load average to wait for")
    parser.add_argument("--wait", type=float, default=600, help="most seconds to wait for it")
    options = parser.parse_args()
    before = common.machine()
    versions = {name: version(name) for name in ("dbt-core", "dbt-duckdb", "duckdb", "deltalake")}
    results = []
    with tempfile.TemporaryDirectory() as name:
        for years in options.years:
            lakehouse = Lakehouse(Path(name) / f"{years}_years")
            bank = Bank(lakehouse.path, options.customers, options.transactions, years)
            results.append(measure(bank, lakehouse, options))
            shutil.rmtree(lakehouse.path)
    head = (
        "history", "silver s", "full s", "nothing new s", "batch s",
        "full cpu s", "nothing new cpu s", "batch cpu s", "peak MiB", "load",
    )  # fmt: skip
    common.print_table(head, [as_row(result) for result in results])
    found = targets(results)
    common.print_table(
        ("target", "at most", "is"), [(n, f"{most:.2f}", f"{is_:.3f}") for n, most, is_ in found]
    )
    common.finish(
        "marts",
        before | versions,
        {
            "customers": options.customers, "runs": options.runs,
            "results": results, "targets": found,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
