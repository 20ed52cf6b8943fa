"""Apache Spark with Delta Lake, as a Spark Connect server: its jars from Maven Central."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.support.components import (
    UnavailableError,
    cached_folder,
    fetch,
    free_ports,
    needed_program,
)

VERSION = "4.0.1"
DELTA_VERSION = "4.0.0"
# Not every mirror of Maven Central has 4.0.1 of what the connector to Kafka logs in with.
_LOGIN_VERSION = "4.0.0"
_START_SECONDS = 120

_POM = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>spark</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.spark</groupId><artifactId>spark-sql_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.spark</groupId><artifactId>spark-connect_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>io.delta</groupId><artifactId>delta-spark_2.13</artifactId>
      <version>{DELTA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.spark</groupId><artifactId>spark-sql-kafka-0-10_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
  <dependencyManagement>
    <dependencies>
      <dependency>
        <groupId>org.apache.spark</groupId>
        <artifactId>spark-token-provider-kafka-0-10_2.13</artifactId>
        <version>{_LOGIN_VERSION}</version>
      </dependency>
    </dependencies>
  </dependencyManagement>
</project>
"""
# The quick compiler and the simple collector: tests end before others would pay.
_SHORT_LIFE = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
# What Spark's own start script opens to it: https://github.com/apache/spark, JavaModuleOptions.
_OPENED = (
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio"),
    *("java.util", "java.util.concurrent", "java.util.concurrent.atomic", "jdk.internal.ref"),
    *("sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar"),
)
# One small machine, and tables of a few rows: no more tasks than cores, and nothing compiled or
# planned for the sake of more.
_SETTINGS = {
    "spark.master": "local[2]",
    "spark.app.name": "warehouse",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.session.timeZone": "UTC",
    # What the warehouse's newer client asks for, as that version has them.
    "spark.sql.session.localRelationSizeLimit": str(3 * 1024**3),
    "spark.sql.session.localRelationChunkSizeRows": "10000",
    "spark.sql.session.localRelationChunkSizeBytes": str(16 * 1024**2),
    "spark.sql.session.localRelationBatchOfChunksSizeBytes": str(1024**3),
    "spark.sql.execution.pandas.inferPandasDictAsMap": "false",
}


@contextmanager
def apache_spark(
    folder: Path,
    settings: Mapping[str, str] = MappingProxyType({}),
    java_options: Sequence[str] = _SHORT_LIFE,
) -> Iterator[str]:
    """Run a Spark Connect server with its files in `folder`; give its address.

    `settings`: further ones of Spark. Python's functions run in this Python. Raise UnavailableError
    where it cannot run.
    """
    java = needed_program("java")
    jars = cached_folder(f"spark-{VERSION}-delta-{DELTA_VERSION}-kafka", _fetch_jars)
    (port,) = free_ports(1)
    settings = {
        **_SETTINGS,
        **settings,
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": str(folder / "spark"),
    }
    command = [
        *(java, "-Xmx2g", *java_options, "-Djdk.reflect.useDirectMethodHandle=false"),
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
        *(f"-D{key}={value}" for key, value in settings.items()),
        *("-cp", f"{jars}/*", "org.apache.spark.sql.connect.service.SparkConnectServer"),
    ]
    log = folder / "spark.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYSPARK_PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while "Spark Connect server started" not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError(
                    f"Apache Spark {VERSION} did not start: {log.read_text()[-1000:]}"
                )
            time.sleep(0.2)
        yield f"sc://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _fetch_jars(folder: Path) -> None:
    maven = needed_program("mvn")
    (folder / "pom.xml").write_text(_POM)
    command = [maven, "--quiet", "--batch-mode", _COPY, f"-DoutputDirectory={folder}"]
    fetch(f"Apache Spark {VERSION}", command, folder)
