"""Rounding of money is that of exact arithmetic, half to even, for amounts of any size."""

import random
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest

from tests.support.lakehouse import Lakehouse

CENT = Decimal("0.01")
# Cents, dollars, and on both sides of the amounts whose product fits into 64 bits.
SIZES = (100, 10_000, 10**9, 3 * 10**9, 4 * 10**9, 10**12)


@pytest.fixture(scope="module")
def lakehouse(tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    return Lakehouse(tmp_path_factory.mktemp("money"))


def compiled(lakehouse: Lakehouse, macro: str) -> str:
    return str(lakehouse.dbt("compile", "--inline", macro).result.results[0].node.compiled_code)


def amounts(rng: random.Random, count: int) -> list[Decimal]:
    return [rng.choice((-1, 1)) * rng.randrange(rng.choice(SIZES)) * CENT for _ in range(count)]


def rounded(exact: Decimal) -> Decimal:
    return exact.quantize(CENT, rounding=ROUND_HALF_EVEN)


def test_an_amount_is_scaled_exactly(lakehouse: Lakehouse) -> None:
    rng = random.Random(285)
    with localcontext(prec=60):
        rows = [
            (a, n, d)
            for a, n, d in zip(*(amounts(rng, 3000) for _ in range(3)), strict=True)
            if d == 0 or abs(a * n / d) < 10**15
        ]
        # Halves of a cent, which are rare otherwise.
        rows += [(a, Decimal(1), Decimal(2)) for a in amounts(rng, 200)]
        rows += [(a, a, Decimal(0)) for a in amounts(rng, 10)]
        expected = [rounded(a * n / d) if d else None for a, n, d in rows]
    values = ", ".join(f"({place}, {a}, {n}, {d})" for place, (a, n, d) in enumerate(rows))
    scaled = compiled(lakehouse, "{{ scale_amount('a', 'n', 'd') }}")
    found = lakehouse.query(
        f"select {scaled} from (select place, cast(a as decimal(18, 2)) as a,"
        " cast(n as decimal(18, 2)) as n, cast(d as decimal(18, 2)) as d"
        f" from (values {values}) as drawn (place, a, n, d)) as rows order by place"
    )
    assert [scaled for (scaled,) in found] == expected
    assert None in expected


def test_a_product_is_rounded_half_to_even(lakehouse: Lakehouse) -> None:
    rng = random.Random(50)
    rates = [Decimal(rate) for rate in ("0.010000", "0.015000", "0.005000", "0.012345", "0.999999")]
    rows = [(a, rng.choice(rates)) for a in amounts(rng, 3000) if abs(a) < 10**7]
    rows += [(Decimal(dollars), Decimal("0.005000")) for dollars in range(-99, 100)]
    values = ", ".join(f"({place}, {a}, {rate})" for place, (a, rate) in enumerate(rows))
    product = compiled(lakehouse, "{{ round_half_even('a * rate') }}")
    found = lakehouse.query(
        f"select {product} from (select place, cast(a as decimal(18, 2)) as a,"
        " cast(rate as decimal(9, 6)) as rate"
        f" from (values {values}) as drawn (place, a, rate)) as rows order by place"
    )
    assert [value for (value,) in found] == [rounded(a * rate) for a, rate in rows]
