"""What a Databricks Asset Bundle may say: the fields that this project uses, with their types.

Written after the JSON schema that `databricks bundle schema` prints (CLI 1.13.0); objects of the
platform's API (jobs, alerts) are those of the package databricks-sdk. A field that is not here is
an error, so that a misspelt one is found without a workspace.
"""

from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from itertools import chain
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from databricks.sdk.service.catalog import Privilege, VolumeType
from databricks.sdk.service.jobs import JobSettings
from databricks.sdk.service.sql import AlertV2


@dataclass
class Bundle:
    name: str
    databricks_cli_version: str | None = None


@dataclass
class Lookup:
    warehouse: str


@dataclass
class Variable:
    description: str
    default: str | int | None = None
    lookup: Lookup | None = None


@dataclass
class Artifact:
    type: Literal["whl"]
    path: str
    build: str
    dynamic_version: bool


@dataclass
class Sync:
    include: list[str]
    exclude: list[str]


@dataclass
class Permission:
    level: Literal["CAN_MANAGE", "CAN_RUN", "CAN_VIEW"]
    group_name: str | None = None
    user_name: str | None = None
    service_principal_name: str | None = None


@dataclass
class Experimental:
    skip_name_prefix_for_schema: bool


@dataclass
class Grant:
    principal: str
    privileges: list[Privilege]


@dataclass
class Lifecycle:
    prevent_destroy: bool


@dataclass
class Schema:
    catalog_name: str
    name: str
    comment: str | None = None
    grants: list[Grant] | None = None
    lifecycle: Lifecycle | None = None


@dataclass
class Volume:
    catalog_name: str
    schema_name: str
    name: str
    comment: str | None = None
    volume_type: VolumeType | None = None
    grants: list[Grant] | None = None
    lifecycle: Lifecycle | None = None


@dataclass
class ScopePermission:
    level: Literal["READ", "WRITE", "MANAGE"]
    group_name: str | None = None
    user_name: str | None = None
    service_principal_name: str | None = None


@dataclass
class SecretScope:
    name: str
    permissions: list[ScopePermission] | None = None


@dataclass
class Resources:
    jobs: dict[str, JobSettings] | None = None
    alerts: dict[str, AlertV2] | None = None
    schemas: dict[str, Schema] | None = None
    volumes: dict[str, Volume] | None = None
    secret_scopes: dict[str, SecretScope] | None = None


@dataclass
class Workspace:
    root_path: str


@dataclass
class RunAs:
    service_principal_name: str


@dataclass
class Target:
    mode: Literal["development", "production"]
    default: bool | None = None
    workspace: Workspace | None = None
    run_as: RunAs | None = None
    variables: dict[str, str | int] | None = None
    resources: Resources | None = None


@dataclass
class Root:
    bundle: Bundle
    include: list[str]
    variables: dict[str, Variable]
    artifacts: dict[str, Artifact]
    sync: Sync
    permissions: list[Permission]
    experimental: Experimental
    targets: dict[str, Target]
    resources: Resources


def faults(value: Any, kind: Any, path: str = "") -> list[str]:
    """What in a value is not of its kind: unknown and missing fields, wrong types and words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        kinds = [each for each in arguments if (each is NoneType) == (value is None)]
        return min(
            (faults(value, each, path) for each in kinds), key=len, default=[f"{path}: is empty"]
        )
    if is_dataclass(kind) and isinstance(kind, type):
        return _of_type(value, dict, path) or _of_fields(value, kind, path)
    if origin is list:
        items = enumerate(value) if isinstance(value, list) else ()
        inside = [faults(each, arguments[0], f"{path}[{n}]") for n, each in items]
        return _of_type(value, list, path) or [*chain(*inside)]
    if origin is dict:
        pairs = value.items() if isinstance(value, dict) else ()
        inside = [faults(each, arguments[1], f"{path}.{n}") for n, each in pairs]
        return _of_type(value, dict, path) or [*chain(*inside)]
    if origin is Literal or issubclass(kind, Enum):
        words = arguments or tuple(each.value for each in kind)
        return [] if value in words else [f"{path}: {value} is none of {words}"]
    return _of_type(value, kind, path)


def _of_fields(value: dict[str, Any], kind: type, path: str) -> list[str]:
    types = get_type_hints(kind)
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    problems = [f"{path}.{name}: is missing" for name in needed - value.keys()]
    for name, item in value.items():
        if name in types:
            problems += faults(item, types[name], f"{path}.{name}")
        else:
            problems.append(f"{path}.{name}: there is no such field")
    return problems


def _of_type(value: Any, kind: type, path: str) -> list[str]:
    fits = type(value) is kind or (kind is float and type(value) is int)
    return [] if fits else [f"{path}: {value!r} is no {kind.__name__}"]
