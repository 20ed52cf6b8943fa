"""Debian's PostgreSQL as a change-data-capture source: logical decoding on, on loopback."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.support.components import UnavailableError, free_ports, needed_program

USER = "postgres"
_START_SECONDS = 60
# It lives for a test: nothing of it has to survive a power failure.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "fsync": "off",
    "max_connections": "20",
    "shared_buffers": "32MB",
    "timezone": "UTC",
}


class Postgres:
    """A running server; its superuser needs no password from loopback."""

    def __init__(self, port: int, psql: str) -> None:
        self.port, self._psql = port, psql

    def execute(self, sql: str) -> str:
        """Run statements, each in a transaction of its own; return what they print."""
        command = [self._psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER]
        done = subprocess.run(
            [*command, *place], input=sql, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return `select *` of a table as JSON values, numbers with a point as decimals."""
        lines = self.execute(f"select row_to_json(t) from (select * from {table}) as t;")
        return [json.loads(line, parse_float=Decimal) for line in lines.splitlines()]


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server in a temporary folder. Raise UnavailableError where it cannot run.

    PostgreSQL refuses to run as root, so root runs it as the user of its package.
    """
    initdb, server, psql = map(needed_program, ("initdb", "postgres", "psql"))
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    as_user: dict[str, Any] = {"cwd": folder}
    if os.getuid() == 0:
        owner = _unprivileged()
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_user |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    process = None
    try:
        data = folder / "data"
        done = subprocess.run(
            [initdb, "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N"],
            capture_output=True,
            text=True,
            check=False,
            **as_user,
        )
        if done.returncode:
            raise UnavailableError(f"PostgreSQL cannot run: {done.stderr}")
        (port,) = free_ports(1)
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        log = folder / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [server, "-D", data, "-p", str(port), *settings],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **as_user,
            )
        running = Postgres(port, psql)
        _wait_until_it_answers(running, process, log)
        yield running
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # its fast shutdown: waits for no client
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> pwd.struct_passwd:
    for name in (USER, "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise UnavailableError("PostgreSQL cannot run as root, and there is no user postgres")


def _wait_until_it_answers(running: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            running.execute("select 1;")
            return
        except RuntimeError:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text()[-1000:]
                raise UnavailableError(f"PostgreSQL did not start: {said}") from None
