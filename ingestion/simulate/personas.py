"""Who the bank's customers are, where they spend and when: all the tables behind the behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ENGAGEMENT_ONLINE_TXNS = {"LOW": (0, 2), "MEDIUM": (3, 10), "HIGH": (11, 40)}
"""Engagement level to the range of `number_of_online_txns` that means it."""


@dataclass(frozen=True, slots=True)
class Category:
    """A merchant category.

    `median_cents` is the median purchase of an average customer, `sigma` its log-normal spread,
    `prices` how amounts end (any cents, .99, whole dollars), `weekend` how much busier a day from
    Friday to Sunday is than another, `months` the factors of the months that differ from 1.
    """

    code: str
    median_cents: int
    sigma: float
    prices: Literal["cents", "99", "whole"]
    weekend: float
    months: dict[int, float]
    merchants: tuple[str, ...]


_SUMMER = {6: 1.5, 7: 1.9, 8: 1.7, 12: 1.3, 1: 0.7, 2: 0.8}
_RETAIL = {11: 1.5, 12: 2.4, 1: 0.8, 2: 0.8}

CATEGORIES = (
    Category(
        "5411",
        4_850,
        0.55,
        "cents",
        1.2,
        {11: 1.1, 12: 1.2},
        (
            "Green Basket",
            "Harvest Lane Market",
            "Corner Pantry",
            "Daily Bread Foods",
            "Fresh & Far",
        ),
    ),
    Category(
        "5541",
        4_300,
        0.35,
        "cents",
        1.0,
        {7: 1.2, 8: 1.2},
        ("Northway Fuel", "Blue Pump", "Rapid Gas & Go", "Milepost Station"),
    ),
    Category(
        "5812",
        4_600,
        0.55,
        "cents",
        1.9,
        {12: 1.2},
        ("Trattoria Lumina", "The Copper Ladle", "Saffron Garden", "Harbor Grill", "Maison Olive"),
    ),
    Category(
        "5814",
        1_150,
        0.35,
        "99",
        1.2,
        {},
        ("Burger Comet", "Taco Parade", "Noodle Express", "Bagel Junction"),
    ),
    Category(
        "4511",
        31_000,
        0.55,
        "whole",
        0.8,
        _SUMMER,
        ("Skylark Airways", "Transpolar Air", "Meridian Airlines"),
    ),
    Category(
        "7011",
        21_000,
        0.55,
        "whole",
        1.3,
        _SUMMER,
        ("Hotel Marlowe", "Lakeside Inn", "Grand Pavilion", "Roadstar Lodge"),
    ),
    Category(
        "7922",
        7_200,
        0.35,
        "whole",
        1.4,
        {5: 1.2, 6: 1.4, 7: 1.5, 8: 1.3},
        ("Encore Box Office", "StageDoor Tickets", "Laughing Lantern Club"),
    ),
    Category(
        "7941",
        6_100,
        0.35,
        "whole",
        1.7,
        {3: 1.2, 4: 1.2, 9: 1.3, 10: 1.3},
        ("Riverside Arena", "Union Ballpark", "Northern Stars FC"),
    ),
    Category(
        "5311",
        6_400,
        0.8,
        "99",
        1.3,
        _RETAIL,
        ("Halden & Sons", "Metro Galleria", "Parkway Stores", "Willow Department"),
    ),
    Category(
        "5732",
        14_500,
        0.8,
        "99",
        1.2,
        _RETAIL,
        ("Voltline Electronics", "Pixel Depot", "Circuit Harbor"),
    ),
    Category(
        "5912",
        1_900,
        0.55,
        "99",
        0.9,
        {1: 1.2, 2: 1.2},
        ("Wellspring Pharmacy", "Cornerstone Drugs", "Clover Health"),
    ),
    Category(
        "4900",
        9_800,
        0.35,
        "cents",
        0.3,
        {1: 1.3, 2: 1.3, 7: 1.2, 8: 1.2},
        ("City Power & Light", "Clearwater Utility", "Metro Gas Works"),
    ),
    Category(
        "5999",
        2_700,
        0.8,
        "99",
        1.2,
        _RETAIL,
        ("The Odd Shop", "Paper Kite Gifts", "Bramble & Twine", "Hobby Harbor"),
    ),
    Category(
        "5942",
        1_800,
        0.55,
        "99",
        1.2,
        {9: 1.3, 12: 1.8},
        ("Inkwell Books", "Second Chapter", "Page & Lantern"),
    ),
    Category(
        "7832", 1_600, 0.35, "cents", 2.2, {7: 1.2, 12: 1.2}, ("Cinema Aurora", "Starlight Movies")
    ),
    Category(
        "4121",
        1_700,
        0.55,
        "cents",
        1.4,
        {},
        ("Hopper Rides", "Yellow Arrow Cab", "MetroLift"),
    ),
)
"""ISO 18245 codes: groceries, fuel, restaurants, fast food, airlines, hotels, theatre and concert
tickets, sports clubs and fields, department stores, electronics, drug stores, utilities,
miscellaneous retail, book stores, cinemas, taxis and ride hailing. The merchants are invented."""


@dataclass(frozen=True)
class Persona:
    """A kind of customer.

    `share` of all customers; `purchases_per_day` with the card and the `spend_pct` of the median
    amount; `income_cents` per month; shares of cash-back programmes and of engagement levels;
    `mix` is the weight of each merchant category, in the order of `CATEGORIES`; `events` weighs
    concerts against comedy; `ages` in years.
    """

    name: str
    share: float
    purchases_per_day: float
    spend_pct: int
    income_cents: int
    pays_rent: float
    programmes: dict[str, float]
    engagement: dict[str, float]
    mix: tuple[float, ...]
    concert_share: float
    ages: tuple[int, int]


def _levels(low: float, medium: float, high: float) -> dict[str, float]:
    return {"LOW": low, "MEDIUM": medium, "HIGH": high}


def _programmes(everyday: float, travel_plus: float, premier: float) -> dict[str, float]:
    return {"everyday": everyday, "travel_plus": travel_plus, "premier": premier}


# the weights follow CATEGORIES: groceries fuel restaurants fast-food airlines hotels tickets sport
# department electronics drugs utilities misc books cinema taxi
PERSONAS = (
    Persona(
        "student",
        0.18,
        0.29,
        55,
        110_000,
        0.6,
        _programmes(0.85, 0.12, 0.03),
        _levels(0.15, 0.45, 0.40),
        (18, 4, 8, 26, 0.4, 0.3, 2.0, 1.0, 4, 2, 3, 1, 5, 6, 5, 9),
        0.7,
        (18, 27),
    ),
    Persona(
        "commuter_family",
        0.28,
        0.37,
        105,
        450_000,
        0.75,
        _programmes(0.62, 0.28, 0.10),
        _levels(0.20, 0.55, 0.25),
        (34, 18, 8, 9, 0.5, 0.6, 0.8, 1.5, 7, 2, 5, 4, 4, 2, 2, 1),
        0.5,
        (30, 55),
    ),
    Persona(
        "high_spender",
        0.10,
        0.52,
        210,
        1_050_000,
        0.4,
        _programmes(0.10, 0.20, 0.70),
        _levels(0.10, 0.40, 0.50),
        (12, 7, 28, 3, 2.5, 3.0, 2.5, 2.0, 12, 6, 3, 2, 8, 3, 2, 6),
        0.6,
        (32, 64),
    ),
    Persona(
        "traveller",
        0.12,
        0.37,
        145,
        640_000,
        0.6,
        _programmes(0.05, 0.35, 0.60),
        _levels(0.10, 0.45, 0.45),
        (11, 6, 23, 7, 8.0, 9.0, 1.0, 0.8, 4, 3, 3, 2, 4, 3, 1, 14),
        0.6,
        (25, 60),
    ),
    Persona(
        "retiree",
        0.20,
        0.14,
        80,
        240_000,
        0.3,
        _programmes(0.80, 0.15, 0.05),
        _levels(0.60, 0.35, 0.05),
        (42, 10, 8, 3, 0.5, 0.6, 1.0, 0.6, 5, 1, 16, 8, 4, 6, 1, 1),
        0.3,
        (63, 88),
    ),
    Persona(
        "event_goer",
        0.12,
        0.37,
        115,
        390_000,
        0.7,
        _programmes(0.40, 0.30, 0.30),
        _levels(0.10, 0.45, 0.45),
        (16, 7, 16, 10, 0.8, 1.2, 9.0, 6.0, 5, 2, 3, 2, 4, 3, 8, 8),
        0.6,
        (21, 48),
    ),
)

REGIONS = {
    "north": (44.9778, -93.2650),
    "north-east": (42.3601, -71.0589),
    "east-coast": (39.9526, -75.1652),
    "south-east": (33.7490, -84.3880),
    "south-coast": (29.7604, -95.3698),
    "mountain": (39.7392, -104.9903),
    "central": (41.8781, -87.6298),
    "west-coast": (37.7749, -122.4194),
}
"""Region to the latitude and longitude of its centre."""

# (as written, as in an e-mail address)
FIRST_NAMES = (
    ("Ada", "ada"),
    ("Bruno", "bruno"),
    ("Chloé", "chloe"),
    ("Dario", "dario"),
    ("Elif", "elif"),
    ("Femi", "femi"),
    ("Greta", "greta"),
    ("Hiro", "hiro"),
    ("Ines", "ines"),
    ("Jonas", "jonas"),
    ("Kavya", "kavya"),
    ("Liam", "liam"),
    ("Mei", "mei"),
    ("Nadia", "nadia"),
    ("Omar", "omar"),
    ("Petra", "petra"),
    ("Quinn", "quinn"),
    ("Rosa", "rosa"),
    ("Søren", "soren"),
    ("Tariq", "tariq"),
    ("Uma", "uma"),
    ("Vera", "vera"),
    ("Wren", "wren"),
    ("Zoë", "zoe"),
)
LAST_NAMES = (
    ("Abernathy", "abernathy"),
    ("Brandt", "brandt"),
    ("Castellan", "castellan"),
    ("Dovetail", "dovetail"),
    ("Eastbrook", "eastbrook"),
    ("Fairlie", "fairlie"),
    ("Greenhalgh", "greenhalgh"),
    ("Hollis", "hollis"),
    ("Ibarra", "ibarra"),
    ("Jankauskas", "jankauskas"),
    ("Kestrel", "kestrel"),
    ("Lindqvist", "lindqvist"),
    ("Muñoz", "munoz"),
    ("Nakagawa", "nakagawa"),
    ("O'Dell", "odell"),
    ("Pemberly", "pemberly"),
    ("Quillfeather", "quillfeather"),
    ("Rousseau", "rousseau"),
    ("Sandoval", "sandoval"),
    ("Thornbury", "thornbury"),
    ("Umarov", "umarov"),
    ("Vasquez", "vasquez"),
    ("Whitlock", "whitlock"),
    ("Young", "young"),
)
