"""How much memory `ingest run --once` takes for one large NDJSON file, CSV file, Kafka backlog.

    make bench-ingest_memory
    make bench-ingest_memory ARGS="--gib 5 --folder /mnt/large"

What is written is removed afterwards. The target is a peak below 1 GiB, whatever the size.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from bench import common, kafka

TOPIC = "events"
PARTITIONS = 3
# The source itself; the table; and some room.
DISK_PER_BYTE = 2.5


def rows_of(kind: str, size: int) -> int:
    """Return how many rows of a kind come to `size` bytes."""
    lines = {
        "ndjson": common.json_lines(1_000),
        "csv": common.csv_lines(1_000, quoted=False),
        "kafka": common.messages(1_000),
    }[kind]
    sample = [len(line) for line in islice(lines, 1_000)]
    return size * len(sample) // sum(sample)


@contextmanager
def source(kind: str, rows: int, folder: Path) -> Iterator[common.Job]:
    """Write the rows; yield the job that is to land them."""
    if kind != "kafka":
        common.write_files(folder / "files", kind, rows, rows)
        yield common.Job(folder / "job", common.files_feed(kind, folder / "files"))
        return
    with kafka.broker(folder) as address:
        kafka.create(address, TOPIC, PARTITIONS)
        kafka.fill(address, TOPIC, common.messages(rows), PARTITIONS)
        yield common.Job(folder / "job", common.kafka_feed(TOPIC), address)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gib", type=float, default=1.5, help="size of each source")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    options = parser.parse_args()
    before, size = common.machine(), round(options.gib * common.GIB)
    results: list[dict[str, Any]] = []
    for kind in ("ndjson", "csv", "kafka"):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            free, needed = shutil.disk_usage(name).free, round(DISK_PER_BYTE * size)
            if free < needed:
                sys.exit(f"{kind}: {needed:,} bytes of disk are needed, {free:,} are free: {name}")
            rows = rows_of(kind, size)
            with source(kind, rows, Path(name)) as job:
                run = job.run_once()
                found = common.expect(job.rows(), rows, kind)
            results.append(
                {"source": kind, "source_bytes": size, "rows": found, "seconds": run.seconds}
                | {"peak_bytes": run.peak_bytes}
            )
    common.print_table(
        ("source", "GiB", "rows", "s", "peak MiB"),
        [
            (
                *(r["source"], f"{options.gib:.1f}", r["rows"], f"{r['seconds']:.1f}"),
                round(r["peak_bytes"] / common.MIB),
            )
            for r in results
        ],
    )
    common.finish("ingest_memory", before, {"results": results})


if __name__ == "__main__":
    main()
