"""What many files cost: landing them, and looking for new ones where all are landed.

    make bench-ingest_listing
    make bench-ingest_listing ARGS="--files 10000"

Tiny NDJSON files of one record, in 100 folders. `nothing new` is `ingest run --once` when all of
them are landed; `one new` when one more file is there. The target is seconds, in bounded memory.
"""

import argparse
import tempfile
from pathlib import Path

from bench import common

FOLDERS = 100


def write(folder: Path, first: int, count: int) -> None:
    """Write `count` files, numbered from `first` on."""
    for number in range(first, first + count):
        path = folder / f"{number % FOLDERS:02d}" / f"{number:07d}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"transaction_id":{number}}}\n')


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    options = parser.parse_args()
    before = common.machine()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "files"
        feed = common.files_feed("ndjson", folder)
        feed["files"]["glob"] = "**/*.ndjson"
        job = common.Job(Path(name) / "job", feed)
        there = 0
        for what, count in (("all new", options.files), ("nothing new", 0), ("one new", 1)):
            write(folder, there, count)
            there += count
            run = job.run_once()
            common.expect(job.rows(), there, what)
            results.append({"what": what, "files": there, **run._asdict()})
    common.print_table(
        ("run", "files", "s", "peak MiB"),
        [
            (r["what"], r["files"], f"{r['seconds']:.1f}", round(r["peak_bytes"] / common.MIB))
            for r in results
        ],
    )
    common.finish("ingest_listing", before, {"results": results})


if __name__ == "__main__":
    main()
