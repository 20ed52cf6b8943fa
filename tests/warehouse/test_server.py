"""The warehouse as a process: loopback only, and gone with who started it."""

import json
import socket
import subprocess
import sys
import time

from tests.support.lakehouse import PROJECT
from tests.support.warehouse import Warehouse

_PARENT = """
import json, sys
from tests.support.warehouse import running_warehouse
with running_warehouse() as running:
    print(json.dumps(running.port), flush=True)
    sys.stdin.read()
"""


def listens(port: int, address: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_the_server_ends_with_its_parent_even_if_that_is_killed(warehouse: Warehouse) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdin is not None and parent.stdout is not None
    try:
        port = json.loads(parent.stdout.readline())
        assert listens(port)
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 30
    while listens(port):
        assert time.monotonic() < deadline, "the server outlives its parent"


def test_it_listens_on_loopback_only(warehouse: Warehouse) -> None:
    assert listens(warehouse.port)
    # Another loopback address shows what any address of a network would: nobody is there.
    assert not listens(warehouse.port, "127.0.0.2")
