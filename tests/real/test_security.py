"""Each way to log in to Apache Kafka lands; a wrong secret is a wrong setting, and stays secret."""

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.ingestion.ingestion_helpers import bronze_rows
from tests.support.apache_kafka import ApacheKafka, apache_kafka
from tests.support.certificates import Authority
from tests.support.components import running
from tests.support.ingest import INGEST

NewTopic = Callable[..., str]
SECRET, WRONG = "right-horse-battery", "wr0ng-horse-battery"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
BEARER = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
NO_SIGNATURE = {"alg": "none"}
LISTENERS = {
    "PLAIN": "SASL_PLAINTEXT",
    "SCRAM": "SASL_SSL",
    "BEARER": "SASL_PLAINTEXT",
    "MTLS": "SSL",
}
# Of the mechanisms' own settings each listener has its own.
SETTINGS = """
listener.name.plain.sasl.enabled.mechanisms=PLAIN
listener.name.plain.plain.sasl.jaas.config={plain} required user_ingest="{secret}";
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config={scram} required;
listener.name.scram.ssl.keystore.type=PEM
listener.name.scram.ssl.keystore.location={keystore}
listener.name.bearer.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.bearer.oauthbearer.sasl.jaas.config={bearer} required \
unsecuredLoginStringClaim_sub="broker" unsecuredValidatorRequiredScope="{secret}";
listener.name.mtls.ssl.client.auth=required
listener.name.mtls.ssl.keystore.type=PEM
listener.name.mtls.ssl.keystore.location={keystore}
listener.name.mtls.ssl.truststore.type=PEM
listener.name.mtls.ssl.truststore.location={ca}
"""

# What a feeds file says; `${...}` are variables.
SASL_PLAIN = """
security.protocol: SASL_PLAINTEXT
sasl.mechanism: PLAIN
sasl.username: ${KAFKA_USERNAME}
sasl.password: ${KAFKA_PASSWORD}
"""
SASL_SCRAM = """
security.protocol: SASL_SSL
sasl.mechanism: SCRAM-SHA-512
sasl.username: ${KAFKA_USERNAME}
sasl.password: ${KAFKA_PASSWORD}
ssl.ca.location: ${KAFKA_CA_FILE}
"""
OAUTHBEARER = """
security.protocol: SASL_PLAINTEXT
sasl.mechanism: OAUTHBEARER
enable.sasl.oauthbearer.unsecure.jwt: true
sasl.oauthbearer.config: principal=ingest scope=${KAFKA_PASSWORD}
"""
OPENID = """
security.protocol: SASL_PLAINTEXT
sasl.mechanism: OAUTHBEARER
sasl.oauthbearer.method: oidc
sasl.oauthbearer.client.id: ${KAFKA_USERNAME}
sasl.oauthbearer.client.secret: ${KAFKA_PASSWORD}
sasl.oauthbearer.token.endpoint.url: ${KAFKA_TOKEN_URL}
"""
MTLS = """
security.protocol: SSL
ssl.ca.location: ${KAFKA_CA_FILE}
ssl.certificate.location: ${KAFKA_CERTIFICATE_FILE}
ssl.key.location: ${KAFKA_KEY_FILE}
ssl.key.password: ${KAFKA_PASSWORD}
"""
# Listener, settings, and the setting that a wrong secret is said of.
MECHANISMS = [
    pytest.param("PLAIN", SASL_PLAIN, "kafka.settings.sasl.*", id="plain"),
    pytest.param("SCRAM", SASL_SCRAM, "kafka.settings.sasl.*", id="scram"),
    pytest.param("BEARER", OAUTHBEARER, "kafka.settings.sasl.*", id="oauthbearer"),
    pytest.param("BEARER", OPENID, "kafka.settings.sasl.*", id="openid"),
    pytest.param("MTLS", MTLS, "kafka.settings", id="mtls"),
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def kafka(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """A broker with a listener for each mechanism; the plain one is for the test itself."""
    folder = tmp_path_factory.mktemp("secure-kafka")
    keystore = folder / "broker.pem"
    certificate, key = authority.issue("broker")
    keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
    settings = SETTINGS.format(
        plain=PLAIN, scram=SCRAM, bearer=BEARER, secret=SECRET, keystore=keystore, ca=authority.path
    )
    for broker in running(apache_kafka(folder, LISTENERS, settings), "Apache Kafka"):
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        user = UserScramCredentialUpsertion("ingest", info, SECRET.encode())
        client = AdminClient({"bootstrap.servers": broker.address})
        for done in client.alter_user_scram_credentials([user]).values():
            done.result()
        yield broker


@pytest.fixture(scope="module")
def broker(kafka: ApacheKafka) -> str:
    return kafka.address


@pytest.fixture(scope="module")
def token_url() -> Iterator[str]:
    """Where a service of OpenID Connect gives tokens: unsigned ones, as the broker wants them."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            login = base64.b64encode(f"ingest:{SECRET}".encode()).decode()
            known = self.headers.get("Authorization") == f"Basic {login}"
            now = time.time()
            claims = {"sub": "ingest", "iat": now, "exp": now + 600, "scope": SECRET}
            parts = [
                base64.urlsafe_b64encode(json.dumps(p).encode()) for p in (NO_SIGNATURE, claims)
            ]
            token = b".".join(part.rstrip(b"=") for part in (*parts, b"")).decode()
            answer = {"access_token": token} if known else {"error": "invalid_client"}
            self.send_response(200 if known else 401)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def env(authority: Authority, token_url: str) -> dict[str, str]:
    """The variables of a feeds file, all but the secret."""
    certificate, key = authority.issue("ingest", SECRET)
    return {
        **os.environ,
        "KAFKA_USERNAME": "ingest",
        "KAFKA_TOKEN_URL": token_url,
        "KAFKA_CA_FILE": str(authority.path),
        "KAFKA_CERTIFICATE_FILE": str(certificate),
        "KAFKA_KEY_FILE": str(key),
    }


def run(
    lakehouse: Path, servers: str, topic: str, settings: str, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    feeds = lakehouse.with_name("feeds.yml")
    lines = "".join(f"\n  {line}" for line in settings.strip().splitlines())
    feeds.write_text(
        f"kafka_settings:\n  bootstrap.servers: '{servers}'{lines}\n"
        "feeds:\n  events:\n    format: json\n"
        f"    kafka: {{topics: ['{topic}'], connect_timeout_seconds: 4}}\n"
    )
    command = [INGEST, "run", "--once", "--feeds", feeds, "--lakehouse", lakehouse]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("listener", "settings", "said"), MECHANISMS)
def test_a_feed_lands_with_what_the_variables_say(
    kafka: ApacheKafka,
    new_topic: NewTopic,
    lakehouse: Path,
    env: dict[str, str],
    listener: str,
    settings: str,
    said: str,
) -> None:
    topic = new_topic([b'{"n":1}', b'{"n":2}'])
    done = run(
        lakehouse, kafka.addresses[listener], topic, settings, {**env, "KAFKA_PASSWORD": SECRET}
    )
    assert done.returncode == 0, done.stderr
    assert [r["value"] for r in bronze_rows(lakehouse, "events")] == ['{"n":1}', '{"n":2}']


@pytest.mark.parametrize(("listener", "settings", "said"), MECHANISMS)
def test_a_wrong_secret_is_one_line_that_names_the_setting_and_not_the_secret(
    kafka: ApacheKafka,
    new_topic: NewTopic,
    lakehouse: Path,
    env: dict[str, str],
    listener: str,
    settings: str,
    said: str,
) -> None:
    topic = new_topic([b'{"n":1}'])
    done = run(
        lakehouse, kafka.addresses[listener], topic, settings, {**env, "KAFKA_PASSWORD": WRONG}
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"feed 'events': {said}: " in done.stderr
    assert WRONG not in done.stdout + done.stderr
    assert not lakehouse.exists()


@pytest.mark.parametrize("distrusted", ["KAFKA_CA_FILE", "KAFKA_CERTIFICATE_FILE"])
def test_a_certificate_that_is_not_trusted_is_a_wrong_setting(
    kafka: ApacheKafka,
    new_topic: NewTopic,
    lakehouse: Path,
    env: dict[str, str],
    tmp_path: Path,
    distrusted: str,
) -> None:
    other = Authority(tmp_path)
    certificate, key = other.issue("stranger", SECRET)
    if distrusted == "KAFKA_CA_FILE":
        env["KAFKA_CA_FILE"] = str(other.path)
    else:
        env |= {"KAFKA_CERTIFICATE_FILE": str(certificate), "KAFKA_KEY_FILE": str(key)}
    topic = new_topic([b'{"n":1}'])
    secret = {"KAFKA_PASSWORD": SECRET}
    done = run(lakehouse, kafka.addresses["MTLS"], topic, MTLS, {**env, **secret})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "feed 'events': kafka.settings.ssl.*: " in done.stderr
    assert SECRET not in done.stderr
    assert not lakehouse.exists()
