"""dlt: files to a Delta table. Arguments: arrow or default, csv or ndjson, the folder, the target.

Runs in an environment of its own (see ingest_files.py). `arrow`: record batches as pyarrow reads
them; `default`: rows as dictionaries, by dlt's own readers. Without a folder nothing is done.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
from dlt.sources.filesystem import filesystem, read_csv, read_jsonl


def record_batches(kind: str, folder: str) -> Iterator[pa.Table]:
    """Yield the files' rows."""
    for path in sorted(Path(folder).glob(f"*.{kind}")):
        if kind == "csv":
            with pyarrow.csv.open_csv(path) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch])
        else:
            yield pyarrow.json.read_json(path)


def main(way: str, kind: str, folder: str, target: str) -> None:
    """Load the files into `target`/bench/events."""
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=f"{target}/state",
        destination=dlt.destinations.filesystem(bucket_url=Path(target).as_uri()),
        dataset_name="bench",
    )
    resource: Any
    if way == "arrow":
        resource = dlt.resource(record_batches(kind, folder), name="events")
    else:
        files = filesystem(bucket_url=Path(folder).as_uri(), file_glob=f"*.{kind}")
        read = read_csv() if kind == "csv" else read_jsonl()
        resource = (files | read).with_name("events")
    pipeline.run(resource, table_name="events", table_format="delta", write_disposition="append")


if __name__ == "__main__" and len(sys.argv) > 2:
    main(*sys.argv[1:])
