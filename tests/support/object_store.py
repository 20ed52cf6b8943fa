"""An object store on loopback that speaks S3 (moto), as a process of its own."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@contextmanager
def s3_environment() -> Iterator[dict[str, str]]:
    """Run an empty store; yield the environment under which clients find it."""
    program = Path(sys.executable).with_name("moto_server")
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        address = None
        while address is None:
            line = process.stderr.readline()
            assert line, "the object store ended"
            address = _ADDRESS.search(line)
        # It says every request: somebody has to listen, or it waits.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield {
            "AWS_ENDPOINT_URL": address.group(),
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.kill()
        process.wait()
