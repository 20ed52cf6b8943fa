"""What a continuous run tells Prometheus, over a small HTTP server that is off unless asked for."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ingestion.bronze import BatchResult, TopicPartition

# name -> (type, meaning); all are by feed, the lag also by topic and partition.
_METRICS = {
    "ingest_rows_total": ("counter", "Records landed in bronze."),
    "ingest_quarantined_total": ("counter", "Records put into quarantine."),
    "ingest_bytes_total": ("counter", "Bytes of landed and quarantined records, uncompressed."),
    "ingest_batches_total": ("counter", "Batches committed."),
    "ingest_batch_seconds_total": ("counter", "Seconds spent writing and committing batches."),
    "ingest_last_commit_timestamp_seconds": ("gauge", "When the last batch was committed."),
    "ingest_up": ("gauge", "1 while the feed is read, 0 while it waits to be tried again."),
    "ingest_lag": ("gauge", "Offsets between what was read and the end of a partition."),
}


class Metrics:
    """Counts since the process began. Feeds write from their threads, the server reads."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._lock = threading.Lock()
        self._values: defaultdict[str, defaultdict[str, float]] = defaultdict(
            lambda: defaultdict(float)
        )

    @contextmanager
    def up(self, feed: str) -> Iterator[None]:
        """Show the feed as being read."""
        self._set("ingest_up", feed, 1)
        try:
            yield
        finally:
            self._set("ingest_up", feed, 0)

    def _set(self, metric: str, feed: str, value: float) -> None:
        with self._lock:
            self._values[metric][_label(feed=feed)] = value

    def add(self, feed: str, batch: BatchResult, at: datetime) -> None:
        """Count a batch."""
        label = _label(feed=feed)
        with self._lock:
            for metric, value in (
                ("ingest_rows_total", batch.landed),
                ("ingest_quarantined_total", batch.rejected),
                ("ingest_bytes_total", batch.bytes),
                ("ingest_batches_total", 1),
                ("ingest_batch_seconds_total", batch.seconds),
            ):
                self._values[metric][label] += value
        self._set("ingest_last_commit_timestamp_seconds", feed, at.timestamp())

    def lag(self, feed: str, lags: Mapping[TopicPartition, int]) -> None:
        """Note how far a feed is behind, by partition."""
        with self._lock:
            for at, lag in lags.items():
                label = _label(feed=feed, topic=at.topic, partition=str(at.partition))
                self._values["ingest_lag"][label] = lag

    def text(self) -> str:
        """Return everything in Prometheus' text format."""
        lines = []
        with self._lock:
            for metric, (kind, meaning) in _METRICS.items():
                lines += [f"# HELP {metric} {meaning}", f"# TYPE {metric} {kind}"]
                found = self._values[metric].items()
                lines += [f"{metric}{label} {value:.17g}" for label, value in sorted(found)]
        return "\n".join(lines) + "\n"


def _label(**labels: str) -> str:
    """Return labels in Prometheus' form; no name of a feed or topic holds a quote."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


@contextmanager
def serve(metrics: Metrics, port: int, host: str = "127.0.0.1") -> Iterator[int]:
    """Answer GET /metrics; yield the port (given as 0: one that the system chooses).

    Raise OSError where the address cannot be had.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/metrics"
            body = metrics.text().encode() if known else b"see /metrics\n"
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: one line per scrape would hide the batches."""

    with ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
