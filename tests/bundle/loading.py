"""The bundle as the Databricks CLI would see it for one target: included, overlaid, resolved."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]
# What the CLI knows without a workspace's help, as this test has it.
_BUILT_IN = {
    "bundle.name": "realtime_insights",
    "workspace.current_user.userName": "anna@bank.example",
    "workspace.current_user.short_name": "anna",
}
# What whoever deploys says: the variables without a default.
GIVEN = {
    "lakehouse": "s3://bank-lakehouse/insights",
    "kafka_bootstrap_servers": "kafka-1:9093,kafka-2:9093",
}
_REFERENCE = re.compile(r"\$\{([^}]+)\}")


class UnresolvedError(Exception):
    """A reference to what is not there."""


@cache
def files() -> dict[Path, dict[str, Any]]:
    """databricks.yml and what it includes, by path."""
    root = PROJECT / "databricks.yml"
    found = {root: yaml.safe_load(root.read_text())}
    for pattern in found[root]["include"]:
        for path in sorted(PROJECT.glob(pattern)):
            found[path] = yaml.safe_load(path.read_text())
    return found


def overlaid(base: Any, over: Any) -> Any:
    """One configuration over another: mappings are merged, all else is replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        both = {**base, **over}
        return {k: overlaid(base[k], over[k]) if k in base and k in over else both[k] for k in both}
    return over


@cache
def whole() -> dict[str, Any]:
    """All files as one."""
    merged: dict[str, Any] = {}
    for content in files().values():
        merged = overlaid(merged, content)
    return merged


def variables(target: str, **given: str) -> dict[str, Any]:
    """The value of every variable, references in it unresolved. A lookup gives a name as its id."""
    values = {}
    overrides = whole()["targets"][target].get("variables", {})
    for name, variable in whole()["variables"].items():
        found = {**GIVEN, **given}.get(name, overrides.get(name, variable.get("default")))
        if found is None and "lookup" in variable:
            (found,) = variable["lookup"].values()
            found = f"id-of-{found.lower().replace(' ', '-')}"
        values[name] = found
    return values


def resolved(target: str, **given: str) -> dict[str, Any]:
    """The configuration of a target with every reference replaced by what it means."""
    config = overlaid(
        {k: v for k, v in whole().items() if k not in {"targets", "variables", "include"}},
        whole()["targets"][target],
    )
    values = variables(target, **given)

    def meaning(reference: str) -> Any:
        if reference == "bundle.target":
            return target
        if reference in _BUILT_IN:
            return _BUILT_IN[reference]
        kind, _, path = reference.partition(".")
        if kind == "var" and values.get(path) is not None:
            return values[path]
        if kind == "resources":
            found: Any = config["resources"]
            for part in path.split("."):
                if part not in found:
                    raise UnresolvedError(reference)
                found = found[part]
            return found
        raise UnresolvedError(reference)

    def replace(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: replace(each) for name, each in value.items()}
        if isinstance(value, list):
            return [replace(each) for each in value]
        while isinstance(value, str) and (found := _REFERENCE.search(value)):
            means = meaning(found[1])
            value = means if found[0] == value else value.replace(found[0], str(means))
        return value

    return dict(replace(config))


def references() -> set[str]:
    """Every reference in any file."""
    return {found[1] for path in files() for found in _REFERENCE.finditer(path.read_text())}
