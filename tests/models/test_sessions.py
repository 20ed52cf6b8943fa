"""Sessions from clicks that come late, twice and corrected: always those of all clicks at once."""

import random
from datetime import timedelta
from pathlib import Path

from tests.models.test_batches import assert_sessions_match, click_stream, customer_stream
from tests.support import oracle
from tests.support.lakehouse import Lakehouse

BATCHES = 6
CUSTOMERS = 150


def test_late_clicks_join_and_merge_sessions_in_whatever_batch_they_come(tmp_path: Path) -> None:
    rng = random.Random(20260702)
    customers = customer_stream(rng, CUSTOMERS)
    clicks = click_stream(rng, CUSTOMERS, BATCHES)
    lakehouse = Lakehouse(tmp_path)
    lakehouse.dbt("seed")
    opening: set[str] = set()
    joined = 0
    for batch in range(1, BATCHES + 1):
        lakehouse.land("customers", customers.texts(batch), batch_id=batch)
        lakehouse.land("clickstream", clicks.texts(batch), batch_id=batch)
        lakehouse.dbt("run", "--select", "+customer_sessions")
        assert_sessions_match(lakehouse, clicks, batch)

        standing = oracle.current(clicks.upto(batch)).values()
        sessions = oracle.sessions(standing, range(CUSTOMERS + 1), timedelta(minutes=30))
        followers = {click["event_id"] for session in sessions for click in session.clicks[1:]}
        joined += len(opening & followers)
        opening = {session.clicks[0]["event_id"] for session in sessions}
    # Else the batches would have proven little: sessions that stood were joined by late clicks.
    assert joined > 100

    everything = "select * from marts.customer_sessions order by all"
    in_batches = lakehouse.query(everything)
    lakehouse.dbt("run", "--select", "+customer_sessions", "--full-refresh")
    assert lakehouse.query(everything) == in_batches
