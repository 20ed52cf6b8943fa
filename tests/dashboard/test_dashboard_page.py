"""The page in a headless Chromium: from disk and served, current, unharmed by its data."""

import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from tests.dashboard.chromium import Page
from tests.dashboard.sample_views import NOW, Dashboard, Row, sample_rows

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"

READY = "document.documentElement.dataset.state === 'ready'"
DRAWN = f"{READY} && document.querySelectorAll('.chart .main-svg').length >= 10"
STYLE = Path(__file__).parents[2] / "dashboard" / "style.css"

CHARTS = (
    "#engagement-chart",
    "#favorites-chart",
    "#monthly-chart",
    "#daily-chart",
    "#break-even-chart",
)
TABLES = (
    "#engagement-table",
    "#favorites-table",
    "#offers-table",
    "#monthly-table",
    "#daily-table",
    "#reasons-table",
    "#losses-table",
    "#programme-table",
    "#freshness-table",
    "#rejected-table",
)  # fmt: skip - a list of names


def state(page: Page) -> str:
    return str(page.evaluate("document.documentElement.dataset.state"))


def row_of(page: Page, table: str, first: str) -> list[str]:
    """The cells of the row of a table whose first cell reads `first`."""
    cells: list[list[str]] = page.evaluate(
        f"[...document.querySelectorAll('{table} tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return next(row for row in cells if row[0] == first)


def test_all_panels_are_shown_with_their_figures(
    dashboard: Dashboard, page: Page, address: str
) -> None:
    generated_at = dashboard.export()
    page.open(address).wait_for(DRAWN)
    assert page.evaluate("document.documentElement.dataset.generatedAt") == generated_at
    assert page.text("#as-of") == "30 Sept 2026, 21:15:04 UTC"
    assert page.text("#age").startswith("newest business event ")
    tiles = {
        "customers": ("12,480", "11,932 active in the last 30 days, spending $14,873,210.55"),
        "engaged": ("29.00 %", "3,619 customers at level HIGH"),
        "cost": ("$201,934.17", "in Sept 2026, the newest month that is over"),
        "net": (f"{MINUS}$18,342.60", "interchange and fees less cash back and servicing"),
        "loss": ("4,127", "losing $61,240.95 in the month"),
        "rejected": ("312", "of 1,284,551 landed; 5,873 records late"),
    }
    shown = {name: (page.text(f"#tile-{name}"), page.text(f"#note-{name}")) for name in tiles}
    assert shown == tiles

    assert row_of(page, "#engagement-table", "MEDIUM") == ["MEDIUM", "4,743", "38.00 %"]
    favourite = ["Groceries", "11,204", "182,330", "$4,903,221.10", "31.42 %"]
    assert row_of(page, "#favorites-table", "Groceries") == favourite
    concerts = row_of(page, "#offers-table", "Concert presale with 10 % back")
    assert concerts[1:4] == ["offer", "49", "49"]
    assert concerts[4:] == ["$1,328.32", "Concert tickets went from 3 to 5 since 12 May 2026"]
    kinds = "[...document.querySelectorAll('#offers-table td:nth-child(2)')]"
    shown_kinds = page.evaluate(f"{kinds}.map((cell) => cell.textContent)")
    assert shown_kinds == ["offer", "offer", "loan"]
    assert row_of(page, "#monthly-table", "Oct 2025")[7] == "400"
    assert row_of(page, "#monthly-table", "Sept 2026, so far")[6:] == [NONE, "400", NONE]
    assert row_of(page, "#daily-table", "29 Aug 2026")[1] == "200"
    reason = ["Cash back takes all of the interchange", "1,027", "Nov 2025", "$61,240.10"]
    assert row_of(page, "#reasons-table", reason[0]) == reason
    losers = page.evaluate(
        "[...document.querySelectorAll('#losses-table tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert [loser[:6] for loser in losers] == [
        ["100007", "Everyday", "Dec 2025", "9", "$0.00", "$112.60"],
        ["100031", "Travel plus", "Jun 2026", "3", "$912.40", "$31.07"],
    ]
    assert losers[0][6].startswith("No card was used")
    assert row_of(page, "#programme-table", "Travel plus")[1:6] == ["47", "9", "24", "14", "0"]
    landed = row_of(page, "#freshness-table", "bank_card_transactions")
    assert landed[3].startswith("2026-09-30 21:14:52")
    assert landed[5] == "90 min"
    assert row_of(page, "#freshness-table", "vendor_credit_scores")[1:] == ["0", *[NONE] * 4]
    assert row_of(page, "#rejected-table", "purchase_trends")[1:4] == [
        "staging",
        "no key: customer_id is null",
        "88",
    ]  # fmt: skip - one row
    counts = "[...document.querySelectorAll('#rejected-table td:nth-child(4)')]"
    shown_counts = page.evaluate(f"{counts}.map((cell) => cell.textContent)")
    assert shown_counts == ["121", "88", "61", "40", "2"]
    assert page.errors == []


def test_the_charts_draw_every_bar_month_customer_and_threshold(
    dashboard: Dashboard, page: Page, served: str
) -> None:
    dashboard.export()
    page.open(served).wait_for(DRAWN)
    engagement = page.text("#engagement-chart")
    assert [engagement.index(level) for level in ("LOW", "MEDIUM", "HIGH")] == sorted(
        engagement.index(level) for level in ("LOW", "MEDIUM", "HIGH")
    )
    count = "document.querySelectorAll('#{} .{}').length"
    assert page.evaluate(count.format("favorites-chart", "bars .point")) == 9
    assert page.evaluate(count.format("monthly-chart", "bars .point")) == 3 * 12
    assert page.evaluate(count.format("monthly-chart", "scatterlayer .point")) == 12
    assert page.evaluate(count.format("daily-chart", "bars .point")) == 60
    few_hidden = page.evaluate(count.format("break-even-chart", "scatterlayer .point"))
    assert 0.98 * 400 <= few_hidden < 400
    page.evaluate("document.querySelector('#show-all').click()")
    page.wait_for(count.format("break-even-chart", "scatterlayer .point") + " === 400")
    chart = page.text("#break-even-chart")
    for programme in sample_rows()["break_even_by_programme"]:
        name = str(programme[0]).replace("_", " ").capitalize()
        assert f"{name}: ${programme[6]:,}" in chart
    for status in ("above", "below", "never", "▲ earns", "▼ loses"):
        assert status in chart


def test_nothing_is_loaded_from_elsewhere(dashboard: Dashboard, page: Page, address: str) -> None:
    dashboard.export()
    page.open(address).wait_for(DRAWN)
    home = address.removesuffix("index.html")
    elsewhere = [url for url in page.requests if not url.startswith((home, "data:"))]
    assert page.requests
    assert elsewhere == []


def test_new_data_are_shown_in_place_without_a_reload(
    dashboard: Dashboard, page: Page, address: str
) -> None:
    dashboard.export()
    page.open(address).wait_for(DRAWN)
    opened = "document.querySelector('#monthly-table').parentElement.open"
    page.evaluate(f"window.mark = 'the same document'; {opened} = true")
    rejected: list[Row] = [("purchase_trends", "staging", "a new reason", 7, NOW)]
    generated_at = dashboard.export(rejected=rejected)
    page.wait_for(f"document.documentElement.dataset.generatedAt === '{generated_at}'")
    assert row_of(page, "#rejected-table", "purchase_trends")[2] == "a new reason"
    assert "bank_card_transactions" not in page.text("#rejected-table")
    assert page.evaluate("window.mark") == "the same document"
    assert page.evaluate(opened) is True
    assert state(page) == "ready"
    assert page.errors == []


def test_hostile_text_is_shown_as_text_and_never_runs(
    dashboard: Dashboard, page: Page, address: str
) -> None:
    image = "<img src=x onerror='window.owned=1'>"
    script = "</script><script>window.owned=2</script>"
    link = "<a href='//e.vil'>x</a>"
    markup = "<b>&lt;bold&gt;</b>"  # plotly would read it
    dashboard.export(
        engagement_mix=[(image, 1, Decimal("100.00"))],
        favorites=[(link, 1, 1, Decimal(1), Decimal(60)), (markup, 1, 1, Decimal(1), Decimal(40))],
        offers=[("offer", script, 1, 1, Decimal(1), image)],
        break_even=[(1, image, Decimal(5), None, "never", Decimal(-1))],
        break_even_by_programme=[(image, 1, 0, 0, 1, 0, Decimal(2), Decimal(-1))],
        losses=[(1, image, None, 1, Decimal(1), Decimal(1), link, script)],
        losses_by_reason=[(image, 1, None, Decimal(1))],
        freshness=[(link, 1, 1, NOW, NOW, 1)],
        rejected=[(script, image, f"{script} \u2028 {link}", 1, NOW)],
    )
    page.open(address).wait_for(DRAWN)
    assert row_of(page, "#rejected-table", script)[1:3] == [image, f"{script} \u2028 {link}"]
    assert row_of(page, "#favorites-table", link)[0] == link
    assert row_of(page, "#offers-table", script)[5] == image
    assert row_of(page, "#programme-table", image)[0] == image
    assert row_of(page, "#losses-table", "1")[6] == script
    assert row_of(page, "#reasons-table", image)[0] == image
    assert image[:20] in page.text("#engagement-chart")
    assert link in page.text("#favorites-chart")
    assert markup in page.text("#favorites-chart")
    assert image[:20] in page.text("#break-even-chart")
    assert page.evaluate("window.owned") is None
    assert page.evaluate("document.querySelectorAll('img, main a, main script').length") == 0
    assert page.dialogs == 0


def test_without_data_the_page_says_so_and_recovers(
    dashboard: Dashboard, page: Page, address: str
) -> None:
    dashboard.export()
    for name in ("insights.json", "insights.js"):
        (dashboard.output / name).unlink()
    page.open(address).wait_for("document.documentElement.dataset.state === 'error'")
    assert "There is nothing to show yet; this page keeps trying." in page.text("#status")
    assert re.search(r"answered 404|is not beside this page", page.text("#status"))
    dashboard.export()
    page.evaluate("refresh()")
    assert state(page) == "ready"
    assert page.text("#tile-customers") == "12,480"


def test_broken_data_are_an_error_in_words_and_the_last_good_data_stay(
    dashboard: Dashboard, page: Page, address: str
) -> None:
    generated_at = dashboard.export()
    page.open(address).wait_for(DRAWN)
    for content, words in (
        ('{"generated_at": "2026', r"not valid JSON|is not complete"),
        ('{"generated_at": "x", "views": {"summary": []}}', r"the data lack engagement_mix, .*"),
        ('{"views": {}}', r"the data lack summary"),
        ("null", r"the data lack summary"),
    ):
        (dashboard.output / "insights.json").write_text(content)
        (dashboard.output / "insights.js").write_text(f"window.INSIGHTS = {content};")
        page.evaluate("refresh()")
        assert state(page) == "error"
        assert re.search(words, page.text("#status")), content
        assert "the last good data, exported 30 Sept 2026, 21:15:05 UTC" in page.text("#status")
        assert page.evaluate("document.documentElement.dataset.generatedAt") == generated_at
        assert page.text("#tile-customers") == "12,480"


def test_data_that_fail_while_they_are_drawn_leave_the_last_good_data(
    dashboard: Dashboard, page: Page, served: str
) -> None:
    dashboard.export()
    page.open(served).wait_for(DRAWN)
    path = dashboard.output / "insights.json"
    text = path.read_text().replace('"customers":12480', '"customers":99')
    text = re.sub(r'"generated_at":"[^"]*"', '"generated_at":"2027-01-01T00:00:00Z"', text)
    path.write_text(re.sub(r'"rejected":\[.*?\]', '"rejected":[null]', text))
    page.evaluate("refresh()")
    assert state(page) == "error"
    assert page.text("#tile-customers") == "12,480"
    assert row_of(page, "#rejected-table", "purchase_trends")[3] == "88"


def test_an_empty_bank_is_said_in_words(dashboard: Dashboard, page: Page, served: str) -> None:
    dashboard.export()
    page.open(served).wait_for(DRAWN)
    dashboard.export(**{name: [] for name in sample_rows(1)})
    page.evaluate("refresh()")
    assert state(page) == "ready"
    assert page.text("#as-of") == "no business event yet"
    assert page.text("#tile-customers") == NONE
    assert page.text("#engagement-chart") == "No customer has an engagement level yet."
    assert page.text("#favorites-chart") == "No preference has been seen yet."
    assert page.text("#offers-table") == "No customer gets an offer today."
    assert page.text("#monthly-chart") == "No card transaction has earned cash back yet."
    assert page.text("#daily-chart") == "No day has moved the cash-back result yet."
    nobody = "No customer lost in the newest month that is over."
    assert (page.text("#losses-table"), page.text("#reasons-table")) == (nobody, nobody)
    assert page.text("#break-even-chart") == "No customer of a cash-back programme has spent yet."
    assert page.text("#freshness-table") == "No feed has landed anything yet."
    assert page.text("#rejected-table") == "Nothing was rejected."
    assert "NaN" not in page.text("main")
    assert "undefined" not in page.text("main")
    dashboard.export()
    page.evaluate("refresh()")
    page.wait_for(DRAWN)
    assert "No preference" not in page.text("#favorites-chart")


def test_money_is_shown_digit_by_digit(dashboard: Dashboard, page: Page, served: str) -> None:
    large = Decimal("9007199254740993.07")  # a floating-point number would end in 992 or 994
    month = (date(2026, 9, 1), large, -large, *[Decimal("0.10")] * 4, 2**60 + 1, 0, True)
    dashboard.export(cash_back_monthly=[month])
    page.open(served).wait_for(DRAWN)
    shown = row_of(page, "#monthly-table", "Sept 2026")
    assert shown[1:4] == ["$9,007,199,254,740,993.07", "$0.10", f"{MINUS}$9,007,199,254,740,993.07"]
    assert shown[7] == "1,152,921,504,606,846,977"


def test_figures_and_tables_have_names_and_can_be_reached_by_keyboard(
    dashboard: Dashboard, page: Page, served: str
) -> None:
    dashboard.export()
    page.open(served).wait_for(DRAWN)
    for chart in CHARTS:
        label = page.evaluate(f"document.querySelector('{chart}').getAttribute('aria-label')")
        assert re.search(r"\d", label), f"{chart} says no figure: {label}"
    for table in TABLES:
        assert page.evaluate(f"document.querySelector('{table}').tabIndex") == 0
        assert page.evaluate(f"document.querySelector('{table} caption').textContent.length") > 0
    definitions = page.evaluate("document.querySelectorAll('section .definition').length")
    assert definitions >= page.evaluate("document.querySelectorAll('section').length")


def test_the_page_never_scrolls_sideways(dashboard: Dashboard, page: Page, served: str) -> None:
    charts = "[...document.querySelectorAll('.chart')]"
    fits = "chart.querySelector('.main-svg').clientWidth <= chart.clientWidth"
    dashboard.export()
    page.open(served).wait_for(DRAWN)
    for width in (1600, 1000, 700, 400):
        page.send(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        page.wait_for(f"innerWidth === {width} && {charts}.every((chart) => {fits})")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_charts_follow_the_colour_scheme_and_print_in_the_light_one(
    dashboard: Dashboard, page: Page, served: str
) -> None:
    ink = "getComputedStyle(document.querySelector('#engagement-chart text')).fill"
    dashboard.export()
    page.send("Emulation.setEmulatedMedia", features=[_scheme("light")])
    page.open(served).wait_for(DRAWN)
    light = page.evaluate(ink)
    page.send("Emulation.setEmulatedMedia", features=[_scheme("dark")])
    page.wait_for(f"{ink} !== '{light}'")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(ink) == light
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(ink) != light


def _scheme(value: str) -> dict[str, str]:
    return {"name": "prefers-color-scheme", "value": value}


def _luminance(colour: str) -> float:
    def linear(channel: float) -> float:
        return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(scheme: int) -> None:
    blocks = re.findall(r":root[^{]*\{(.*?)\}", STYLE.read_text(), flags=re.DOTALL)
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", blocks[scheme]))
    text = ["ink", "muted", "accent", "bad", *(f"series-{number}" for number in range(1, 7))]
    shapes = ["level-1", "level-2", "level-3", "income", "cost", "net"]
    for name, ratio in [*((name, 4.5) for name in text), *((name, 3.0) for name in shapes)]:
        assert _contrast(colours[name], colours["surface"]) >= ratio, name
    assert _contrast(colours["muted"], colours["page"]) >= 4.5
    assert _contrast(colours["ink"], colours["bad-surface"]) >= 4.5
