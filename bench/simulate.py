"""How fast the simulator writes: events per second into a folder, as a process of its own.

    make bench-simulate

Prints a table and writes bench/results/simulate.json with the machine and the medians.
"""

import json
import statistics
import subprocess
import tempfile
import time

from bench import common

RUNS = 5
SIZES = ((400, 120), (2000, 180))


def main() -> None:
    """Run each size RUNS times and report medians."""
    before, results = common.machine(), []
    print(f"{'customers':>10}{'days':>6}{'events':>10}{'median s':>10}{'events/s':>10}")
    for customers, days in SIZES:
        seconds = []
        for _ in range(RUNS):
            with tempfile.TemporaryDirectory() as folder:
                size = ("--customers", str(customers), "--days", str(days), "--json")
                to = ("--topics-to", f"{folder}/topics", "--landing", f"{folder}/landing")
                started = time.perf_counter()
                done = subprocess.run(  # noqa: S603 - our own command
                    [common.INGEST, "simulate", *size, *to], stdout=subprocess.PIPE, check=True
                )
                seconds.append(time.perf_counter() - started)
                events = json.loads(done.stdout)["records"]
        median = statistics.median(seconds)
        rate = round(events / median)
        results.append(
            {"customers": customers, "days": days, "events": events, "seconds": seconds}
            | {"median_seconds": median, "events_per_second": rate}
        )
        print(f"{customers:>10,}{days:>6}{events:>10,}{median:>10.2f}{rate:>10,}")
    common.finish("simulate", before, {"runs": RUNS, "results": results})


if __name__ == "__main__":
    main()
