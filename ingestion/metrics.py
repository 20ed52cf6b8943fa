"""What a continuous run tells Prometheus, over a small HTTP server that is off unless asked for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial

import prometheus_client as prometheus

from ingestion.bronze import BatchResult, TopicPartition

# No second series for each counter, which would only say when the process began.
prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # so declared there


class Metrics:
    """Counts since the process began. Feeds write from their threads, the server reads."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = registry = prometheus.CollectorRegistry()
        counter = partial(prometheus.Counter, labelnames=("feed",), registry=registry)
        gauge = partial(prometheus.Gauge, registry=registry)
        self._rows = counter("ingest_rows", "Records landed in bronze.")
        self._rejects = counter("ingest_quarantined", "Records put into quarantine.")
        self._bytes = counter("ingest_bytes", "Bytes of both, uncompressed.")
        self._batches = counter("ingest_batches", "Batches committed.")
        self._seconds = counter("ingest_batch_seconds", "Seconds for writing and committing them.")
        at = "ingest_last_commit_timestamp_seconds"
        self._committed = gauge(at, "When the last batch was committed.", ("feed",))
        self._up = gauge("ingest_up", "1 while the feed is read, 0 before a next try.", ("feed",))
        place = ("feed", "topic", "partition")
        self._lag = gauge("ingest_lag", "Offsets between what was read and the end.", place)

    @contextmanager
    def up(self, feed: str) -> Iterator[None]:
        """Show the feed as being read."""
        self._up.labels(feed).set(1)
        try:
            yield
        finally:
            self._up.labels(feed).set(0)

    def add(self, feed: str, batch: BatchResult, at: datetime) -> None:
        """Count a batch."""
        self._rows.labels(feed).inc(batch.landed)
        self._rejects.labels(feed).inc(batch.rejected)
        self._bytes.labels(feed).inc(batch.bytes)
        self._batches.labels(feed).inc()
        self._seconds.labels(feed).inc(batch.seconds)
        self._committed.labels(feed).set(at.timestamp())

    def lag(self, feed: str, lags: Mapping[TopicPartition, int]) -> None:
        """Note how far a feed is behind, by partition."""
        for at, lag in lags.items():
            self._lag.labels(feed, at.topic, at.partition).set(lag)

    def text(self) -> str:
        """Return everything in Prometheus' text format."""
        return prometheus.generate_latest(self.registry).decode()


@contextmanager
def serve(metrics: Metrics, port: int) -> Iterator[int]:
    """Answer GET /metrics on loopback; yield the port (given as 0: one that the system chooses).

    Raise OSError where the address cannot be had.
    """
    server, thread = prometheus.start_http_server(port, "127.0.0.1", metrics.registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
