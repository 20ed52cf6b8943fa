"""How fast a topic is landed, beside a bare loop that reads it with the same client settings.

    make bench-ingest_kafka
    make bench-ingest_kafka ARGS="--messages 100000"

Both are processes, and take turns; of `start` seconds each, they do nothing but begin and end. The
target is 0.60 of the loop's rate, without the start.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import common, kafka

TOPIC = "events"
PARTITIONS = 3


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    before, wanted = common.machine(), options.messages
    done: dict[str, list[common.Run]] = {"consume(10000)": [], "ingest": []}
    starts: dict[str, list[common.Run]] = {who: [] for who in done}
    with tempfile.TemporaryDirectory() as name, kafka.broker(Path(name)) as address:
        scratch = Path(name)
        kafka.create(address, TOPIC, PARTITIONS)
        kafka.fill(address, TOPIC, common.messages(wanted), PARTITIONS)
        for _ in range(options.runs):
            job = common.Job(scratch / "run", common.kafka_feed(TOPIC), address)
            settings = kafka.client_settings(job.feeds, job.lakehouse) | {"group.id": "bare"}
            script: common.Command = [sys.executable, common.BENCH / "peers" / "consume.py", TOPIC]
            bare = common.run([*script, str(wanted), json.dumps(settings)], scratch)
            common.expect(int(bare.output), wanted, "consume(10000)")
            done["consume(10000)"].append(bare)
            starts["consume(10000)"].append(
                common.run([*script, "0", json.dumps(settings)], scratch)
            )
            done["ingest"].append(job.run_once())
            common.expect(job.rows(), wanted, "ingest")
            starts["ingest"].append(job.run_once())
    results: list[dict[str, Any]] = []
    for who, runs in done.items():
        seconds, peak = common.medians(runs)
        start, _ = common.medians(starts[who])
        rate = wanted / (seconds - start)
        bare_rate = results[0]["messages_per_second_without_start"] if results else rate
        results.append(
            {"who": who, "messages": wanted, "median_seconds": seconds, "start_seconds": start}
            | {"messages_per_second": wanted / seconds, "messages_per_second_without_start": rate}
            | {"ratio": rate / bare_rate, "peak_bytes": peak, "seconds": [r.seconds for r in runs]}
        )
    head = ("who", "messages", "s", "start s", "msg/s", "without start", "ratio", "MiB")
    common.print_table(
        head,
        [
            (
                *(r["who"], r["messages"], f"{r['median_seconds']:.2f}"),
                *(f"{r['start_seconds']:.2f}", round(r["messages_per_second"])),
                round(r["messages_per_second_without_start"]),
                *(f"{r['ratio']:.2f}", round(r["peak_bytes"] / common.MIB)),
            )
            for r in results
        ],
    )
    common.finish("ingest_kafka", before, {"runs": options.runs, "results": results})


if __name__ == "__main__":
    main()
