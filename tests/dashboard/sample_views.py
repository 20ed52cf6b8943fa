"""A small bank behind the dashboard's views: made-up rows in a real DuckDB file."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median

import duckdb

from dashboard.export import export

Row = tuple[object, ...]
Rows = dict[str, list[Row]]

# What the models promise: the columns of each view `marts.dashboard_<name>`, with their types.
COLUMNS: Mapping[str, str] = {
    "summary": """as_of timestamp, customers bigint, active_customers bigint,
        card_spend_usd decimal(18, 2), cash_back_month date, cash_back_cost_usd decimal(18, 2),
        cash_back_net_usd decimal(18, 2), customers_in_loss bigint, loss_usd decimal(18, 2),
        records_landed bigint, records_rejected bigint, late_changes bigint""",
    "engagement_mix": "engagement_level varchar, customers bigint, share_pct decimal(5, 2)",
    "favorites": """category varchar, customers bigint, events bigint,
        spend_usd decimal(18, 2), share_pct decimal(5, 2)""",
    "offers": """kind varchar, title varchar, customers bigint, first_choices bigint,
        value_usd decimal(18, 2), newest_reason varchar""",
    "cash_back_monthly": """month date, interchange_usd decimal(18, 2),
        cash_back_usd decimal(18, 2), monthly_fee_usd decimal(18, 2),
        servicing_cost_usd decimal(18, 2), net_usd decimal(18, 2), loss_usd decimal(18, 2),
        customers bigint, customers_in_loss bigint, is_over boolean""",
    "cash_back_daily": """date_day date, customers bigint, interchange_usd decimal(18, 2),
        cash_back_usd decimal(18, 2), monthly_fee_usd decimal(18, 2),
        servicing_cost_usd decimal(18, 2), net_usd decimal(18, 2),
        net_to_date_usd decimal(18, 2)""",
    "losses": """customer_id bigint, programme varchar, losing_from_month date, months bigint,
        spend_usd decimal(18, 2), loss_usd decimal(18, 2), reason varchar, explanation varchar""",
    "losses_by_reason": """reason varchar, customers bigint, losing_from_month date,
        loss_usd decimal(18, 2)""",
    "break_even": """customer_id bigint, programme varchar,
        average_monthly_spend_usd decimal(18, 2), break_even_spend_usd decimal(18, 2),
        break_even_status varchar, monthly_net_usd decimal(18, 2)""",
    "break_even_by_programme": """programme varchar, customers bigint, above bigint,
        below bigint, never bigint, no_spend bigint, median_break_even_spend_usd decimal(18, 2),
        net_usd decimal(18, 2)""",
    "freshness": """feed varchar, records bigint, last_batch_id bigint,
        last_ingested_at timestamp, last_source_timestamp timestamp,
        lateness_p95_seconds bigint""",
    "rejected": """feed varchar, stage varchar, reason varchar, records bigint,
        last_at timestamp""",
}

NOW = datetime(2026, 9, 30, 21, 15, 4)  # in UTC, without a zone, as the views have it


def cents(amount: float) -> Decimal:
    return Decimal(round(amount * 100)).scaleb(-2)


@dataclass(frozen=True)
class Programme:
    """A cash-back programme: money in USD per month, rates as parts of the spend."""

    name: str
    fee: float
    servicing: float
    rate: float
    spend: float


PROGRAMMES = (
    Programme("everyday", 0.0, 3.5, 0.0105, 620),
    Programme("gold", 4.95, 9.5, 0.0148, 1450),
    Programme("student", 0.0, 2.0, 0.0125, 310),
    Programme("travel_plus", 12.5, 21.0, 0.0172, 2300),
)


def customers(count: int, seed: int) -> list[Row]:
    """Rows of break_even, drawn so that a programme has all three kinds of customers."""
    draw = random.Random(seed)
    rows: list[Row] = []
    for number in range(count):
        programme = draw.choices(PROGRAMMES, weights=(45, 25, 18, 12))[0]
        spend = programme.spend * draw.lognormvariate(0, 0.55)
        margin = draw.gauss(0.0182, 0.0022) - programme.rate
        net = spend * margin + programme.fee - programme.servicing
        cost = programme.servicing - programme.fee
        threshold = cents(cost / margin) if margin > 0.0004 else None
        status = "never" if threshold is None else "above" if net >= 0 else "below"
        rows.append((100_001 + number, programme.name, cents(spend), threshold, status, cents(net)))
    return rows


def by_programme(points: list[Row]) -> list[Row]:
    rows: list[Row] = []
    for programme in PROGRAMMES:
        own = [row for row in points if row[1] == programme.name]
        status = [row[4] for row in own]
        known = [row[3] for row in own if isinstance(row[3], Decimal)]
        net = sum((row[5] for row in own if isinstance(row[5], Decimal)), Decimal(0))
        rows.append(
            (
                programme.name,
                len(own),
                status.count("above"),
                status.count("below"),
                status.count("never"),
                status.count("no_spend"),
                cents(float(median(known))) if known else None,
                net,
            )
        )  # fmt: skip - two lines read better than eight
    return rows


def months(points: list[Row], count: int, seed: int) -> list[Row]:
    draw = random.Random(seed)
    spend = sum(float(str(row[2])) for row in points)
    rows: list[Row] = []
    for number in range(count):
        season = 1.22 if (number + 10) % 12 == 0 else 1 + 0.05 * draw.gauss(0, 1)
        fee, servicing = 3.1 * len(points), 6.2 * len(points)
        interchange, cash_back = spend * season * 0.0181, spend * season * 0.0139
        net = cents(interchange) + cents(fee) - cents(cash_back) - cents(servicing)
        in_loss = round(len(points) * (0.42 - 0.2 * (season - 1)))
        month = date(2025 + (9 + number) // 12, (9 + number) % 12 + 1, 1)
        rows.append(
            (
                month,
                cents(interchange),
                cents(cash_back),
                cents(fee),
                cents(servicing),
                net,
                None if number == count - 1 else cents(in_loss * 2.35),
                len(points),
                None if number == count - 1 else in_loss,
                number < count - 1,
            )
        )  # fmt: skip - two lines read better than nine
    return rows


def days(count: int, seed: int) -> list[Row]:
    draw = random.Random(seed)
    to_date = Decimal(0)
    rows: list[Row] = []
    for number in range(count):
        interchange, cash_back = cents(draw.uniform(80, 140)), cents(draw.uniform(60, 110))
        fee, servicing = (cents(990), cents(1200)) if number % 30 == 0 else (cents(0), cents(0))
        net = interchange + fee - cash_back - servicing
        to_date += net
        row = (200, interchange, cash_back, fee, servicing, net, to_date)
        rows.append((date(2026, 7, 1) + timedelta(days=number), *row))
    return rows


def sample_rows(count: int = 400, seed: int = 7) -> Rows:
    points = customers(count, seed)
    return {
        "summary": [
            (
                NOW,
                12_480,
                11_932,
                Decimal("14873210.55"),
                date(2026, 9, 1),
                Decimal("201934.17"),
                Decimal("-18342.60"),
                4_127,
                Decimal("61240.95"),
                1_284_551,
                312,
                5_873,
            )
        ],
        "engagement_mix": [
            ("HIGH", 3_619, Decimal("29.00")),
            ("LOW", 4_118, Decimal("33.00")),
            ("MEDIUM", 4_743, Decimal("38.00")),
        ],
        "favorites": [
            ("groceries", 11_204, 182_330, Decimal("4903221.10"), Decimal("31.42")),
            ("dining", 9_480, 121_002, Decimal("2210458.75"), Decimal("18.07")),
            ("travel", 3_022, 14_880, Decimal("3120994.00"), Decimal("13.90")),
            ("fuel", 7_731, 60_412, Decimal("1544200.31"), Decimal("11.05")),
            ("streaming", 8_211, 55_731, Decimal("402117.90"), Decimal("9.11")),
            ("concerts", 2_950, 9_204, Decimal("611030.40"), Decimal("6.85")),
            ("sport", 2_144, 7_310, Decimal("488002.25"), Decimal("5.20")),
            ("comedy", 1_204, 3_377, Decimal("130884.50"), Decimal("2.60")),
            ("other", 4_870, 20_101, Decimal("1462301.34"), Decimal("1.80")),
        ],
        "offers": [
            (
                "loan",
                "Car loan over 5 years",
                41,
                30,
                Decimal("1848900.00"),
                "12 fuel purchases in the last 90 days; $967.13 a month left over",
            ),
            (
                "offer",
                "Weekend dining with 5 % back",
                18,
                3,
                Decimal("435.08"),
                "5 dining purchases in the last 30 days",
            ),
            (
                "offer",
                "Concert presale with 10 % back",
                49,
                49,
                Decimal("1328.32"),
                "Concert tickets went from 3 to 5 since 12 May 2026",
            ),
        ],
        "cash_back_monthly": months(points, 12, seed),
        "cash_back_daily": days(60, seed),
        "losses": [
            (
                100_031,
                "travel_plus",
                date(2026, 6, 1),
                3,
                Decimal("912.40"),
                Decimal("31.07"),
                "never",
                "Cash back of 20.07 USD takes all of the interchange of 15.50 USD: more spend of "
                "this kind would not help.",
            ),
            (
                100_007,
                "everyday",
                date(2025, 12, 1),
                9,
                Decimal("0.00"),
                Decimal("112.60"),
                "no_spend",
                "No card was used: the servicing cost of 112.60 USD is not covered by fees of 0.00 "
                "USD.",
            ),
        ],
        "losses_by_reason": [
            ("below_break_even", 3_100, date(2025, 10, 1), Decimal("41240.95")),
            ("never", 1_027, date(2025, 11, 1), Decimal("61240.10")),
        ],
        "break_even": points,
        "break_even_by_programme": by_programme(points),
        "freshness": [
            (
                "app_clickstream",
                402_118,
                41,
                NOW - timedelta(seconds=31),
                NOW - timedelta(seconds=36),
                9,
            ),
            ("bank_card_transactions", 611_204, 57, NOW - timedelta(seconds=12), NOW, 5_412),
            (
                "bank_customers",
                13_002,
                38,
                NOW - timedelta(minutes=4),
                NOW - timedelta(minutes=5),
                140,
            ),
            (
                "checking_acct",
                98_404,
                40,
                NOW - timedelta(seconds=29),
                NOW - timedelta(minutes=1),
                61,
            ),
            (
                "purchase_trends",
                151_840,
                44,
                NOW - timedelta(seconds=44),
                NOW - timedelta(seconds=52),
                86_410,
            ),
            (
                "vendor_behaviour",
                7_983,
                3,
                NOW - timedelta(hours=20),
                NOW - timedelta(hours=22),
                7_201,
            ),
            ("vendor_credit_scores", 0, None, None, None, None),
        ],
        "rejected": [
            (
                "bank_card_transactions",
                "ingestion",
                "not valid JSON: unexpected end of data",
                121,
                NOW - timedelta(minutes=3),
            ),
            ("bank_card_transactions", "staging", "unknown op 'x'", 40, NOW - timedelta(hours=2)),
            (
                "purchase_trends",
                "staging",
                "no key: customer_id is null",
                88,
                NOW - timedelta(minutes=41),
            ),
            (
                "vendor_behaviour",
                "ingestion",
                "row has 9 columns where 7 are declared",
                61,
                NOW - timedelta(hours=20),
            ),
            (
                "app_clickstream",
                "ingestion",
                "value is not UTF-8 (byte 14)",
                2,
                NOW - timedelta(days=3),
            ),
        ],
    }  # fmt: skip - one row per line, as far as it goes


def write_database(path: Path, rows: Mapping[str, list[Row]]) -> None:
    """Makes a database whose schema marts has one view per entry of `rows`."""
    with duckdb.connect(path) as connection:
        connection.execute("create schema if not exists marts")
        connection.execute("create schema if not exists data")
        for name, content in rows.items():
            connection.execute(f"create or replace table data.{name} ({COLUMNS[name]})")
            if content:
                places = ", ".join("?" for _ in content[0])
                connection.execute(
                    f"insert into data.{name} values " + ", ".join([f"({places})"] * len(content)),
                    [value for row in content for value in row],
                )
            connection.execute(
                f"create or replace view marts.dashboard_{name} as select * from data.{name}"
            )


class Dashboard:
    """A lakehouse of a test: a database of sample rows and the dashboard exported from it."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "insights.duckdb"
        self.output = folder / "dashboard"
        self.exports = 0

    def export(self, **changed: list[tuple[object, ...]]) -> str:
        """Exports the sample rows, with the views in `changed` replaced; returns `generated_at`."""
        rows: Rows = {**sample_rows(), **changed}
        write_database(self.database, rows)
        self.exports += 1
        generated_at = NOW.replace(tzinfo=UTC) + timedelta(seconds=self.exports)
        export(self.database, self.output, generated_at)
        return f"{generated_at:%Y-%m-%dT%H:%M:%SZ}"
