"""What the YAML promises of the models is what is built, and nothing is left unsaid."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    lakehouse = Lakehouse(tmp_path_factory.mktemp("readable"))
    lakehouse.dbt("build", "--exclude-resource-type", "test", "unit_test")
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


def test_every_mart_has_a_group_whose_owner_can_be_asked(built: Built) -> None:
    owners = {group["name"]: group["owner"] for group in built.manifest["groups"].values()}
    for node in built.models("marts"):
        assert node["config"]["group"] in owners, f"{node['name']} belongs to no group"
        assert owners[node["config"]["group"]].get("email"), node["config"]["group"]
