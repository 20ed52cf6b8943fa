"""What happens at the bank: its customers' days, in the order in which they happen.

A discrete event simulation. Each action runs at its time, changes the state of one customer,
writes the records of its database transaction and may schedule what follows from it (a refund
days later, the next salary). Nothing here is late, repeated or broken: that is `imperfections`.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import accumulate, count
from math import log

from ingestion.simulate.draws import (
    Draw,
    between,
    lognormal_table,
    pick,
    poisson,
    quotas,
    shuffled,
    stream,
)
from ingestion.simulate.envelopes import (
    ACCOUNTS,
    CARD_TRANSACTIONS,
    CHECKING_TRANSACTIONS,
    CUSTOMERS,
    LOAN_APPLICATIONS,
    NO_LSN,
    PURCHASE_TRENDS,
    Table,
    envelope,
)
from ingestion.simulate.personas import (
    CATEGORIES,
    ENGAGEMENT_ONLINE_TXNS,
    FIRST_NAMES,
    LAST_NAMES,
    PERSONAS,
    REGIONS,
    Category,
    Persona,
)
from ingestion.simulate.records import (
    DAY_US,
    DIGITS_2,
    DIGITS_3,
    HOUR_US,
    MINUTE_US,
    TOMBSTONE,
    Record,
    money,
)

SECOND_US = 1_000_000
_LATENCY_US = 45_000
_QUARTER_US = 15 * MINUTE_US
_BATCH = 50
# calling Record, which a NamedTuple generates, costs twice as much
_new_record = tuple.__new__
_HOURS_AND_MINUTES = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in range(24 * 60)]
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Settings:
    """What to simulate: `days` days ending with the day `end`, all in UTC."""

    seed: int = 7
    customers: int = 2000
    days: int = 180
    end: date = date(2026, 6, 30)

    def __post_init__(self) -> None:
        if self.customers < 1 or self.days < 1:
            raise ValueError("customers and days must be at least 1")

    @property
    def start(self) -> date:
        """The first day."""
        return self.end - timedelta(days=self.days - 1)

    @property
    def start_us(self) -> int:
        """The first instant, in microseconds since the epoch."""
        return (self.start - _EPOCH).days * DAY_US


@dataclass(frozen=True)
class Lifecycle:
    """Shares of the customers, and of the card purchases, to which something happens."""

    joins: float = 0.12
    closes: float = 0.03
    customer_deleted: float = 0.01
    trends_deleted: float = 0.01
    dormant: float = 0.06
    buys_home: float = 0.03
    applies_for_loan: float = 0.10
    profile_updates_per_year: float = 0.7

    purchase_reversed: float = 0.010
    purchase_refunded: float = 0.030
    purchase_corrected: float = 0.025
    purchase_deleted: float = 0.005


LIFECYCLE = Lifecycle()

_AMOUNTS = {
    c.code: [c.median_cents * factor // 1000 for factor in lognormal_table(c.sigma)]
    for c in CATEGORIES
}
_LEVELS = lognormal_table(0.35)
_ACTIVITY = lognormal_table(0.45)

# what part of the day is busy: one entry per quarter of an hour, as often as it is busy
_SHOPPING = [
    quarter
    for hour, weight in enumerate(
        (1, 0, 0, 0, 0, 1, 2, 4, 6, 7, 8, 9, 12, 10, 8, 8, 9, 12, 14, 13, 10, 7, 4, 2)
    )
    for quarter in range(hour * 4, hour * 4 + 4)
    for _ in range(weight)
]
_ONLINE = [
    quarter
    for hour, weight in enumerate(
        (2, 1, 0, 0, 0, 1, 4, 8, 8, 6, 5, 5, 7, 6, 5, 5, 6, 8, 9, 11, 13, 13, 9, 5)
    )
    for quarter in range(hour * 4, hour * 4 + 4)
    for _ in range(weight)
]

_PAGES = (
    *("home",) * 6,
    *("accounts",) * 7,
    *("cards",) * 5,
    *("cashback",) * 4,
    *("offers",) * 3,
    *("loans",) * 2,
    "mortgage_calculator",
    *("transfer",) * 4,
    "support",
)
_HOUSE_HUNTER_PAGES = (*_PAGES, *("mortgage_calculator",) * 14, *("loans",) * 6)
_ACTIONS = ("view", "view", "view", "view", "click", "click", "submit")
_DEVICES = ("ios", "ios", "android", "android", "android", "web")
_SESSIONS_PER_DAY = {"LOW": 0.012, "MEDIUM": 0.032, "HIGH": 0.065}
_CUISINES = ("italian", "grill", "indian", "seafood", "french", "vegetarian")
_DEPARTMENTS = {
    "5311": ("clothing", "home", "beauty"),
    "5732": ("electronics",),
    "5942": ("books",),
}
_REPORTED = {"4511", "7011", "5812", *_DEPARTMENTS}
_EVENTS = {"7922", "7941"}


@dataclass(slots=True)
class _Trends:
    """A customer's row of purchase_trends; `created_ms` is None while there is no row."""

    concerts: int = 0
    comedy: int = 0
    sport: int = 0
    online: int = 0
    online_start: int = 0
    online_goal: int = 0
    home_ms: int | None = None
    created_ms: int | None = None
    updated_ms: int = 0


@dataclass(slots=True)
class _Account:
    id: int
    kind: str
    opened_us: int
    balance: int
    updated_us: int


@dataclass(slots=True)
class _Customer:
    id: int
    persona: Persona
    name: str
    email: str
    birth_day: int
    region: str
    programme: str
    created_us: int
    updated_us: int
    purchases_per_day: float
    sessions_per_day: float
    spend_pm: int
    income: int
    rent: int
    device: str
    trends: _Trends
    status: str = "joining"
    card_owed: int = 0
    next_purchase: float = 0.0
    house_hunting: bool = False
    accounts: list[_Account] = field(default_factory=list)

    @property
    def checking(self) -> _Account:
        return self.accounts[0]

    @property
    def card(self) -> _Account:
        return self.accounts[1]


@dataclass(slots=True)
class _Purchase:
    id: int
    customer: _Customer
    category: Category
    merchant: str
    amount: int
    at_us: int


@dataclass(slots=True)
class _Loan:
    id: int
    customer: _Customer
    product: str
    amount: int
    months: int
    submitted_us: int


_Action = tuple[int, int, Callable[..., None], tuple[object, ...]]


class Bank:
    """The simulated bank. `batches()` runs it, once."""

    def __init__(self, settings: Settings, lifecycle: Lifecycle = LIFECYCLE) -> None:
        self.settings = settings
        self.lifecycle = lifecycle
        self._draw: Draw = stream(settings.seed, 1)
        self._eventful = (
            lifecycle.purchase_reversed
            + lifecycle.purchase_refunded
            + lifecycle.purchase_corrected
            + lifecycle.purchase_deleted
        )
        self._start_us = settings.start_us
        self._end_us = self._start_us + settings.days * DAY_US
        self._dates = [settings.start + timedelta(days=n) for n in range(settings.days)]
        self._iso_dates = [day.isoformat() for day in self._dates]
        # two months longer than the period: of the last day too one may ask for the next 15th
        self._days_of_month = [
            (settings.start + timedelta(days=n)).day for n in range(settings.days + 62)
        ]
        self._calendar: list[list[_Action]] = [[] for _ in self._dates]
        self._today = -1
        self._wanted: dict[str, list[Category]] = {}
        self._busy = {persona.name: 0.0 for persona in PERSONAS}
        self._serial = count()
        self._out: list[Record] = []
        # the database's log, and how far the capture of changes got
        self._lsn = 26_708_096
        self._last_commit_lsn = NO_LSN
        self._tx_id = 747
        self._captured_us = 0
        self._ids: dict[str, Iterator[int]] = defaultdict(lambda: count(1))
        self._card_ids = self._ids["card"]
        self._customers: list[_Customer] = []

    # ---- the run ------------------------------------------------------------------------------

    def batches(self) -> Iterator[list[Record]]:
        """All records in the order in which they happened, a few at a time.

        What an action writes is in one batch.
        """
        self._found()
        self._take_snapshot()
        for day, agenda in enumerate(self._calendar):
            self._plan_day(day)
            self._today = day
            agenda.sort()
            # what is scheduled meanwhile for the same day comes further back in the list
            for at, _, action, arguments in agenda:
                action(at, *arguments)
                if len(self._out) >= _BATCH:
                    yield self._out
                    self._out = []
            agenda.clear()
        if self._out:
            yield self._out

    def _schedule(self, at_us: int, action: Callable[..., None], *arguments: object) -> None:
        """Run an action later; what lies after the period never happens."""
        if at_us >= self._end_us:
            return
        day = (at_us - self._start_us) // DAY_US
        entry = (at_us, next(self._serial), action, arguments)
        if day == self._today:
            insort(self._calendar[day], entry)
        else:
            self._calendar[day].append(entry)

    def _moment(self, day: int, quarters: list[int]) -> int:
        """A time on the day, in one of the given quarters of an hour."""
        draw = self._draw
        quarter = quarters[int(draw() * len(quarters))]
        return self._start_us + day * DAY_US + int((quarter + draw()) * _QUARTER_US)

    def _day_of_month(self, after_us: int, day_of_month: int, hour: int) -> int:
        """The next such day (1 to 28) after a time, at a random minute of the hour."""
        tomorrow = (after_us - self._start_us) // DAY_US + 1
        day = self._days_of_month.index(day_of_month, tomorrow)
        return self._start_us + day * DAY_US + hour * HOUR_US + int(self._draw() * HOUR_US)

    # ---- who is there -------------------------------------------------------------------------

    def _found(self) -> None:
        """Make all customers, those who will join later too, and schedule their lives."""
        draw, total, days = self._draw, self.settings.customers, self.settings.days
        personas = {p.name: p for p in PERSONAS}
        kinds = quotas({p.name: p.share for p in PERSONAS}, total)
        programmes: list[str] = []
        levels: list[str] = []
        for name, persona in personas.items():
            members = kinds.count(name)
            programmes += shuffled(draw, quotas(persona.programmes, members))
            levels += shuffled(draw, quotas(persona.engagement, members))
        made = zip(kinds, programmes, levels, strict=True)
        joins = round(self.lifecycle.joins * total)
        for number, (kind, programme, level) in enumerate(shuffled(draw, list(made)), start=1):
            is_new = number > total - joins
            self._customers.append(
                self._make_customer(number, personas[kind], programme, level, is_new)
            )
        present = self._customers[: total - joins]
        for customer in self._customers[total - joins :]:
            day = int(draw() * days * 0.85)
            self._schedule(self._moment(day, _ONLINE), self._join, customer)

        def some(share: float, customers: list[_Customer]) -> int:
            return max(1, round(share * total)) if customers else 0

        leavers = shuffled(draw, present)
        deleted = some(self.lifecycle.customer_deleted, leavers)
        closed = max(deleted, some(self.lifecycle.closes, leavers))
        for nth, customer in enumerate(leavers[:closed]):
            at = self._moment(int(days * (0.15 + 0.7 * draw())), _ONLINE)
            self._schedule(at, self._close, customer)
            if nth < deleted:
                rest = self._end_us - at
                wait = min(between(draw, 1, 20) * DAY_US, int(rest * 0.7))
                self._schedule(at + wait, self._erase, customer)
        stayers = leavers[closed:]
        opting_out = some(self.lifecycle.trends_deleted, stayers)
        for nth, customer in enumerate(stayers[:opting_out]):
            at = self._moment(int(days * (0.2 + 0.6 * draw())), _ONLINE)
            self._schedule(at, self._opt_out, customer)
            if nth % 2:
                self._schedule(at + between(draw, 2, 9) * DAY_US, self._opt_in, customer)
        buyers = [c for c in stayers[opting_out:] if c.persona.name not in ("student", "retiree")]
        homes = some(self.lifecycle.buys_home, buyers)
        for customer in buyers[:homes]:
            customer.house_hunting = True
            at = self._moment(int(days * 0.7 * draw()), _ONLINE)
            self._schedule(at, self._apply_for_loan, customer, "home_mortgage")
        loans = some(self.lifecycle.applies_for_loan, buyers)
        for customer in shuffled(draw, stayers[opting_out + homes :])[:loans]:
            at = self._moment(int(days * draw()), _ONLINE)
            product = pick(
                draw, ("personal", "personal", "personal", "auto", "auto", "home_mortgage")
            )
            self._schedule(at, self._apply_for_loan, customer, product)

    def _make_customer(
        self, number: int, persona: Persona, programme: str, level: str, is_new: bool
    ) -> _Customer:
        draw = self._draw
        first, last = pick(draw, FIRST_NAMES), pick(draw, LAST_NAMES)
        age = between(draw, *persona.ages)
        created = self._start_us - int((0.02 + 0.98 * draw()) * 8 * 365 * DAY_US)
        updated = created + int((self._start_us - created) * draw() * draw())
        level_pm = _LEVELS[int(draw() * len(_LEVELS))]
        activity = _ACTIVITY[int(draw() * len(_ACTIVITY))] / 1000
        if draw() < self.lifecycle.dormant:
            activity = 0.06
        income = persona.income_cents * _LEVELS[int(draw() * len(_LEVELS))] // 1000
        goal = between(draw, *ENGAGEMENT_ONLINE_TXNS[level])
        trends = _Trends(online_goal=goal)
        if not is_new:
            fans = persona.name == "event_goer"
            trends.concerts = int(draw() * draw() * (8 if fans else 4))
            trends.comedy = int(draw() * draw() * (6 if fans else 3))
            trends.sport = int(draw() * draw() * (9 if fans else 4))
            trends.online = trends.online_start = int(goal * 0.5 * draw())
            trends.created_ms = created // 1000
            trends.updated_ms = updated // 1000
        customer = _Customer(
            id=number,
            persona=persona,
            name=f"{first[0]} {last[0]}",
            email=f"{first[1]}.{last[1]}{number}@example.{'com' if draw() < 0.7 else 'org'}",
            birth_day=(self.settings.end - _EPOCH).days - age * 365 - int(draw() * 365),
            region=pick(draw, tuple(REGIONS)),
            programme=programme,
            created_us=created,
            updated_us=updated,
            purchases_per_day=persona.purchases_per_day * activity,
            sessions_per_day=_SESSIONS_PER_DAY[level],
            spend_pm=persona.spend_pct * level_pm // 100,
            income=income,
            rent=income * between(draw, 22, 34) // 100 // 500 * 500
            if draw() < persona.pays_rent
            else 0,
            device=pick(draw, _DEVICES),
            trends=trends,
        )
        if not is_new:
            customer.status = "active"
            self._open_accounts(customer, created)
            for account in customer.accounts:
                account.updated_us = updated
        return customer

    def _open_accounts(self, customer: _Customer, at: int) -> None:
        draw = self._draw
        balances = {
            "checking": int(customer.income * (0.4 + 1.6 * draw())),
            "card": 0,
            "savings": int(customer.income * 6 * draw() * draw()) // 100 * 100,
        }
        kinds = ("checking", "card", "savings") if draw() < 0.6 else ("checking", "card")
        for kind in kinds:
            account = _Account(next(self._ids["account"]), kind, at, balances[kind], at)
            customer.accounts.append(account)

    def _start_living(self, customer: _Customer, at: int) -> None:
        """Schedule the first of everything that repeats."""
        draw, trends = self._draw, customer.trends
        customer.status = "active"
        customer.next_purchase = (
            self._busy[customer.persona.name] - log(1 - draw()) / customer.purchases_per_day
        )
        payday = 1 if customer.persona.name == "retiree" else 25
        self._schedule(self._day_of_month(at, payday, 4), self._salary, customer, payday)
        if customer.rent:
            rent_day = between(draw, 1, 3)
            self._schedule(self._day_of_month(at, rent_day, 5), self._rent, customer, rent_day)
        if draw() < 0.5:
            day = between(draw, 10, 16)
            self._schedule(self._day_of_month(at, day, 6), self._utilities, customer, day)
        bill_day = between(draw, 4, 22)
        self._schedule(self._day_of_month(at, bill_day, 2), self._statement, customer, bill_day)
        self._schedule(at + int((5 + 60 * draw()) * DAY_US), self._cash, customer)
        rest = self._end_us - at
        trends.online_start = trends.online
        steps = 1 + poisson(draw, (1.5 + trends.online_goal / 5) * rest / (180 * DAY_US))
        moments = sorted(at + int(rest * (0.02 + 0.97 * draw())) for _ in range(steps))
        for step, moment in enumerate(moments, start=1):
            online = (
                trends.online_start + (trends.online_goal - trends.online_start) * step // steps
            )
            self._schedule(moment, self._count_online, customer, online)
        per_year = self.lifecycle.profile_updates_per_year
        for _ in range(poisson(draw, per_year * rest / (365 * DAY_US))):
            self._schedule(at + int(rest * draw()), self._update_profile, customer)

    def _plan_day(self, day: int) -> None:
        """Schedule the purchases and the app sessions of a day.

        A customer's purchases are a Poisson process that runs faster on busy days: `busy` is how
        far it has come, in usual days, and `next_purchase` where in it the next purchase lies.
        """
        draw, busy, agenda = self._draw, self._busy, self._calendar[day]
        for persona in PERSONAS:
            pace, self._wanted[persona.name] = _shopping_list(persona, self._dates[day])
            busy[persona.name] += pace
        for customer in self._customers:
            if customer.status != "active":
                continue
            reached = busy[customer.persona.name]
            while customer.next_purchase <= reached:
                at = self._moment(day, _SHOPPING)
                agenda.append((at, next(self._serial), self._purchase, (customer,)))
                customer.next_purchase -= log(1 - draw()) / customer.purchases_per_day
            if draw() < customer.sessions_per_day:
                clicks = 1 + poisson(draw, 2.2)
                at = self._moment(day, _ONLINE)
                agenda.append((at, next(self._serial), self._click, (customer, clicks, "home")))

    # ---- writing ------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start a database transaction: the changes written next share it."""
        self._tx_id += 1
        self._last_commit_lsn = f'\\"{self._lsn}\\"'
        self._lsn += 48

    def _arrival(self, at: int) -> int:
        """When a record gets to its topic: soon after it happened, and one after the other."""
        arrival = at + _LATENCY_US
        # a plain comparison: max() is a third of the cost of this method's millions of calls
        if arrival <= self._captured_us:
            arrival = self._captured_us + 1
        self._captured_us = arrival
        return arrival

    def _emit(self, feed: str, value: str, c: _Customer, at: int) -> None:
        """A record that is not a change of a table; it has no key."""
        fields = (feed, None, value, str(c.id), at, self._arrival(at), "", None, "")
        self._out.append(_new_record(Record, fields))

    def _write(self, table: Table, op: str, row_id: int, after: str, at: int) -> None:
        """One change of the current transaction."""
        self._lsn = lsn = self._lsn + 64 + len(after) // 8 * 8
        arrival = self._arrival(at)
        key = f"{table.key_opening}{row_id}{table.key_closing}"
        value = envelope(
            table, op, "null", after, at, arrival, self._tx_id, lsn, self._last_commit_lsn
        )
        fields = (table.name, key, value, key, at, arrival, op, after, "")
        self._out.append(_new_record(Record, fields))

    def _delete(self, table: Table, row_id: int, at: int) -> None:
        """A delete in the current transaction, and its tombstone."""
        self._lsn += 64
        arrival = self._arrival(at)
        key = table.key_json(row_id)
        before = table.before_delete(row_id)
        value = envelope(
            table, "d", before, "null", at, arrival, self._tx_id, self._lsn, self._last_commit_lsn
        )
        self._out.append(Record(table.name, key, value, key, at, arrival, "d"))
        arrival = self._arrival(at)
        self._out.append(Record(table.name, key, None, key, at, arrival, TOMBSTONE))

    def _snapshot_row(self, table: Table, row_id: int, after: str, mark: str) -> None:
        """A row that stood before the capture began: all of them share one lsn."""
        at = self._start_us
        arrival = self._arrival(at)
        key = table.key_json(row_id)
        value = envelope(
            table, "r", "null", after, at, arrival, self._tx_id, self._lsn, NO_LSN, mark
        )
        self._out.append(Record(table.name, key, value, key, at, arrival, "r", after))

    def _write_card(
        self,
        op: str,
        number: int,
        kind: str,
        original: int | str,
        c: _Customer,
        merchant: str,
        code: str,
        cents: int,
        transacted_us: int,
        at: int,
    ) -> None:
        """A purchase, or what gives some of it back, in a transaction of its own."""
        after = (
            f'{{"transaction_id":{number},"account_id":{c.accounts[1].id},"customer_id":{c.id},'
            f'"transaction_type":"{kind}","original_transaction_id":{original},'
            f'"merchant_name":"{merchant}","merchant_category_code":"{code}",'
            f'"amount":"{money(cents)}","currency":"USD","transacted_at":{transacted_us},'
            f'"updated_at":{at}}}'
        )
        self._begin()
        self._write(CARD_TRANSACTIONS, op, number, after, at)

    def _take_snapshot(self) -> None:
        present = [c for c in self._customers if c.accounts]
        rows = [
            *((ACCOUNTS, a.id, _account_row(c, a)) for c in present for a in c.accounts),
            *((CUSTOMERS, c.id, _customer_row(c)) for c in present),
            *((PURCHASE_TRENDS, c.id, _trends_row(c)) for c in present),
        ]
        for place, (table, row_id, after) in enumerate(rows):
            before = rows[place - 1][0] if place else None
            following = rows[place + 1][0] if place + 1 < len(rows) else None
            mark = "true"
            if before is not table:
                mark = "first_in_data_collection" if before else "first"
            elif following is not table:
                mark = "last_in_data_collection" if following else "last"
            self._snapshot_row(table, row_id, after, mark)
        for customer in present:
            self._start_living(customer, self._start_us + SECOND_US)

    # ---- customers ----------------------------------------------------------------------------

    def _join(self, at: int, c: _Customer) -> None:
        c.created_us = c.updated_us = at
        c.status = "active"
        self._open_accounts(c, at)
        self._begin()
        self._write(CUSTOMERS, "c", c.id, _customer_row(c), at)
        for account in c.accounts:
            self._write(ACCOUNTS, "c", account.id, _account_row(c, account), at)
        c.trends.created_ms = c.trends.updated_ms = at // 1000
        self._write(PURCHASE_TRENDS, "c", c.id, _trends_row(c), at)
        self._start_living(c, at + MINUTE_US)

    def _update_profile(self, at: int, c: _Customer, *, follow_up: bool = False) -> None:
        if c.status != "active":
            return
        what = self._draw()
        if what < 0.35:
            name = c.email.partition("@")[0]
            c.email = f"{name}.{between(self._draw, 2, 99)}@example.org"
        elif what < 0.7:
            c.region = pick(self._draw, tuple(REGIONS))
        else:
            c.programme = pick(self._draw, ("everyday", "travel_plus", "premier"))
        c.updated_us = at
        self._begin()
        self._write(CUSTOMERS, "u", c.id, _customer_row(c), at)
        # who is in the form anyway often changes a second thing
        if not follow_up and self._draw() < 0.4:
            self._schedule(
                at + between(self._draw, 20, 90) * SECOND_US, self._update_profile_again, c
            )

    def _update_profile_again(self, at: int, c: _Customer) -> None:
        self._update_profile(at, c, follow_up=True)

    def _close(self, at: int, c: _Customer) -> None:
        c.status = "closed"
        c.updated_us = at
        self._begin()
        self._write(CUSTOMERS, "u", c.id, _customer_row(c), at)
        for account in c.accounts:
            account.balance, account.updated_us = 0, at
            self._write(ACCOUNTS, "u", account.id, _account_row(c, account), at)

    def _erase(self, at: int, c: _Customer) -> None:
        """Delete a closed customer, the accounts and the pattern; card transactions are kept."""
        c.status = "deleted"
        self._begin()
        if c.trends.created_ms is not None:
            at = self._touch_trends(at, c)
            self._delete(PURCHASE_TRENDS, c.id, at)
            c.trends.created_ms = None
        for account in c.accounts:
            self._delete(ACCOUNTS, account.id, at)
        self._delete(CUSTOMERS, c.id, at)

    # ---- purchase_trends ----------------------------------------------------------------------

    def _touch_trends(self, at: int, c: _Customer) -> int:
        """Advance datetime_updated, strictly; returns the commit time that fits it."""
        c.trends.updated_ms = max(at // 1000, c.trends.updated_ms + 1)
        return max(at, c.trends.updated_ms * 1000)

    def _update_trends(self, at: int, c: _Customer) -> None:
        if c.trends.created_ms is None or c.status != "active":
            return
        at = self._touch_trends(at, c)
        self._begin()
        self._write(PURCHASE_TRENDS, "u", c.id, _trends_row(c), at)

    def _count_online(self, at: int, c: _Customer, online: int) -> None:
        if c.status == "active":
            c.trends.online = online
        self._update_trends(at, c)

    def _opt_out(self, at: int, c: _Customer) -> None:
        at = self._touch_trends(at, c)
        self._begin()
        self._delete(PURCHASE_TRENDS, c.id, at)
        c.trends.created_ms = None

    def _opt_in(self, at: int, c: _Customer) -> None:
        at = self._touch_trends(at, c)
        c.trends.created_ms = c.trends.updated_ms
        self._begin()
        self._write(PURCHASE_TRENDS, "c", c.id, _trends_row(c), at)

    # ---- the card -----------------------------------------------------------------------------

    def _purchase(self, at: int, c: _Customer) -> None:
        if c.status != "active":
            return
        draw = self._draw
        wanted = self._wanted[c.persona.name]
        category = wanted[int(draw() * len(wanted))]
        code, merchants, amounts = category.code, category.merchants, _AMOUNTS[category.code]
        # most people have a favourite
        favourite = draw() < 0.6
        merchant = merchants[(c.id * 7 if favourite else int(draw() * 60)) % len(merchants)]
        cents = _price(amounts[int(draw() * 512)] * c.spend_pm // 1000, category.prices)
        if code in _EVENTS:
            tickets = between(draw, 1, 4)
            cents = _price(cents * tickets // 2, category.prices)
            self._visit_event(at, c, code, tickets, cents)
        number = next(self._card_ids)
        c.card_owed += cents
        self._write_card("c", number, "purchase", "null", c, merchant, code, cents, at, at)
        if code in _REPORTED:
            self._tell_vendor(at, c, code, cents)

        fate = draw()
        if fate < self._eventful:
            self._plan_aftermath(at, _Purchase(number, c, category, merchant, cents, at), fate)

    def _plan_aftermath(self, at: int, purchase: _Purchase, fate: float) -> None:
        """At most one thing happens to a purchase, so a refund never exceeds what was paid."""
        draw, shares = self._draw, self.lifecycle
        if fate < shares.purchase_reversed:
            wait = between(draw, 60, 40 * 60) * SECOND_US
            self._schedule(at + wait, self._give_back, purchase, "reversal", purchase.amount)
            return
        fate -= shares.purchase_reversed
        if fate < shares.purchase_refunded:
            self._plan_refund(at, purchase)
            return
        fate -= shares.purchase_refunded
        if fate < shares.purchase_corrected:
            wait = int(draw() * draw() * 2 * DAY_US) + MINUTE_US
            self._schedule(at + wait, self._correct, purchase)
            return
        wait = int(draw() * 5 * DAY_US) + MINUTE_US
        self._schedule(at + wait, self._remove, purchase)

    def _plan_refund(self, at: int, purchase: _Purchase) -> None:
        draw = self._draw
        at += int((1 + 20 * draw() * draw()) * DAY_US)
        part = purchase.amount
        if draw() < 0.4:
            part = max(1, purchase.amount * between(draw, 20, 80) // 100)
        self._schedule(at, self._give_back, purchase, "refund", part)
        rest = purchase.amount - part
        if rest > 1 and draw() < 0.25:
            later = at + int((1 + 4 * draw()) * DAY_US)
            self._schedule(later, self._give_back, purchase, "refund", rest // 2)

    def _give_back(self, at: int, purchase: _Purchase, kind: str, cents: int) -> None:
        if purchase.customer.status == "deleted":
            return
        purchase.customer.card_owed -= cents
        number = next(self._card_ids)
        self._write_card(
            "c",
            number,
            kind,
            purchase.id,
            purchase.customer,
            purchase.merchant,
            purchase.category.code,
            cents,
            at,
            at,
        )

    def _correct(self, at: int, purchase: _Purchase) -> None:
        if purchase.customer.status == "deleted":
            return
        draw = self._draw
        if draw() < 0.7:
            before = purchase.amount
            purchase.amount = max(1, before * between(draw, 80, 120) // 100)
            purchase.customer.card_owed += purchase.amount - before
        else:
            others = [c for c in CATEGORIES if c.code != purchase.category.code]
            purchase.category = pick(draw, others)
        self._write_card(
            "u",
            purchase.id,
            "purchase",
            "null",
            purchase.customer,
            purchase.merchant,
            purchase.category.code,
            purchase.amount,
            purchase.at_us,
            at,
        )

    def _remove(self, at: int, purchase: _Purchase) -> None:
        if purchase.customer.status == "deleted":
            return
        purchase.customer.card_owed -= purchase.amount
        self._begin()
        self._delete(CARD_TRANSACTIONS, purchase.id, at)

    def _statement(self, at: int, c: _Customer, day: int) -> None:
        """Post what is owed to the card account, to be paid days later."""
        if c.status != "active":
            return
        if c.card_owed:
            c.card.balance, c.card.updated_us = -c.card_owed, at
            self._begin()
            self._write(ACCOUNTS, "u", c.card.id, _account_row(c, c.card), at)
        if c.card_owed > 0:
            pay_at = at + 9 * DAY_US + int(self._draw() * 4 * HOUR_US)
            self._schedule(pay_at, self._pay_card, c, c.card_owed)
        self._schedule(self._day_of_month(at, day, 2), self._statement, c, day)

    def _pay_card(self, at: int, c: _Customer, owed: int) -> None:
        if c.status != "active":
            return
        # who cannot pay all pays what is there, at least the minimum
        paid = min(owed, max(c.checking.balance - 10_000, min(owed, 2_500)))
        c.card_owed -= paid
        c.card.balance += paid
        self._book(at, c, "transfer", -paid, other=c.card)

    # ---- the checking account -----------------------------------------------------------------

    def _book(
        self,
        at: int,
        c: _Customer,
        purpose: str,
        cents: int,
        *,
        other: _Account | None = None,
        scheduled: bool = True,
    ) -> None:
        """A credit (`cents` > 0) or debit, with the balances it changes, in one transaction."""
        account = c.checking
        initial = account.balance
        account.balance, account.updated_us = initial + cents, at
        number = next(self._ids["checking"])
        after = (
            f'{{"transaction_id":{number},"account_id":{account.id},"customer_id":{c.id},'
            f'"direction":"{"credit" if cents > 0 else "debit"}","purpose":"{purpose}",'
            f'"amount":"{money(abs(cents))}","currency":"USD","transacted_at":{at},'
            f'"updated_at":{at}}}'
        )
        self._begin()
        self._write(CHECKING_TRANSACTIONS, "c", number, after, at)
        self._write(ACCOUNTS, "u", account.id, _account_row(c, account), at)
        if other is not None:
            other.updated_us = at
            self._write(ACCOUNTS, "u", other.id, _account_row(c, other), at)
        value = (
            f'{{"customer_id":{c.id},"scheduled_payment":{int(scheduled)},'
            f'"txn_amount":{money(abs(cents))},"debit_or_credit":{int(cents > 0)},'
            f'"updt_ts":"{self._clock(at)}.{DIGITS_3[at // 1000 % 1000]}",'
            f'"initial_balance":{money(initial)}}}'
        )
        self._emit("checking_acct", value, c, at)

    def _salary(self, at: int, c: _Customer, day: int) -> None:
        if c.status != "active":
            return
        self._book(at, c, "salary", c.income)
        if len(c.accounts) > 2:
            # the standing order to the savings account runs right after
            self._schedule(at + between(self._draw, 5, 120) * SECOND_US, self._save, c)
        self._schedule(self._day_of_month(at, day, 4), self._salary, c, day)

    def _save(self, at: int, c: _Customer) -> None:
        cents = c.income // 10 // 500 * 500
        if c.status == "active" and c.checking.balance > cents > 0:
            c.accounts[2].balance += cents
            self._book(at, c, "transfer", -cents, other=c.accounts[2])

    def _rent(self, at: int, c: _Customer, day: int) -> None:
        if c.status != "active":
            return
        self._book(at, c, "rent", -c.rent)
        self._schedule(self._day_of_month(at, day, 5), self._rent, c, day)

    def _utilities(self, at: int, c: _Customer, day: int) -> None:
        if c.status != "active":
            return
        winter = 130 if self._dates[self._today].month in (12, 1, 2) else 100
        self._book(at, c, "utilities", -between(self._draw, 5_500, 16_500) * winter // 100)
        self._schedule(self._day_of_month(at, day, 6), self._utilities, c, day)

    def _cash(self, at: int, c: _Customer) -> None:
        if c.status != "active":
            return
        cents = between(self._draw, 1, 10) * 2_000
        if c.checking.balance > cents:
            self._book(at, c, "cash", -cents, scheduled=False)
        days = 20 + 60 * self._draw()
        day = self._today + int(days)
        self._schedule(self._moment(day, _SHOPPING), self._cash, c)

    # ---- loans --------------------------------------------------------------------------------

    def _write_loan(self, op: str, loan: _Loan, status: str, at: int) -> None:
        after = (
            f'{{"application_id":{loan.id},"customer_id":{loan.customer.id},'
            f'"product":"{loan.product}","amount":"{money(loan.amount)}",'
            f'"term_months":{loan.months},"status":"{status}",'
            f'"submitted_at":{loan.submitted_us},"updated_at":{at}}}'
        )
        self._write(LOAN_APPLICATIONS, op, loan.id, after, at)

    def _apply_for_loan(self, at: int, c: _Customer, product: str) -> None:
        if c.status != "active":
            return
        draw = self._draw
        times_income, months = {
            "personal": ((1, 5), (12, 24, 36, 48)),
            "auto": ((4, 9), (36, 48, 60, 72)),
            "home_mortgage": ((40, 70), (180, 240, 360)),
        }[product]
        amount = c.income * between(draw, *times_income) // 100_000 * 100_000 or 100_000
        loan = _Loan(next(self._ids["loan"]), c, product, amount, pick(draw, months), at)
        self._begin()
        self._write_loan("c", loan, "submitted", at)
        self._schedule(at + int((0.2 + 6 * draw()) * DAY_US), self._decide_loan, loan)

    def _decide_loan(self, at: int, loan: _Loan) -> None:
        if loan.customer.status != "active":
            return
        draw = self._draw
        # who is set to buy a home gets the mortgage
        fate = 1.0 if loan.customer.house_hunting else draw()
        status = "declined" if fate < 0.27 else "withdrawn" if fate < 0.37 else "approved"
        self._begin()
        self._write_loan("u", loan, status, at)
        if status == "approved":
            days = 10 + 14 * draw() if loan.product == "home_mortgage" else 1 + 4 * draw()
            self._schedule(at + int(days * DAY_US), self._fund_loan, loan)

    def _fund_loan(self, at: int, loan: _Loan) -> None:
        c = loan.customer
        if c.status != "active":
            return
        bought_home = loan.product == "home_mortgage"
        if bought_home and c.trends.created_ms is not None:
            at = self._touch_trends(at, c)
        self._begin()
        self._write_loan("u", loan, "funded", at)
        if bought_home:
            c.house_hunting = False
            c.trends.home_ms = at // 1000
            if c.trends.created_ms is not None:
                self._write(PURCHASE_TRENDS, "u", c.id, _trends_row(c), at)
        # the instalment with a plain 6 % a year on the whole sum: near enough for a demo
        instalment = loan.amount * (1200 + 6 * loan.months // 2) // 1200 // loan.months
        self._schedule(self._day_of_month(at, 5, 3), self._pay_loan, c, instalment, loan.months)

    def _pay_loan(self, at: int, c: _Customer, instalment: int, months: int) -> None:
        if c.status != "active":
            return
        self._book(at, c, "loan_payment", -instalment)
        if months > 1:
            next_at = self._day_of_month(at, 5, 3)
            self._schedule(next_at, self._pay_loan, c, instalment, months - 1)

    # ---- what others tell the bank ------------------------------------------------------------

    def _clock(self, at: int) -> str:
        day, rest = divmod(at - self._start_us, DAY_US)
        minute, rest = divmod(rest, MINUTE_US)
        return f"{self._iso_dates[day]} {_HOURS_AND_MINUTES[minute]}:{DIGITS_2[rest // SECOND_US]}"

    def _click(self, at: int, c: _Customer, clicks: int, page: str) -> None:
        draw = self._draw
        latitude, longitude = REGIONS[c.region]
        clock = self._clock(at).replace(" ", "T")
        number = next(self._ids["click"])
        value = (
            f'{{"event_id":"evt-{number:09d}","customer_id":{c.id},"page":"{page}",'
            f'"action":"{pick(draw, _ACTIONS)}","device":"{c.device}",'
            f'"latitude":{latitude + (draw() - 0.5) * 0.4:.5f},'
            f'"longitude":{longitude + (draw() - 0.5) * 0.5:.5f},'
            f'"occurred_at":"{clock}.{DIGITS_3[at // 1000 % 1000]}Z"}}'
        )
        self._emit("clickstream", value, c, at)
        if clicks > 1:
            pages = _HOUSE_HUNTER_PAGES if c.house_hunting else _PAGES
            wait = between(draw, 3_000, 80_000) * 1000
            self._schedule(at + wait, self._click, c, clicks - 1, pick(draw, pages))

    def _visit_event(self, at: int, c: _Customer, code: str, tickets: int, cents: int) -> None:
        """Tickets were bought: the box office reports it, and the customer's pattern grows."""
        draw, trends = self._draw, c.trends
        if code == "7941":
            kind = "sport"
            trends.sport += 1
        elif draw() < c.persona.concert_share:
            kind = "concert"
            trends.concerts += tickets
        else:
            kind = "comedy"
            trends.comedy += 1
        number = f"TK-{next(self._ids['ticket']):07d}"
        row = f'"{number}";"{c.id}";"{kind}";"{tickets}";"{money(cents)}";"{self._clock(at)}"'
        self._emit("vendor_tickets", row, c, at)
        refresh_at = at + int((0.2 + 5 * draw()) * HOUR_US)
        self._schedule(refresh_at, self._update_trends, c)

    def _tell_vendor(self, at: int, c: _Customer, code: str, cents: int) -> None:
        """Some of what is paid by card is reported by a partner too."""
        draw = self._draw
        if code in ("4511", "7011") and draw() < 0.7:
            trip = "hotel" if code == "7011" else "cruise" if cents > 90_000 else "flight"
            nights = 0 if trip == "flight" else between(draw, 1, 7)
            number = f"BK-{next(self._ids['booking']):07d}"
            row = f"{number}\t{c.id}\t{trip}\t{nights}\t{money(cents)}\t{self._clock(at)}"
            self._emit("vendor_travel", row, c, at)
        elif code == "5812" and draw() < 0.2:
            row = (
                f'{{"visit_id":"VS-{next(self._ids["visit"]):07d}","customer_id":{c.id},'
                f'"cuisine":"{pick(draw, _CUISINES)}","party_size":{between(draw, 1, 6)},'
                f'"bill":"{money(cents)}","visited_at":"{self._clock(at)}"}}'
            )
            self._emit("vendor_dining", row, c, at)
        elif code in _DEPARTMENTS and draw() < 0.3:
            row = (
                f'  {{\n    "order_id": "OR-{next(self._ids["order"]):07d}",\n'
                f'    "customer_id": {c.id},\n'
                f'    "department": "{pick(draw, _DEPARTMENTS[code])}",\n'
                f'    "items": {between(draw, 1, 5)},\n    "total": "{money(cents)}",\n'
                f'    "ordered_at": "{self._clock(at)}"\n  }}'
            )
            self._emit("vendor_retail", row, c, at)


def _customer_row(c: _Customer) -> str:
    return (
        f'{{"customer_id":{c.id},"full_name":"{c.name}","email":"{c.email}",'
        f'"birth_date":{c.birth_day},"region":"{c.region}",'
        f'"cash_back_programme":"{c.programme}","status":"{c.status}",'
        f'"created_at":{c.created_us},"updated_at":{c.updated_us}}}'
    )


def _account_row(c: _Customer, account: _Account) -> str:
    return (
        f'{{"account_id":{account.id},"customer_id":{c.id},"account_type":"{account.kind}",'
        f'"currency":"USD","balance":"{money(account.balance)}",'
        f'"opened_at":{account.opened_us},"updated_at":{account.updated_us}}}'
    )


def _trends_row(c: _Customer) -> str:
    row = c.trends
    day = _EPOCH + timedelta(milliseconds=row.updated_ms)
    return (
        f'{{"date":"{day.isoformat()}","number_of_concert_tickets":{row.concerts},'
        f'"number_of_comedy_shows":{row.comedy},"number_of_sport_events":{row.sport},'
        f'"number_of_online_txns":{row.online},"home_mortgage_purchased_ts":'
        f'{"null" if row.home_ms is None else row.home_ms},"customer_id":"{c.id}",'
        f'"datetime_created":{row.created_ms},"datetime_updated":{row.updated_ms}}}'
    )


def _price(cents: int, ending: str) -> int:
    """An amount as a shop would ask it whose prices end like this."""
    if ending == "whole":
        return max(100, (cents + 50) // 100 * 100)
    if ending == "99":
        return cents // 100 * 100 + 99
    return cents if cents > 50 else 50


def _shopping_list(persona: Persona, day: date) -> tuple[float, list[Category]]:
    """How busy a day is for a persona (1 is usual), and its purchases' categories to draw from."""
    is_weekend = day.weekday() >= 4
    weights = [
        weight
        * category.months.get(day.month, 1.0)
        # the week as a whole keeps its level: three busier days, four quieter ones
        * (category.weekend if is_weekend else 1)
        * (7 / (4 + 3 * category.weekend))
        for weight, category in zip(persona.mix, CATEGORIES, strict=True)
    ]
    total = sum(weights)
    wanted: list[Category] = []
    for category, reached in zip(CATEGORIES, accumulate(weights), strict=True):
        wanted += [category] * (round(reached / total * 1000) - len(wanted))
    return total / sum(persona.mix), wanted
