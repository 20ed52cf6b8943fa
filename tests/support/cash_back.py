"""Compares the cash-back marts of a lakehouse with the oracle, to the cent."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from itertools import accumulate, groupby

from tests.support import oracle
from tests.support.lakehouse import Lakehouse


def assert_cash_back_matches(
    lakehouse: Lakehouse,
    entries: Mapping[int, oracle.Entry],
    enrolled: Mapping[int, list[oracle.Enrolment]],
    terms: oracle.Terms,
    as_of: date,
) -> None:
    """Every mart of `models/marts/cash_back` is what the oracle makes of the ledger's `entries`."""
    assert lakehouse.query(
        "select transaction_id, customer_id, transacted_at::date, programme, programme_valid_from,"
        " category, spend_usd, interchange_usd, cash_back_usd, withheld_by_cap_usd, cap_left_usd,"
        " is_original_known from marts.cash_back_ledger order by transaction_id"
    ) == [
        (
            number,
            e.customer,
            e.day,
            e.programme,
            e.version,
            e.category,
            e.spend,
            e.interchange,
            e.cash_back,
            e.withheld,
            e.cap_left,
            e.is_original_known,
        )
        for number, e in sorted(entries.items())
    ]  # fmt: skip - as the query

    months = oracle.monthly(entries, enrolled, terms, as_of)
    assert lakehouse.query(
        "select customer_id, month, programme, charged_on_date, transactions, spend_usd,"
        " interchange_usd, cash_back_usd, monthly_fee_usd, servicing_cost_usd, net_usd, is_loss,"
        " is_over from marts.cash_back_monthly order by customer_id, month"
    ) == [
        (
            customer,
            month,
            m.programme,
            m.charged_on,
            m.transactions,
            m.spend,
            m.interchange,
            m.cash_back,
            m.fee,
            m.servicing,
            m.net,
            m.net < 0,
            month < oracle.first_of_month(as_of),
        )
        for (customer, month), m in sorted(months.items())
    ]  # fmt: skip - as the query

    days = oracle.daily(entries, months)
    expected_days = []
    for _, own in groupby(sorted(days.items()), key=lambda d: (d[0][0], d[0][1].replace(day=1))):
        to_date = Decimal(0)
        for (customer, day), amounts in own:
            _, interchange, cash_back, fee, servicing = amounts
            to_date += interchange + fee - cash_back - servicing
            expected_days.append((customer, day, *amounts, to_date))
    assert (
        lakehouse.query(
            "select customer_id, date_day, spend_usd, interchange_usd, cash_back_usd,"
            " monthly_fee_usd, servicing_cost_usd, net_month_to_date_usd"
            " from marts.cash_back_daily order by customer_id, date_day"
        )
        == expected_days
    )

    nets: dict[date, Decimal] = defaultdict(Decimal)
    for (_, day), (_, interchange, cash_back, fee, servicing) in days.items():
        nets[day] += interchange + fee - cash_back - servicing
    by_day = sorted(nets.items())
    to_dates = accumulate(net for _, net in by_day)
    result = [(*day, to_date) for day, to_date in zip(by_day, to_dates, strict=True)]
    assert (
        lakehouse.query(
            "select date_day, net_usd, net_to_date_usd from marts.cash_back_result_daily"
            " order by date_day"
        )
        == result
    )

    assert {
        (customer, programme): oracle.BreakEven(*values)
        for customer, programme, *values in lakehouse.query(
            "select customer_id, programme, months, break_even_spend_usd, distance_usd,"
            " break_even_status, is_newest_programme from marts.cash_back_break_even"
        )
    } == oracle.break_even(months, as_of)

    assert {
        (customer, first): (oracle.Loss(last, loss, reason), is_current)
        for customer, first, last, loss, reason, is_current in lakehouse.query(
            "select customer_id, losing_from_month, losing_to_month, loss_usd, reason, is_current"
            " from marts.cash_back_losses"
        )
    } == {
        key: (loss, oracle.following(loss.last) == oracle.first_of_month(as_of))
        for key, loss in oracle.losses(months, as_of).items()
    }
