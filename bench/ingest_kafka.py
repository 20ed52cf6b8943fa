"""How fast a topic is landed, beside a bare loop that reads it and keeps nothing.

    make bench-ingest_kafka
    make bench-ingest_kafka ARGS="--messages 100000"

The loop runs twice: with the client's own defaults, and with the job's settings, of which a short
fetch.queue.backoff.ms makes the difference. All are processes, and take turns; for `start` seconds
each does nothing but begin and end. The target is 0.60 of the loop's rate, without the start.
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
DEFAULTS, TUNED = "consume(10000), defaults", "consume(10000), our settings"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    before, wanted = common.machine(), options.messages
    done: dict[str, list[common.Run]] = {DEFAULTS: [], TUNED: [], "ingest": []}
    starts: dict[str, list[common.Run]] = {who: [] for who in done}
    with tempfile.TemporaryDirectory() as name, kafka.broker(Path(name)) as address:
        scratch = Path(name)
        kafka.create(address, TOPIC, PARTITIONS)
        kafka.fill(address, TOPIC, common.messages(wanted), PARTITIONS)
        for _ in range(options.runs):
            job = common.Job(scratch / "run", common.kafka_feed(TOPIC), address)
            ours = kafka.client_settings(job.feeds, job.lakehouse)
            script: common.Command = [sys.executable, common.BENCH / "peers" / "consume.py", TOPIC]
            for who, settings in ((DEFAULTS, {"bootstrap.servers": address}), (TUNED, ours)):
                given = json.dumps(settings | {"group.id": "bare"})
                bare = common.run([*script, str(wanted), given], scratch)
                common.expect(int(bare.output), wanted, who)
                done[who].append(bare)
                starts[who].append(common.run([*script, "0", given], scratch))
            done["ingest"].append(job.run_once())
            common.expect(job.rows(), wanted, "ingest")
            starts["ingest"].append(job.run_once())
    results: list[dict[str, Any]] = []
    rates: dict[str, float] = {}
    for who, runs in done.items():
        seconds, peak = common.medians(runs)
        start, _ = common.medians(starts[who])
        rate = wanted / (seconds - start)
        rates[who] = rate
        results.append(
            {"who": who, "messages": wanted, "median_seconds": seconds, "start_seconds": start}
            | {"messages_per_second": wanted / seconds, "messages_per_second_without_start": rate}
            | {"of_defaults": rate / rates[DEFAULTS], "of_tuned": rate / rates.get(TUNED, rate)}
            | {"peak_bytes": peak, "seconds": [r.seconds for r in runs]}
        )
    head = ("who", "messages", "s", "start s", "msg/s", "without start")
    head += ("of defaults", "of our settings", "MiB")
    common.print_table(
        head,
        [
            (
                *(r["who"], r["messages"], f"{r['median_seconds']:.2f}"),
                *(f"{r['start_seconds']:.2f}", round(r["messages_per_second"])),
                round(r["messages_per_second_without_start"]),
                *(f"{r['of_defaults']:.2f}", f"{r['of_tuned']:.2f}"),
                round(r["peak_bytes"] / common.MIB),
            )
            for r in results
        ],
    )
    common.finish("ingest_kafka", before, {"runs": options.runs, "results": results})


if __name__ == "__main__":
    main()
