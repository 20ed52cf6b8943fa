"""Apache Kafka itself: one node in KRaft mode, its jars from Maven Central."""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.components import (
    UnavailableError,
    cached_folder,
    fetch,
    free_ports,
    needed_program,
)

VERSION = "4.1.0"
_START_SECONDS = 90

_POM = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

# One node has no replicas. Retention and compaction look often enough for a test to wait for them,
# and the session of a killed broker, for which its successor waits, is short.
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
listeners={listeners}
listener.security.protocol.map={protocols}
controller.listener.names=CONTROLLER
log.dirs={data}
num.partitions=1
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
broker.heartbeat.interval.ms=300
broker.session.timeout.ms=3000
group.initial.rebalance.delay.ms=0
log.retention.check.interval.ms=300
log.initial.task.delay.ms=300
log.cleaner.backoff.ms=300
log.cleaner.dedupe.buffer.size=4194304
"""


class ApacheKafka:
    """One broker; it can be stopped and started again on the same port and data."""

    def __init__(self, folder: Path, listeners: Mapping[str, str], settings: str) -> None:
        """Format the storage in `folder`. Raise UnavailableError where something is missing.

        `listeners`: the security protocol of each that there is besides a plain one, by name.
        """
        self._java = needed_program("java")
        self._jars = cached_folder(f"kafka-{VERSION}", _fetch_jars)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._configure(listeners, settings)
        done = subprocess.run(
            [
                *self._command("kafka.tools.StorageTool"),
                *("format", "--cluster-id", "realtime-insights-test"),
                *("--config", self._settings),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UnavailableError(f"Apache Kafka cannot run: {done.stdout}{done.stderr}")

    def _configure(self, listeners: Mapping[str, str], settings: str) -> None:
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **listeners}
        ports = free_ports(len(protocols))
        self.addresses = {
            name: f"127.0.0.1:{port}" for name, port in zip(protocols, ports, strict=True)
        }
        self.address = self.addresses["PLAINTEXT"]
        self._settings = self._folder / "server.properties"
        content = _SETTINGS.format(
            listeners=",".join(f"{name}://{at}" for name, at in self.addresses.items()),
            protocols=",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            controller=self.addresses["CONTROLLER"],
            data=self._folder / "data",
        )
        self._settings.write_text(content + settings)

    def _command(self, main_class: str) -> list[str]:
        # A short life: the quick compiler and the simple collector start in half the time.
        return [
            *(self._java, "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{self._jars}/*"),
            main_class,
        ]

    def start(self) -> None:
        """Start the broker and wait until it answers."""
        log = self._folder / "broker.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._command("kafka.Kafka"), str(self._settings)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _START_SECONDS
        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        while True:
            try:
                if client.list_topics(timeout=0.5).brokers:
                    return
            except KafkaException:
                pass
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.stop()
                raise UnavailableError(
                    f"Apache Kafka {VERSION} did not start: {log.read_text()[-1000:]}"
                )

    def stop(self, *, kill: bool = False) -> None:
        """End the process that was started, in order or as a power failure would."""
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def restart(self, *, kill: bool = False) -> None:
        """Stop and start."""
        self.stop(kill=kill)
        self.start()


@contextmanager
def apache_kafka(
    folder: Path, listeners: Mapping[str, str] = MappingProxyType({}), settings: str = ""
) -> Iterator[ApacheKafka]:
    """Run a broker with its data in `folder`. Raise UnavailableError where it cannot run.

    `listeners`: name and security protocol of further ones; `settings`: further lines.
    """
    broker = ApacheKafka(folder, listeners, settings)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def _fetch_jars(folder: Path) -> None:
    maven = needed_program("mvn")
    (folder / "pom.xml").write_text(_POM)
    command = [maven, "--quiet", "--batch-mode", _COPY, f"-DoutputDirectory={folder}"]
    fetch(f"Apache Kafka {VERSION}", command, folder)
