"""Run `ingest` as a user would: with a feeds file, as a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ingestion.standin_broker import RECEIVE_MESSAGE_MAX_BYTES

INGEST = Path(sys.executable).with_name("ingest")


def ingest_once(
    lakehouse: Path, feeds: Mapping[str, Any], broker: str | None = None
) -> dict[str, Any]:
    """Land what is there now for `feeds`; return what the command reports."""
    file = lakehouse / "feeds.yml"
    settings = {
        "bootstrap.servers": broker,
        "receive.message.max.bytes": RECEIVE_MESSAGE_MAX_BYTES,
    }
    content: dict[str, Any] = {"feeds": dict(feeds)}
    if broker:
        content["kafka_settings"] = settings
    file.write_text(yaml.safe_dump(content))
    done = subprocess.run(
        [INGEST, "run", "--once", "--json", "--feeds", file, "--lakehouse", lakehouse],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
