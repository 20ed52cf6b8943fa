"""Apicurio Registry, which speaks the API of Confluent's registry: one JVM, schemas in memory."""

import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.components import (
    UnavailableError,
    cached_folder,
    fetch,
    free_ports,
    needed_program,
)

VERSION = "2.6.13.Final"  # later ones need Java 21, or lack a part in Maven Central
_UNPACK = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack"
_START_SECONDS = 90


@contextmanager
def apicurio(folder: Path) -> Iterator[str]:
    """Run a registry, its log in `folder`; yield the address of Confluent's API.

    Raise UnavailableError where it cannot run.
    """
    java = needed_program("java")
    program = cached_folder(f"apicurio-registry-{VERSION}", _fetch)
    (port,) = free_ports(1)
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(java, "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
                *("-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={port}"),
                *("-jar", program / f"apicurio-registry-app-{VERSION}-runner.jar"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        where = f"127.0.0.1:{port}/apis/ccompat/v7"
        _wait(process, where, log)
        yield f"http://{where}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], where: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://{where}/schemas/types", timeout=2).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text()[-1000:]
                raise UnavailableError(f"Apicurio Registry did not start: {said}") from None
            time.sleep(0.1)


def _fetch(folder: Path) -> None:
    maven = needed_program("mvn")
    artifact = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
    command = [maven, "--quiet", "--batch-mode", _UNPACK, f"-Dartifact={artifact}"]
    fetch(f"Apicurio Registry {VERSION}", [*command, f"-DoutputDirectory={folder}"], folder)
