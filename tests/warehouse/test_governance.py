"""What dbt asks of Unity Catalog besides rows: tags, masks, keys, grants, clustering, comments, and
bronze's tables. The local warehouse remembers these statements and does nothing else with them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.support.lakehouse import BRONZE_SCHEMA, PROJECT, envelope
from tests.support.warehouse import Warehouse, WarehouseLakehouse

STATE = yaml.safe_load((PROJECT / "models/silver/state/_state.yml").read_text())["models"]
GOVERN = ["run-operation", "govern"]
GOVERNED = ["--vars", "{governance: true, personal_data_readers: seers, readers: [analysts]}"]
CUSTOMER = {
    "customer_id": 1,
    "full_name": "Ann",
    "email": "a@b.c",
    "created_at": 0,
    "updated_at": 0,
}


@dataclass
class Governed:
    """A lakehouse that was built and governed, and what the warehouse was asked for that."""

    lakehouse: WarehouseLakehouse
    first_build: list[str] = field(default_factory=list)
    second_build: list[str] = field(default_factory=list)
    operation: list[str] = field(default_factory=list)

    def named(self, statement: str) -> str:
        """The statement without quotes and the catalog's name, in one line."""
        text = statement.replace("`", "").replace(f"{self.lakehouse.catalog.name}.", "")
        return re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", text, flags=re.S)).strip()


@pytest.fixture(scope="module")
def governed(warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """Customers and accounts after two builds and `govern`."""
    catalog = warehouse.new_catalog()
    made = Governed(WarehouseLakehouse(tmp_path_factory.mktemp("governed"), catalog=catalog))
    made.lakehouse.land("customers", [envelope("c", CUSTOMER, 1)], batch_id=1)
    asked = len(warehouse.report()["governing"])
    chosen = ["--select", "+customers +customers_history +accounts", "--exclude", "test_type:unit"]

    def since() -> list[str]:
        nonlocal asked
        found = warehouse.report()["governing"][asked:]
        asked += len(found)
        return [made.named(statement) for statement in found]

    # The functions stand before a table uses them, as on a first deployment.
    made.lakehouse.dbt(*GOVERN, *GOVERNED)
    since()
    made.lakehouse.dbt("run", *chosen, *GOVERNED)
    made.first_build = since()
    made.lakehouse.land("customers", [envelope("u", CUSTOMER, 2)], batch_id=2)
    made.lakehouse.dbt("run", *chosen, *GOVERNED)
    made.second_build = since()
    made.lakehouse.dbt(*GOVERN, *GOVERNED)
    made.operation = since()
    yield made
    catalog.drop()


PERSONAL = [
    f"alter table silver.{table} alter column {column} set {what}"
    for table in ("customers_history_state", "customers_state")
    for column, kind in (("full_name", "name"), ("email", "email"), ("birth_date", "birth_date"))
    for what in (f"tags ('personal_data' = '{kind}')", f"mask observability.mask_{kind}")
]


def test_a_new_table_gets_tags_and_masks_of_its_personal_data_at_once(governed: Governed) -> None:
    asked = [text for text in governed.first_build if text.startswith("alter table")]
    assert sorted(asked) == sorted(PERSONAL)


def test_a_table_that_stands_is_not_tagged_and_masked_by_every_run(governed: Governed) -> None:
    assert governed.second_build == []


def test_readers_are_granted_the_views_and_not_what_they_stand_on(governed: Governed) -> None:
    grants = [text for text in governed.first_build if text.startswith("grant")]
    assert sorted(grants) == [
        f"grant select on silver.{view} to analysts"
        for view in ("accounts", "customers", "customers_history")
    ]


def test_govern_sets_masks_before_it_uses_them_then_keys_in_the_order_of_their_need(
    governed: Governed,
) -> None:
    functions = [t for t in governed.operation if t.startswith("create or replace function")]
    assert governed.operation[: len(functions)] == functions and len(functions) == 4
    assert (
        "create or replace function observability.mask_email(value string) returns string return"
        " case when is_account_group_member('seers') then value"
        " else concat('***@', substring_index(value, '@', -1)) end"
    ) in functions
    altered = [text for text in governed.operation if text.startswith("alter table")]
    assert sorted(altered[: len(PERSONAL)]) == sorted(PERSONAL)
    assert altered[len(PERSONAL) :] == [
        "alter table silver.customers_history_state drop constraint if exists"
        " customers_history_state_customer_id",
        "alter table silver.accounts_state drop constraint if exists accounts_state_customer_id",
        "alter table silver.accounts_state drop constraint if exists accounts_state_key cascade",
        "alter table silver.customers_state drop constraint if exists customers_state_key cascade",
        "alter table silver.accounts_state alter column account_id set not null",
        "alter table silver.accounts_state add constraint accounts_state_key"
        " primary key (account_id)",
        "alter table silver.customers_state alter column customer_id set not null",
        "alter table silver.customers_state add constraint customers_state_key"
        " primary key (customer_id)",
        "alter table silver.accounts_state add constraint accounts_state_customer_id"
        " foreign key (customer_id) references silver.customers_state",
        "alter table silver.customers_history_state add constraint"
        " customers_history_state_customer_id foreign key (customer_id) references"
        " silver.customers_state",
    ]
    assert governed.operation[-3:] == [
        "grant use schema on schema silver to analysts",
        "grant use schema on schema marts to analysts",
        "alter schema silver enable predictive optimization",
    ]


def test_govern_refuses_to_mask_what_the_pipeline_itself_reads(
    governed: Governed, capsys: pytest.CaptureFixture[str]
) -> None:
    before = governed.lakehouse.catalog.warehouse.report()["governing"]
    variables = "{governance: true, personal_data_readers: nobody}"
    assert not governed.lakehouse.dbt(*GOVERN, "--vars", variables, check=False).success
    assert "no member of nobody and would write masked values back" in capsys.readouterr().out
    assert governed.lakehouse.catalog.warehouse.report()["governing"] == before


def test_nothing_is_governed_unless_it_is_asked_for(
    warehouse: Warehouse, governed: Governed, capsys: pytest.CaptureFixture[str]
) -> None:
    before = warehouse.report()["governing"]
    governed.lakehouse.dbt("run", "--select", "customers_state customers", "--full-refresh")
    assert warehouse.report()["governing"] == before
    assert not governed.lakehouse.dbt(*GOVERN, check=False).success
    assert "the variable governance is not true" in capsys.readouterr().out


def test_tables_are_clustered_by_the_keys_that_merges_use_and_documented(
    governed: Governed,
) -> None:
    query = governed.lakehouse.query
    properties = dict(query("show tblproperties silver.customers_state"))
    assert properties["clusteringColumns"] == '[["customer_id"]]'
    assert properties["delta.enableDeletionVectors"] == "true"
    assert properties["delta.autoOptimize.optimizeWrite"] == "true"
    described = {row[0]: row[1:] for row in query("describe table extended silver.customers_state")}
    assert described["email"] == ("string", "E-mail address. Personal data.")
    assert described["Comment"][0].startswith("One row per customer, tombstones included.")
    view = {row[0]: row[2] for row in query("describe silver.customers")}
    assert view["birth_date"] == "Date of birth. Personal data."


def test_every_primary_key_of_the_yaml_is_the_key_that_is_merged_by() -> None:
    named = {}
    for model in STATE:
        sql = (PROJECT / f"models/silver/state/{model['name']}.sql").read_text()
        (listed,) = re.findall(r"keys=(\[.*?\])", sql)
        keys = yaml.safe_load(listed)
        for constraint in model.get("constraints", []):
            if constraint["type"] == "primary_key":
                assert constraint["columns"] == keys, model["name"]
                named[model["name"]] = keys
        assert ("cdc_history" in sql) != (model["name"] in named), model["name"]
    for model in STATE:
        for constraint in model.get("constraints", []):
            if constraint["type"] == "foreign_key":
                parent, columns = constraint["expression"].split(" ", 1)
                assert columns == f"({', '.join(named[parent])})"


def test_every_column_that_is_said_to_be_personal_is_marked_so() -> None:
    marked = 0
    for path in (PROJECT / "models").rglob("*.yml"):
        for model in yaml.safe_load(path.read_text()).get("models", []):
            for column in model["columns"]:
                kind = column.get("config", {}).get("meta", {}).get("personal_data")
                said = "Personal data." in column["description"]
                assert said == (kind is not None), f"{model['name']}.{column['name']}"
                marked += said
    assert marked


def test_register_bronze_makes_every_table_of_ingest_a_source(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    catalog = warehouse.new_catalog()
    lakehouse = WarehouseLakehouse(tmp_path, catalog=catalog)
    catalog.query("drop schema bronze cascade")
    lakehouse.land("customers", [envelope("c", CUSTOMER, 1)], batch_id=1)
    for _ in range(2):
        lakehouse.dbt("run-operation", "register_bronze")
    assert lakehouse.query("select batch_id, `position` from bronze.customers") == [(1, 0)]
    found = {row[1] for row in catalog.query("show tables in bronze")}
    assert found == {*lakehouse.feeds, "quarantine"}
    described = dict(row[:2] for row in catalog.query("describe table extended bronze.customers"))
    assert described["Comment"] == "Debezium changes of the bank's customers."
    assert described["Type"] == "EXTERNAL"
    catalog.drop()


def test_copy_into_lands_bronze_columns_and_gives_the_batch_its_id_in_one_statement(
    warehouse: Warehouse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """COPY INTO itself is refused here, once it has been parsed; what stands around it runs."""
    catalog = warehouse.new_catalog()
    lakehouse = WarehouseLakehouse(tmp_path, catalog=catalog)
    arguments = {"feed": "vendor_dining", "path": "/Volumes/it's/x", "format": "ndjson"}
    copy_into = ["run-operation", "copy_into_bronze", "--args"]

    # A table that ingest writes.
    assert not lakehouse.dbt(*copy_into, yaml.safe_dump(arguments), check=False).success
    assert "is landed by ingest. Nothing was landed." in capsys.readouterr().out

    catalog.query("drop table bronze.vendor_dining")
    seen = len(warehouse.report()["refused"])
    assert not lakehouse.dbt(*copy_into, yaml.safe_dump(arguments), check=False).success
    (refused,) = warehouse.report()["refused"][seen:]
    assert "not supported by the local warehouse: Copy" in refused
    assert r"from '/Volumes/it\'s/x'" in refused

    # What it would land has the columns of bronze, in their order.
    landed = re.findall(r" as `?(\w+)`?,?\n", refused)
    described = catalog.query("describe bronze.vendor_dining")
    assert landed == [row[0] for row in described] == BRONZE_SCHEMA.names
    types = {"string": "string", "int32": "int", "int64": "bigint"}
    for (name, kind, _), column in zip(described, BRONZE_SCHEMA, strict=True):
        assert kind == types.get(str(column.type), kind), name

    # Rows without an id, as COPY INTO leaves them, get the next one; a second time nothing changes.
    number = Path(PROJECT / "macros/operations/copy_into_bronze.sql").read_text()
    number = number.split("{%- set number -%}")[1].split("{%- endset -%}")[0]
    number = number.replace("{{ relation }}", "bronze.vendor_dining")
    for rows, expected in ((["a"], [("a", 1)]), ([], [("a", 1)]), (["b"], [("a", 1), ("b", 2)])):
        for row in rows:
            catalog.query(f"insert into bronze.vendor_dining (source) values ('{row}')")
        catalog.query(number)
        found = catalog.query("select source, batch_id from bronze.vendor_dining order by source")
        assert found == expected
    catalog.drop()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{feed: nothing, path: /x}", "nothing is no table of the source bronze"),
        ("{feed: vendor_retail, path: /x, format: xml}", "there is no format xml"),
    ],
)
def test_copy_into_refuses_what_it_cannot_land(
    governed: Governed, capsys: pytest.CaptureFixture[str], arguments: str, said: str
) -> None:
    copy_into = ("run-operation", "copy_into_bronze", "--args", arguments)
    assert not governed.lakehouse.dbt(*copy_into, check=False).success
    assert said in capsys.readouterr().out
