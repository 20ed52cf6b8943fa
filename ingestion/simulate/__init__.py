"""A seeded bank simulator: the same arguments always give the same bytes.

`deliveries` iterates over what arrives, `run` sends it to a sink, `truth` says what must come out.
"""

from ingestion.simulate.bank import Settings
from ingestion.simulate.imperfections import NONE, Imperfections
from ingestion.simulate.records import FEEDS, TOPICS, VENDORS, Delivery, Record, VendorFile
from ingestion.simulate.simulation import Part, Report, deliveries, run, truth, undisturbed
from ingestion.simulate.sinks import JsonLines, Kafka, Sink, SinkError

__all__ = [
    "FEEDS",
    "NONE",
    "TOPICS",
    "VENDORS",
    "Delivery",
    "Imperfections",
    "JsonLines",
    "Kafka",
    "Part",
    "Record",
    "Report",
    "Settings",
    "Sink",
    "SinkError",
    "VendorFile",
    "deliveries",
    "run",
    "truth",
    "undisturbed",
]
