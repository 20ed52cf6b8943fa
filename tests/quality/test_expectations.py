"""What expectations do with records, from a declaration in YAML to silver: warn, drop, fail."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cdc.engines import ENGINES, Engine
from tests.cdc.lab import Builder
from tests.quality.project import VARIABLES, copied_project, replace
from tests.support.lakehouse import FEEDS, Lakehouse, envelope

Row = tuple[Any, ...]
BANK = Path("models") / "staging" / "bank" / "_bank.yml"
# What is built of card transactions, by every macro that applies changes.
STOPPED = {"card_transactions_state", "card_transactions_known_state"}
PLAUSIBLE = "coalesce(amount_usd, 0) < 1000000\n            on_violation: "


@pytest.fixture(scope="module", params=ENGINES, ids=lambda engine: engine.__name__)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with request.param() as running:
        yield running


def transaction(number: int, op: str = "c", **changed: Any) -> str:
    """A card transaction that keeps every rule, but for what is changed."""
    row = {
        "transaction_id": number,
        "account_id": 1,
        "customer_id": 1,
        "transaction_type": "purchase",
        "original_transaction_id": None,
        "merchant_name": "Shop",
        "merchant_category_code": "5812",
        "amount": "10.00",
        "currency": "USD",
        "transacted_at": 1_780_000_000_000_000,
        "updated_at": 1_780_000_000_000_000,
    }
    return envelope(op, {"transaction_id": number} if op == "d" else {**row, **changed}, number)


def customer(number: int) -> str:
    row = {"customer_id": number, "status": "active", "created_at": 1, "updated_at": 2}
    return envelope("c", row, number)


FIRST = [
    transaction(1),
    transaction(2, currency="EUR"),
    transaction(3, currency="EUR", amount="-1.00", merchant_category_code="58"),
    transaction(4, merchant_category_code="58"),
    transaction(5, currency=None),
    transaction(6, amount="much"),
    transaction(7, op="d"),
    "{cut off",
]


@dataclass
class Seen:
    """What there was after a run."""

    messages: dict[str, str]
    silver: list[Row]
    customers: list[Row]
    rejected: list[Row]
    flagged: list[Row]
    metrics: dict[str, Row]
    quarantined: list[Row]


@dataclass
class Story:
    """One lakehouse through several runs."""

    builder: Builder
    project: Path
    runs: int = 0

    def run(self, *arguments: str) -> Seen:
        """Build the feeds of the tests, and see what became of them."""
        self.runs += 1
        views = () if self.runs == 1 else ("--exclude", "path:models/staging/vendors")
        selected = (
            *("+card_transactions", "card_transactions_known_state", "+customers"),
            *("+data_quality_metrics", "rejected_changes"),
        )
        done = self.builder.dbt("run", *arguments, "--select", *selected, *views, check=False)
        query = self.builder.query
        number = query("select max(run_number) from observability.run_windows")[0][0]
        return Seen(
            messages={r.node.name: str(r.message) for r in done.result if r.status == "error"},
            silver=query(
                "select transaction_id, amount_usd from silver.card_transactions order by 1"
            ),
            customers=query("select customer_id from silver.customers order by 1"),
            rejected=query(
                "select source_position, reason, broken_rules from observability.rejected_changes"
                " where feed = 'card_transactions' order by 1"
            ),
            flagged=query(
                "select source_position, broken_rules, stops_feed"
                " from observability.flagged_changes where reason is null order by 1"
            ),
            metrics={
                rule: tuple(counts)
                for rule, *counts in query(
                    "select rule, is_applied, first_batch_id, last_batch_id, judged, passed,"
                    " warned, dropped, failed from observability.data_quality_metrics"
                    f" where feed = 'card_transactions' and run_number = {number}"
                )
            },
            quarantined=query(
                "select status, quarantined from observability.cdc_log"
                f" where model = 'card_transactions_state' and run_number = {number}"
            ),
        )

    def set_plausible_amount(self, before: str, after: str) -> None:
        """Give the rule `plausible_amount` another action, where it is declared."""
        replace(self.project / BANK, PLAUSIBLE + before, PLAUSIBLE + after)


@dataclass
class Chapters:
    """The same lakehouse after each run."""

    first: Seen
    stopped: Seen
    still_stopped: Seen
    relaxed: Seen
    refreshed: Seen
    refused: Seen


@pytest.fixture(scope="module")
def chapters(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Chapters:
    project = copied_project(tmp_path_factory.mktemp("project"))
    story = Story(engine.new(project=project, feeds=FEEDS, variables=dict(VARIABLES)), project)
    story.builder.dbt("seed")
    land = story.builder.land
    land("card_transactions", FIRST, batch_id=1)
    land("customers", [customer(1)], batch_id=1)
    first = story.run()
    land("card_transactions", [transaction(10), transaction(11, amount="2000000.00")], batch_id=2)
    land("customers", [customer(2)], batch_id=2)
    stopped = story.run()
    land("card_transactions", [transaction(12)], batch_id=3)
    still_stopped = story.run()
    story.set_plausible_amount("fail", "drop")
    relaxed = story.run()
    refreshed = story.run("--full-refresh")
    story.set_plausible_amount("drop", "fail")
    refused = story.run("--full-refresh")
    return Chapters(first, stopped, still_stopped, relaxed, refreshed, refused)


def test_drop_keeps_a_record_out_of_silver_and_says_every_rule_that_it_broke(
    chapters: Chapters,
) -> None:
    seen = chapters.first
    assert seen.messages == {}
    assert [number for number, _ in seen.silver] == [1, 4]
    assert seen.rejected == [
        (1, "breaks us_dollars", "us_dollars"),
        (
            2,
            "breaks us_dollars, positive_amount",
            "us_dollars,positive_amount,category_of_four_digits",
        ),
        # NULL is not US dollars: what is not known to be good is not good.
        (4, "breaks us_dollars", "us_dollars"),
        (5, "amount is not of type decimal(18,2)", None),
        (7, "not a JSON document", None),
    ]
    assert seen.quarantined == [("success", 5)]


def test_warn_counts_a_record_and_lets_it_pass(chapters: Chapters) -> None:
    seen = chapters.first
    assert seen.flagged == [(3, "category_of_four_digits", False)]
    assert seen.metrics["category_of_four_digits"] == (True, 1, 1, 5, 3, 2, 0, 0)


def test_metrics_count_what_was_judged_and_nothing_else(chapters: Chapters) -> None:
    # Five are judged: not the delete, not the two that cannot be read.
    assert chapters.first.metrics == {
        "us_dollars": (True, 1, 1, 5, 2, 0, 3, 0),
        "positive_amount": (True, 1, 1, 5, 4, 0, 1, 0),
        "has_customer": (True, 1, 1, 5, 5, 0, 0, 0),
        "known_type": (True, 1, 1, 5, 5, 0, 0, 0),
        "plausible_amount": (True, 1, 1, 5, 5, 0, 0, 0),
        "names_its_purchase": (True, 1, 1, 5, 5, 0, 0, 0),
        "category_of_four_digits": (True, 1, 1, 5, 3, 2, 0, 0),
        "plausible_time": (True, 1, 1, 5, 5, 0, 0, 0),
    }


def test_fail_stops_its_feed_before_anything_is_written_and_no_other(chapters: Chapters) -> None:
    seen = chapters.stopped
    assert set(seen.messages) == STOPPED
    assert seen.silver == chapters.first.silver
    assert seen.customers == [(1,), (2,)]
    message = seen.messages["card_transactions_state"]
    for part in (
        "feed card_transactions is stopped: 1 record(s) of batches 2 to 2",
        "plausible_amount of stg_bank__card_transactions (coalesce(amount_usd, 0) < 1000000)",
        "Nothing was written to card_transactions_state",
        "where _broken_rules like '%plausible_amount%' and batch_id between 2 and 2",
        "the next run applies the batches",
    ):
        assert part in message, message


def test_metrics_tell_of_a_run_that_failed(chapters: Chapters) -> None:
    seen = chapters.stopped
    assert seen.quarantined == [("error", None)]
    assert seen.metrics["plausible_amount"] == (False, 2, 2, 2, 1, 0, 0, 1)
    assert seen.metrics["us_dollars"] == (False, 2, 2, 2, 2, 0, 0, 0)
    assert seen.flagged == [
        (3, "category_of_four_digits", False),
        (9, "plausible_amount", True),
    ]


def test_a_stopped_feed_stays_stopped_and_counts_nothing_twice(chapters: Chapters) -> None:
    seen = chapters.still_stopped
    assert set(seen.messages) == STOPPED
    assert seen.flagged == chapters.stopped.flagged
    assert seen.metrics["plausible_amount"] == (False, 2, 3, 3, 2, 0, 0, 1)


def test_once_the_rule_is_relaxed_the_next_run_applies_what_was_stopped(chapters: Chapters) -> None:
    seen = chapters.relaxed
    assert seen.messages == {}
    assert [number for number, _ in seen.silver] == [1, 4, 10, 12]
    assert seen.rejected[-1] == (9, "breaks plausible_amount", "plausible_amount")
    assert seen.flagged == chapters.first.flagged
    assert seen.metrics["plausible_amount"] == (True, 2, 3, 3, 2, 0, 1, 0)
    assert seen.quarantined == [("success", 1)]


def test_a_full_refresh_judges_alike(chapters: Chapters) -> None:
    seen = chapters.refreshed
    assert (seen.silver, seen.rejected, seen.flagged) == (
        chapters.relaxed.silver,
        chapters.relaxed.rejected,
        chapters.relaxed.flagged,
    )
    assert seen.metrics["us_dollars"] == (True, 1, 3, 8, 5, 0, 3, 0)


def test_a_full_refresh_that_a_rule_stops_leaves_the_table(chapters: Chapters) -> None:
    assert set(chapters.refused.messages) == STOPPED
    assert chapters.refused.silver == chapters.refreshed.silver


# --- declarations ------------------------------------------------------------------------------

DECLARED = """          - name: known_status
            expression: status in ('active', 'closed')
            on_violation: warn
          - name: plausible_birth_date"""
WRONG = {
    "an unknown action": (
        "expression: status in ('active', 'closed')\n            on_violation: warn",
        "expression: status in ('active', 'closed')\n            on_violation: ignore",
        "expectation known_status: on_violation 'ignore' is unknown",
    ),
    "no name": (
        "- name: known_status\n            expression: status in ('active', 'closed')",
        "- expression: status in ('active', 'closed')",
        "expectation number 1: it has no name",
    ),
    "a name that no SQL can carry": (
        "- name: known_status\n            expression: status in ('active', 'closed')",
        "- name: known status\n            expression: status in ('active', 'closed')",
        "expectation known status: its name is not in snake_case",
    ),
    "a name twice": (
        "- name: plausible_email",
        "- name: known_status",
        "expectation known_status: it is declared twice",
    ),
    "no expression": (
        "expression: status in ('active', 'closed')",
        'expression: ""',
        "expectation known_status: it has no expression",
    ),
    "an unknown option": (
        "expression: status in ('active', 'closed')",
        "expression: status in ('active', 'closed')\n            severity: high",
        "expectation known_status: there is no option 'severity'",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_declaration_is_a_compile_error_that_names_model_and_rule(
    wrong: str, tmp_path: Path
) -> None:
    project = copied_project(tmp_path / "project")
    # The rule of another model may read the same.
    text = (project / BANK).read_text()
    start = text.index(DECLARED)
    old, new, message = WRONG[wrong]
    assert old in text[start:]
    (project / BANK).write_text(text[:start] + text[start:].replace(old, new, 1))
    (tmp_path / "lakehouse").mkdir()
    lakehouse = Lakehouse(tmp_path / "lakehouse", project=project, variables=dict(VARIABLES))
    done: Any = lakehouse.dbt("compile", "--select", "stg_bank__customers", check=False)
    assert not done.success
    said = str(done.exception) + json.dumps([str(r.message) for r in done.result or ()])
    assert "model stg_bank__customers, " in said and message in said and "Fix: " in said
