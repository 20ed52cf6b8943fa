"""What the YAML promises of the models is what is built, and nothing is left unsaid."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.quality.project import VARIABLES, copied_project, replace
from tests.support.lakehouse import Lakehouse

Node = dict[str, Any]
# The types that marts may use, by the name that DuckDB has for them; both engines know the others.
TYPES = {
    "VARCHAR": "string",
    "BIGINT": "bigint",
    "INTEGER": "int",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
}
KEY_TESTS = {"unique", "expect_compound_columns_to_be_unique"}
# Tests that say what a column is, not what must hold of the business.
PLAIN_TESTS = KEY_TESTS | {
    "not_null",
    "relationships",
    "accepted_values",
    "expect_column_values_to_be_in_set",
    "expect_column_values_to_match_regex",
    "expect_column_value_lengths_to_be_between",
}


@dataclass
class Built:
    """The project, built over empty feeds: its nodes, and the columns that models really have."""

    manifest: dict[str, Any]
    columns: dict[tuple[str, str], list[tuple[str, str]]]

    def models(self, layer: str = "") -> Iterator[Node]:
        """The models whose file is below this folder of `models/`."""
        for node in self.manifest["nodes"].values():
            if node["resource_type"] == "model" and node["path"].startswith(layer):
                yield node

    def real_columns(self, node: Node) -> list[tuple[str, str]]:
        """Names and types of the columns, in the words of the YAML."""
        return self.columns[(node["schema"], node["alias"])]

    def tests(self, node: Node) -> dict[str, int]:
        """How many tests of each kind look at a model; a singular test is its own kind."""
        counts: dict[str, int] = defaultdict(int)
        for test in self.manifest["nodes"].values():
            if test["resource_type"] == "test":
                metadata = test.get("test_metadata")
                if metadata is None and node["unique_id"] in test["depends_on"]["nodes"]:
                    counts[test["name"]] += 1
                elif metadata is not None and test["attached_node"] == node["unique_id"]:
                    counts[metadata["name"]] += 1
        return counts


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    lakehouse = Lakehouse(tmp_path_factory.mktemp("readable"))
    lakehouse.dbt("build", "--write-json", "--exclude-resource-type", "test", "unit_test")
    columns: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for schema, table, column, kind in lakehouse.query(
        "select table_schema, table_name, column_name, data_type"
        " from information_schema.columns order by ordinal_position"
    ):
        columns[(schema, table)].append((column, TYPES.get(kind, kind.lower())))
    manifest = json.loads(Path(lakehouse.path / "target" / "manifest.json").read_text())
    return Built(manifest, columns)


def test_every_column_of_every_model_is_documented_and_every_documented_one_exists(
    built: Built,
) -> None:
    faults = []
    for node in built.models():
        # What the macros of changes add to a state table is theirs, and documented once.
        hidden = "/state/" in f"/{node['path']}" and node["path"].startswith("silver")
        real = {name for name, _ in built.real_columns(node)}
        described = {n for n, column in node["columns"].items() if column["description"].strip()}
        undocumented = set() if hidden else real - described
        faults += [f"{node['name']}.{name} is not documented" for name in undocumented]
        faults += [f"{node['name']}.{name} does not exist" for name in set(node["columns"]) - real]
    assert faults == []


def test_every_mart_has_a_contract_that_says_what_is_built(built: Built) -> None:
    faults = []
    for node in built.models("marts"):
        if not node["config"]["contract"]["enforced"]:
            faults.append(f"{node['name']} has no contract")
        promised = [
            (name, str(column["data_type"]).replace(" ", ""))
            for name, column in node["columns"].items()
        ]
        if sorted(promised) != sorted(built.real_columns(node)):
            difference = set(promised) ^ set(built.real_columns(node))
            faults.append(f"{node['name']} is built otherwise: {sorted(difference)}")
    assert faults == []


def test_a_mart_that_is_not_what_its_contract_says_is_not_built(tmp_path: Path) -> None:
    project = copied_project(tmp_path / "project")
    dates = project / "models" / "marts" / "semantic" / "_dates.yml"
    replace(
        dates,
        "- name: date_day\n        data_type: date",
        "- name: date_day\n        data_type: int",
    )
    (tmp_path / "lakehouse").mkdir()
    lakehouse = Lakehouse(tmp_path / "lakehouse", project=project, variables=dict(VARIABLES))
    done: Any = lakehouse.dbt("run", "--select", "dates", check=False)
    messages = {result.node.name: str(result.message) for result in done.result}
    assert "This model has an enforced contract that failed" in messages["dates"]
    assert "date_day" in messages["dates"]


def test_no_mart_holds_a_floating_point_number(built: Built) -> None:
    known = set(TYPES.values())
    seen = 0
    for node in built.models("marts"):
        for name, kind in built.real_columns(node):
            seen += 1
            assert kind in known or re.fullmatch(r"decimal\([0-9]+,[0-9]+\)", kind), (
                f"{node['name']}.{name} is {kind}"
            )
    assert seen > 0


def test_every_mart_has_a_key_and_something_that_must_hold_of_it(built: Built) -> None:
    faults = []
    for node in built.models("marts"):
        if "dashboard" in node["path"]:
            continue  # views over marts for one page
        tests = built.tests(node)
        if not KEY_TESTS & set(tests):
            faults.append(f"{node['name']} has no test of its key")
        if not set(tests) - PLAIN_TESTS:
            faults.append(f"{node['name']} has no test of a business invariant")
    assert faults == []


def test_every_mart_has_a_group_whose_owner_can_be_asked(built: Built) -> None:
    owners = {group["name"]: group["owner"] for group in built.manifest["groups"].values()}
    for node in built.models("marts"):
        assert node["config"]["group"] in owners, f"{node['name']} belongs to no group"
        assert owners[node["config"]["group"]].get("email"), node["config"]["group"]
