"""Marts compute only the customers whose rows have changed, and are as if they computed all."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.components import running
from tests.support.lakehouse import PROJECT as WHOLE_PROJECT
from tests.support.lakehouse import Lakehouse, envelope
from tests.support.warehouse import WarehouseLakehouse, running_warehouse

PROJECT = Path(__file__).parent / "project"
FEEDS = ("payments", "people")
MARTS = ("spend_by_kind", "spend_by_month", "customer_summary", "customer_shares")
# A value that no computation gives: what a row still shows that was not written again.
MARK = 424242
TAMPERED = {
    "spend_by_kind": "weighted_usd",
    "spend_by_month": "spend_usd",
    "customer_summary": "spend_usd",
}


@dataclass
class Bank:
    """A lakehouse with the project of these tests, and what was done to its payments."""

    lakehouse: Lakehouse
    batch: int = 0
    lsn: int = 0
    events: dict[str, list[str]] = field(default_factory=lambda: {feed: [] for feed in FEEDS})

    def pay(
        self, payment_id: int, customer_id: int | None, amount: str, on: str, kind: str = "food"
    ) -> str:
        """A payment, or the new state of one; the record is landed with the next batch."""
        moment = datetime.fromisoformat(on).replace(tzinfo=UTC)
        row = {
            "payment_id": payment_id,
            "customer_id": customer_id,
            "kind": kind,
            "amount_usd": amount,
            "paid_at": int(moment.timestamp()) * 1_000_000,
        }
        return self._event("payments", "u", row)

    def cancel(self, payment_id: int) -> str:
        """Delete a payment: the record has its key only."""
        return self._event("payments", "d", {"payment_id": payment_id})

    def settle(self, customer_id: int, region: str) -> str:
        """Say where a customer lives."""
        return self._event("people", "u", {"customer_id": customer_id, "region": region})

    def _event(self, feed: str, op: str, row: dict[str, Any]) -> str:
        self.lsn += 1
        text = envelope(op, row, self.lsn)
        self.events[feed].append(text)
        return text

    def land(self, *, landed_at: datetime | None = None) -> None:
        """Land what happened since the last time."""
        self.batch += 1
        settings = {} if landed_at is None else {"landed_at": landed_at}
        for feed, events in self.events.items():
            self.lakehouse.land(feed, events, batch_id=self.batch, **settings)
            events.clear()

    def run(self, *arguments: str, check: bool = True) -> Any:
        """Build everything, or what the arguments select."""
        return self.lakehouse.dbt("run", *arguments, check=check)

    def rows(self, mart: str) -> list[tuple[Any, ...]]:
        """All rows of a mart, in an order of its own."""
        return sorted(self.lakehouse.query(f"select * from marts.{mart}"), key=repr)

    def all_rows(self) -> dict[str, list[tuple[Any, ...]]]:
        return {mart: self.rows(mart) for mart in MARTS}

    def tamper(self, *left_out: str) -> None:
        """Alter every row of the marts by hand."""
        for mart, column in TAMPERED.items():
            if mart not in left_out:
                self.lakehouse.query(f"update marts.{mart} set {column} = {MARK}")

    def untouched(self, mart: str, columns: str) -> set[tuple[Any, ...]]:
        """The keys of the rows that still show the tampering."""
        return set(
            self.lakehouse.query(
                f"select {columns} from marts.{mart} where {TAMPERED[mart]} = {MARK}"
            )
        )

    def reasons(self) -> dict[str, str]:
        """What the last run computed of each mart that it wrote, and why."""
        return {
            model.split(".")[-1]: reason
            for model, reason in self.lakehouse.query(
                "select model, reason from observability.recomputations"
                " where run_number = (select max(run_number) from observability.runs)"
            )
        }


def on(year_month_day: str) -> datetime:
    """Noon of a day, UTC."""
    return datetime.fromisoformat(year_month_day).replace(hour=12, tzinfo=UTC)


@dataclass
class Engine:
    """One engine; `new` makes an empty bank on it."""

    name: str
    new: Callable[[], Bank]


def copy_of_project(folder: Path) -> Path:
    """The project, free to be edited."""
    copy = folder / "project"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns("target", "logs"))
    settings = copy / "dbt_project.yml"
    macros = str(WHOLE_PROJECT / "macros")
    settings.write_text(settings.read_text().replace("../../../macros", macros))
    return copy


@contextmanager
def duckdb() -> Iterator[Engine]:
    """DuckDB, one file for each bank."""
    with tempfile.TemporaryDirectory() as parent:

        def new() -> Bank:
            folder = Path(tempfile.mkdtemp(dir=parent))
            return Bank(Lakehouse(folder, project=copy_of_project(folder), feeds=FEEDS))

        yield Engine("duckdb", new)


@contextmanager
def warehouse() -> Iterator[Engine]:
    """dbt-databricks on the local SQL warehouse, a catalog for each bank."""
    with tempfile.TemporaryDirectory() as parent, running_warehouse() as running:

        def new() -> Bank:
            folder = Path(tempfile.mkdtemp(dir=parent))
            return Bank(
                WarehouseLakehouse(
                    folder,
                    project=copy_of_project(folder),
                    feeds=FEEDS,
                    catalog=running.new_catalog(),
                )
            )

        yield Engine("warehouse", new)


@pytest.fixture(scope="module", params=[duckdb, warehouse], ids=["duckdb", "warehouse"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    yield from running(request.param(), "the local warehouse")


def bank_of_four(engine: Engine) -> Bank:
    """Four customers with payments in two months, built once."""
    bank = engine.new()
    bank.lakehouse.dbt("seed")
    for customer in (1, 2, 3, 4):
        bank.settle(customer, "north")
        bank.pay(customer * 10, customer, "10.00", "2026-05-10")
        bank.pay(customer * 10 + 1, customer, "200.00", "2026-06-10", kind="travel")
    bank.land(landed_at=on("2026-06-20"))
    bank.run()
    assert set(bank.reasons().values()) == {"first build"}
    return bank


@pytest.fixture
def bank(engine: Engine) -> Bank:
    return bank_of_four(engine)


@pytest.fixture(scope="module")
def only_duckdb() -> Iterator[Engine]:
    with duckdb() as started:
        yield started


@pytest.fixture
def duckdb_bank(only_duckdb: Engine) -> Bank:
    """For what is decided in Jinja, before any engine is asked to write."""
    return bank_of_four(only_duckdb)


def others(*customers: int) -> set[tuple[int]]:
    return {(customer,) for customer in (1, 2, 3, 4) if customer not in customers}


MAY, JUNE = date(2026, 5, 1), date(2026, 6, 1)


def test_only_the_customers_and_months_of_a_batch_are_written(bank: Bank) -> None:
    bank.tamper()
    bank.pay(12, 1, "5.00", "2026-05-31 23:00:00")  # new, and late
    bank.cancel(21)  # of customer 2, which the record does not say
    bank.pay(30, 4, "10.00", "2026-05-10")  # moves from customer 3 to 4
    bank.land(landed_at=on("2026-06-20"))
    bank.run()

    kinds = bank.untouched("spend_by_kind", "customer_id")
    assert kinds == set()
    months = bank.untouched("spend_by_month", "customer_id, month")
    assert months == {(1, JUNE), (2, MAY), (3, JUNE), (4, JUNE)}

    bank.tamper()
    bank.pay(13, 1, "5.00", "2026-06-11")
    bank.land(landed_at=on("2026-06-20"))
    bank.run()
    assert bank.untouched("spend_by_kind", "distinct customer_id") == others(1)
    assert bank.untouched("customer_summary", "customer_id") == others(1)
    assert (1, JUNE) not in bank.untouched("spend_by_month", "customer_id, month")
    assert (1, MAY) in bank.untouched("spend_by_month", "customer_id, month")

    # What has no month concerns all months of its customer.
    bank.tamper()
    bank.settle(4, "south")
    bank.land(landed_at=on("2026-06-20"))
    bank.run()
    assert bank.untouched("spend_by_month", "distinct customer_id") == others(4)
    # spend_by_kind does not read where customers live.
    assert bank.untouched("spend_by_kind", "distinct customer_id") == {(1,), (2,), (4,)} | others(
        1, 2, 4
    )
    assert bank.reasons() == {
        "spend_by_month": CUSTOMERS,
        "customer_summary": CUSTOMERS,
        "customer_shares": "best_regions does not say whose rows change",
    }


def test_customers_that_are_gone_leave_no_rows(bank: Bank) -> None:
    bank.cancel(20)
    bank.cancel(21)
    bank.land(landed_at=on("2026-06-20"))
    bank.run()
    for mart in MARTS:
        customers = {row[0] for row in bank.rows(mart)}
        assert customers == {1, 3, 4}, mart


def test_rows_without_a_customer_are_computed_too(bank: Bank) -> None:
    bank.pay(50, None, "7.00", "2026-06-01")
    bank.land(landed_at=on("2026-06-20"))
    bank.run()
    query = "select spend_usd from marts.spend_by_month where customer_id is null"
    assert [float(row[0]) for row in bank.lakehouse.query(query)] == [7]
    bank.pay(50, 1, "7.00", "2026-06-01")
    bank.land(landed_at=on("2026-06-20"))
    bank.run()
    assert bank.lakehouse.query(query) == []


def test_nothing_new_writes_nothing(duckdb_bank: Bank) -> None:
    bank = duckdb_bank
    bank.run()
    bank.tamper()
    bank.run()
    assert bank.reasons() == {"customer_shares": "best_regions does not say whose rows change"}
    assert bank.untouched("spend_by_kind", "distinct customer_id") == others()
    assert bank.untouched("spend_by_month", "distinct customer_id") == others()


CUSTOMERS = "customers that changed"
WHOLE = {
    "a seed that was loaded with other contents": {"spend_by_kind"},
    "a variable of a view": {"spend_by_kind", "spend_by_month", "customer_summary"},
    "another day": {"customer_summary"},
    "the day given": {"customer_summary"},
    "other SQL": {"spend_by_month", "customer_summary"},
    "a table of silver built anew": {"spend_by_kind", "spend_by_month", "customer_summary"},
}


@pytest.mark.parametrize("change", WHOLE)
def test_what_is_no_customers_row_computes_everything(duckdb_bank: Bank, change: str) -> None:
    bank = duckdb_bank
    # A mart that is computed whole reads what stands in those that are not.
    bank.tamper(*() if "spend_by_month" in WHOLE[change] else ("spend_by_month",))
    project = bank.lakehouse.project
    arguments: tuple[str, ...] = ()
    if change == "a seed that was loaded with other contents":
        seed = project / "seeds" / "weights.csv"
        seed.write_text(seed.read_text().replace("travel,3", "travel,4"))
        bank.run()  # not loaded yet: nothing has changed
        assert bank.untouched("spend_by_kind", "distinct customer_id") == others()
        bank.lakehouse.dbt("seed")
    elif change == "a variable of a view":
        arguments = ("--vars", "{large_payment_usd: 5}")
    elif change == "another day":
        bank.pay(99, 1, "0.00", "2026-06-10")
        bank.land(landed_at=on("2026-06-21"))
    elif change == "the day given":
        arguments = ("--vars", "{as_of_date: 2026-12-31}")
    elif change == "other SQL":
        model = project / "models" / "spend_by_month.sql"
        model.write_text(model.read_text().replace("sum(payments", "2 * sum(payments"))
    else:
        bank.run("--full-refresh", "--select", "payments_state")
        assert bank.untouched("spend_by_kind", "distinct customer_id") == others()
    bank.run(*arguments)
    computed = {mart for mart, reason in bank.reasons().items() if reason != CUSTOMERS}
    assert computed == WHOLE[change] | {"customer_shares"}
    for mart in WHOLE[change]:
        assert not bank.untouched(mart, "customer_id"), mart
    if "spend_by_kind" not in WHOLE[change]:
        assert bank.untouched("spend_by_kind", "distinct customer_id") >= others(1)
    rows = bank.all_rows()
    bank.run("--full-refresh", *arguments)
    assert {m: rows[m] for m in computed} == {m: bank.rows(m) for m in computed}


def test_the_day_is_that_of_the_newest_record_and_never_goes_back(duckdb_bank: Bank) -> None:
    bank = duckdb_bank

    def day() -> Any:
        return bank.lakehouse.query("select max(as_of_date) from observability.runs")[0][0]

    assert day() == date(2026, 6, 20)
    bank.pay(60, 1, "1.00", "2031-01-01")  # what a record says happens when is another matter
    bank.land(landed_at=on("2026-06-19"))
    bank.run("--select", "payments_state")
    assert day() == date(2026, 6, 20)


def test_a_run_that_failed_half_way_converges(bank: Bank) -> None:
    bank.pay(12, 1, "5.00", "2026-05-31")
    bank.cancel(21)
    bank.land(landed_at=on("2026-06-20"))
    assert not bank.run("--vars", "{crash: true}", check=False).success
    bank.run()
    rows = bank.all_rows()
    bank.run("--full-refresh")
    assert rows == bank.all_rows()


def test_a_mart_built_before_the_mart_that_it_reads_is_built_again(duckdb_bank: Bank) -> None:
    bank = duckdb_bank
    bank.pay(12, 1, "5.00", "2026-05-31")
    bank.land(landed_at=on("2026-06-20"))
    bank.run("--select", "payments_state", "customer_summary")
    bank.run("--select", "spend_by_month")
    bank.run()
    rows = bank.all_rows()
    bank.run("--full-refresh")
    assert rows == bank.all_rows()


def test_random_changes_in_batches_give_what_a_full_refresh_gives(engine: Engine) -> None:
    rng = random.Random(20261128)
    bank = engine.new()
    bank.lakehouse.dbt("seed")
    late: list[str] = []
    for _ in range(4):
        for _ in range(60):
            chance = rng.random()
            payment = rng.randint(1, 80)
            if chance < 0.2:
                event = bank.cancel(payment)
            elif chance < 0.35:
                event = bank.settle(rng.randint(1, 12), rng.choice(["north", "south"]))
            else:
                event = bank.pay(
                    payment,
                    rng.choice([None, *range(1, 13)]),
                    f"{rng.randint(1, 30000) / 100:.2f}",
                    f"2026-0{rng.randint(1, 6)}-{rng.randint(10, 28)}",
                    rng.choice(["food", "travel", "other"]),
                )
            feed = "people" if '"region"' in event else "payments"
            if rng.random() < 0.3:
                late.append(event)
                if rng.random() < 0.7:
                    bank.events[feed].remove(event)
        for event in rng.sample(late, len(late) // 3):
            bank.events["people" if '"region"' in event else "payments"].append(event)
        for events in bank.events.values():
            rng.shuffle(events)
        bank.land(landed_at=on("2026-06-20"))
        bank.run()
    assert bank.reasons()["spend_by_month"] == CUSTOMERS
    rows = bank.all_rows()
    assert all(rows.values())
    bank.run("--full-refresh")
    assert rows == bank.all_rows()
