"""The stand-in: a small broker from PyPI that takes the place of Apache Kafka in demo and tests.

It is not Apache Kafka, and whatever shows its use says so. It runs on loopback, on a port that the
system chooses, with its data in a given folder.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

# It answers a fetch with more than it was asked for: KAFKA_RECEIVE_MESSAGE_MAX_BYTES needs this.
RECEIVE_MESSAGE_MAX_BYTES = 2_147_483_647

_ADDRESS = re.compile(rb"kafka\s+(127\.0\.0\.1:\d+)")


class StandinUnavailableError(Exception):
    """The stand-in is not installed, or cannot run on this machine."""


@contextmanager
def standin_broker(data_directory: Path, timeout_seconds: float = 30) -> Iterator[str]:
    """Run the stand-in; yield its address, `127.0.0.1:port`, as soon as it answers.

    Raise StandinUnavailableError where it does not start. Ends the process that it started, and
    no other, however the block is left.
    """
    command = [_binary(), "start", "--only", "kafka", "--kafka-port", "0", "--data-dir"]
    deadline = time.monotonic() + timeout_seconds
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(  # noqa: S603 - the binary of an installed package
                [*command, str(data_directory)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise StandinUnavailableError(f"the stand-in broker cannot run: {error}") from error
        try:
            address = _wait_for_address(process, output, deadline)
            _wait_until_it_answers(address, deadline)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _binary() -> str:
    if find_spec("noida_db") is None:
        raise StandinUnavailableError("the stand-in broker (noida-db, from PyPI) is not installed")
    name = "noida-db.exe" if os.name == "nt" else "noida-db"
    path = Path(str(resources.files("noida_db") / name))
    if path.is_file() and not os.access(path, os.X_OK):
        path.chmod(0o755)  # pip does not keep the permission
    return str(path)


def _wait_for_address(process: subprocess.Popen[bytes], output: IO[bytes], deadline: float) -> str:
    """Read the port from what the broker prints when it listens."""
    while True:
        ended = process.poll() is not None
        text = os.pread(output.fileno(), 65_536, 0)
        if match := _ADDRESS.search(text):
            return match.group(1).decode()
        if ended or time.monotonic() > deadline:
            said = " ".join(text.decode(errors="replace").split()) or "nothing"
            raise StandinUnavailableError(f"the stand-in broker did not start; it said: {said}")
        time.sleep(0.02)


def _wait_until_it_answers(address: str, deadline: float) -> None:
    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    while True:
        try:
            client.list_topics(timeout=1)
            return
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise StandinUnavailableError(
                    f"the stand-in broker at {address} does not answer"
                ) from error
