"""The stand-in broker starts, answers, and is gone afterwards."""

import os
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from ingestion import standin_broker as standin


@pytest.fixture(autouse=True)
def _needs_broker(broker: str) -> None:
    """Skip where the stand-in cannot run."""


def test_it_ends_exactly_the_process_it_started_also_on_an_error(
    broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    real = standin.subprocess.Popen
    monkeypatch.setattr(
        standin.subprocess, "Popen", lambda *a, **k: started.append(real(*a, **k)) or started[0]
    )
    with pytest.raises(RuntimeError, match="boom"), standin.standin_broker(tmp_path) as address:
        assert address.startswith("127.0.0.1:")
        assert address != broker
        os.kill(started[0].pid, 0)  # it runs
        raise RuntimeError("boom")
    assert started[0].returncode is not None
    assert AdminClient({"bootstrap.servers": broker}).list_topics(timeout=10).brokers


def test_a_binary_that_cannot_run_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho this machine is too old\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(standin, "_binary", lambda: str(program))
    with (
        pytest.raises(standin.StandinUnavailableError, match="too old"),
        standin.standin_broker(tmp_path),
    ):
        pass
