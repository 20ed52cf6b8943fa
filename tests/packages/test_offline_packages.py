"""The dbt packages: our own equivalents behave like the real ones, and either gets installed.

`DBT_EXPECTATIONS_REAL` may point at an install folder that holds the real `dbt_expectations` and
`dbt_date` (a `dbt_packages` that `dbt deps` filled): signatures and verdicts are then compared
with it, too.
"""

import functools
import http.server
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from dbt_common.exceptions import CompilationError
from jinja2 import nodes

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = ROOT / "tests" / "offline_packages"
REAL = os.environ.get("DBT_EXPECTATIONS_REAL")
PREFIX = "dbt_expectations."
SCRIPT = ROOT / "scripts" / "install_dbt_packages.py"
OFFLINE_WORDS = "the project's own equivalents of 7 dbt_expectations tests"

_spec = importlib.util.spec_from_file_location("install_dbt_packages", SCRIPT)
assert _spec is not None and _spec.loader is not None
installer = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(installer)


# --- signatures ------------------------------------------------------------------------------

REQUIRED = "<required>"
Signature = list[tuple[str, object]]

# As metaplane/dbt_expectations 0.10.10 declares them (0.10.9 has the same).
REAL_VERSION = "0.10.10"
SIGNATURES: dict[str, Signature] = {
    "expect_column_values_to_be_between": [
        ("model", REQUIRED),
        ("column_name", REQUIRED),
        ("min_value", None),
        ("max_value", None),
        ("row_condition", None),
        ("strictly", False),
    ],
    "expect_column_values_to_be_in_set": [
        ("model", REQUIRED),
        ("column_name", REQUIRED),
        ("value_set", REQUIRED),
        ("quote_values", True),
        ("row_condition", None),
    ],
    "expect_column_value_lengths_to_be_between": [
        ("model", REQUIRED),
        ("column_name", REQUIRED),
        ("min_value", None),
        ("max_value", None),
        ("row_condition", None),
        ("strictly", False),
    ],
    "expect_column_values_to_match_regex": [
        ("model", REQUIRED),
        ("column_name", REQUIRED),
        ("regex", REQUIRED),
        ("row_condition", None),
        ("is_raw", False),
        ("flags", ""),
    ],
    "expect_compound_columns_to_be_unique": [
        ("model", REQUIRED),
        ("column_list", REQUIRED),
        ("quote_columns", False),
        ("ignore_row_if", "all_values_are_missing"),
        ("row_condition", None),
    ],
    "expect_column_pair_values_A_to_be_greater_than_B": [
        ("model", REQUIRED),
        ("column_A", REQUIRED),
        ("column_B", REQUIRED),
        ("or_equal", False),
        ("row_condition", None),
    ],
    "expect_table_row_count_to_be_between": [
        ("model", REQUIRED),
        ("min_value", None),
        ("max_value", None),
        ("group_by", None),
        ("row_condition", None),
        ("strictly", False),
    ],
}


def declared_tests(package: Path) -> dict[str, Signature]:
    """Return the signature of every generic test that the package's macros declare."""
    declared: dict[str, Signature] = {}
    for path in sorted(package.glob("macros/**/*.sql")):
        # A `test` block differs from a macro only in its keyword, which plain Jinja does not know.
        source = re.sub(r"\{%(-?)\s*test\b", r"{%\1 macro test::", path.read_text(encoding="utf-8"))
        for name, body in re.findall(r"macro test::\s*(\w+)\((.*?)\)\s*-?%\}", source, re.DOTALL):
            template = "{% macro " + name + "(" + body + ") %}{% endmacro %}"
            macro = next(jinja2.Environment().parse(template).find_all(nodes.Macro))  # noqa: S701 # parsed only, never rendered
            names = [argument.name for argument in macro.args]
            defaults = [default.as_const() for default in macro.defaults]
            required = [REQUIRED] * (len(names) - len(defaults))
            declared[name] = list(zip(names, [*required, *defaults], strict=True))
    return declared


def test_offline_signatures_equal_the_documented_ones_of_the_real_package() -> None:
    assert declared_tests(OFFLINE / "dbt_expectations") == SIGNATURES
    lock = installer.locked_packages(ROOT)
    assert lock["dbt_expectations"] == REAL_VERSION
    for name, version in lock.items():
        project = yaml.safe_load((OFFLINE / name / "dbt_project.yml").read_text(encoding="utf-8"))
        assert (project["name"], project["version"]) == (name, version)


if REAL:  # asked for by hand, where the real packages are at hand

    def test_documented_signatures_equal_those_of_the_real_package() -> None:
        real = declared_tests(Path(str(REAL)) / "dbt_expectations")
        assert {name: real[name] for name in SIGNATURES} == SIGNATURES


# --- use in the project's YAML ---------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    test: str
    arguments: Mapping[str, Any]
    misplaced: frozenset[str]
    on_column: bool


def usages(node: object, on_column: bool = False) -> Iterator[Usage]:
    """Yield every `dbt_expectations.*` test in a parsed properties file."""
    if isinstance(node, str) and node.startswith(PREFIX):
        yield Usage(node.removeprefix(PREFIX), {}, frozenset(), on_column)
    elif isinstance(node, list):
        for item in node:
            yield from usages(item, on_column)
    elif isinstance(node, dict):
        for key, value in node.items():
            if str(key).startswith(PREFIX):
                properties = value or {}
                yield Usage(
                    str(key).removeprefix(PREFIX),
                    properties.get("arguments") or {},
                    frozenset(properties) - {"arguments", "config", "description", "name"},
                    on_column,
                )
            elif key in ("data_tests", "tests", "test_name"):
                yield from usages(value, on_column)
            elif isinstance(value, list | dict):
                yield from usages(value, on_column or key == "columns")


def faults(usage: Usage, declared: Mapping[str, Signature]) -> list[str]:
    """Say what the offline package could not run of this usage, or run otherwise."""
    if usage.test not in declared:
        return [f"{usage.test} does not exist"]
    signature = declared[usage.test]
    given = {"model"} | set(usage.arguments) | ({"column_name"} if usage.on_column else set())
    unknown = given - {name for name, _ in signature}
    if usage.on_column and unknown == {"column_name"}:
        unknown = set()  # dbt passes it to a column's test only where the test takes it
    missing = {name for name, default in signature if default == REQUIRED} - given
    return [
        *(f"{usage.test}: {name} belongs under arguments" for name in sorted(usage.misplaced)),
        *(f"{usage.test} has no argument {name}" for name in sorted(unknown)),
        *(f"{usage.test} lacks its argument {name}" for name in sorted(missing)),
        *(
            f"{usage.test}: Spark swallows the backslash in {usage.arguments['regex']}"
            for name in usage.arguments
            if name == "regex" and "\\" in usage.arguments["regex"]
        ),
    ]


def test_every_dbt_expectations_test_in_yaml_exists_offline_with_its_arguments() -> None:
    files = [
        path
        for folder in ("models", "seeds")
        for suffix in ("yml", "yaml")
        for path in sorted((ROOT / folder).rglob(f"*.{suffix}"))
    ]
    if not files:
        pytest.skip("neither models/ nor seeds/ holds any YAML")
    declared = declared_tests(OFFLINE / "dbt_expectations")
    found = [
        (path.relative_to(ROOT), usage)
        for path in files
        for usage in usages(yaml.safe_load(path.read_text(encoding="utf-8")))
    ]
    assert found, "the model YAML uses no dbt_expectations test"
    assert [(path, fault) for path, usage in found for fault in faults(usage, declared)] == []


def test_the_yaml_check_sees_every_way_of_using_a_test_wrongly() -> None:
    text = """
    models:
      - name: payments
        data_tests:
          - dbt_expectations.expect_table_row_count_to_be_between:
              name: some_rows
              arguments: {min_value: 1}
              config: {severity: warn}
          - dbt_expectations.expect_table_row_count_to_be_between: {min_value: 1}
          - {name: other, test_name: dbt_expectations.expect_something_else}
        columns:
          - name: amount
            data_tests:
              - not_null
              - dbt_expectations.expect_column_values_to_be_between:
                  arguments: {min: 1}
              - dbt_expectations.expect_column_values_to_be_in_set
              - dbt_expectations.expect_column_values_to_match_regex:
                  arguments: {regex: '\\d'}
    """
    declared = declared_tests(OFFLINE / "dbt_expectations")
    assert [
        fault for usage in usages(yaml.safe_load(text)) for fault in faults(usage, declared)
    ] == [
        "expect_table_row_count_to_be_between: min_value belongs under arguments",
        "expect_something_else does not exist",
        "expect_column_values_to_be_between has no argument min",
        "expect_column_values_to_be_in_set lacks its argument value_set",
        "expect_column_values_to_match_regex: Spark swallows the backslash in \\d",
    ]


# --- verdicts on rows ------------------------------------------------------------------------

Row = tuple[object, ...]


@dataclass(frozen=True)
class Case:
    """One test on one table with the columns a and b; `failures` None: the engine refuses it."""

    claim: str
    test: str
    rows: Sequence[Row]
    failures: int | None
    arguments: Mapping[str, object] = field(default_factory=dict)


def cases() -> list[Case]:
    between = functools.partial(_case, "expect_column_values_to_be_between")
    length = functools.partial(_case, "expect_column_value_lengths_to_be_between")
    in_set = functools.partial(_case, "expect_column_values_to_be_in_set")
    regex = functools.partial(_case, "expect_column_values_to_match_regex")
    unique = functools.partial(_case, "expect_compound_columns_to_be_unique")
    greater = functools.partial(_case, "expect_column_pair_values_A_to_be_greater_than_B")
    count = functools.partial(_case, "expect_table_row_count_to_be_between")
    ab = ["a", "b"]
    return [
        between("both bounds are inclusive", [1, 2, 3], 0, min_value=1, max_value=3),
        between("each value outside counts", [0, 1, 3, 4, 5], 3, min_value=1, max_value=3),
        between("strictly leaves bounds out", [1, 2], 1, min_value=1, max_value=3, strictly=True),
        between("strictly lets the inside pass", [2], 0, min_value=1, max_value=3, strictly=True),
        between("min alone", [-1, 99], 1, min_value=0),
        between("max alone", [-1, 99], 1, max_value=0),
        between("zero is a bound", [-1, 1], 2, min_value=0, max_value=0),
        between("null passes", [None, 1], 0, min_value=1),
        between("row condition leaves rows out", [-1, 5], 0, min_value=0, row_condition="a <> -1"),
        between("row condition keeps rows in", [-1, -2], 1, min_value=0, row_condition="a <> -1"),
        between("a bound may be an expression", [(1, 2), (3, 2)], 1, min_value="b"),
        between("a null bound judges nothing", [(1, None)], 0, min_value="b"),
        between("dates", ["2024-01-01", "2023-12-31"], 1, min_value="'2024-01-01'"),
        length("both bounds are inclusive", ["ab", "abcd"], 0, min_value=2, max_value=4),
        length("each length outside counts", ["", "a", "ab", "abcde"], 3, min_value=2, max_value=4),
        length("strictly", ["ab", "abc", "abcd"], 2, min_value=2, max_value=4, strictly=True),
        length("min alone", ["a", "abc"], 1, min_value=2),
        length("max alone", ["a", "abc"], 1, max_value=2),
        length("null passes", [None, "ab"], 0, min_value=2),
        length("row condition", ["a", "b"], 1, min_value=2, row_condition="a <> 'a'"),
        in_set("members pass", ["x", "y"], 0, value_set=["x", "y"]),
        in_set("each other value counts", ["x", "z", "z"], 2, value_set=["x", "y"]),
        in_set("case matters", ["X"], 1, value_set=["x"]),
        in_set("null fails", ["x", None], 1, value_set=["x"]),
        in_set("null fails beside an unquoted null", [1, None], 1, value_set=[1, "null"],
               quote_values=False),
        in_set("quoted is text", ["1 + 1"], 0, value_set=["1 + 1"]),
        in_set("unquoted is an expression", [2, 3], 1, value_set=["1 + 1"], quote_values=False),
        in_set("quoted numbers meet a number column", [1, 2, 3], 1, value_set=[1, 2]),
        in_set("row condition", ["x", "z", None], 0, value_set=["x"], row_condition="a = 'x'"),
        in_set("row condition keeps rows in", ["x", "z"], 1, value_set=["x"],
               row_condition="a is not null"),
        regex("a match anywhere passes", ["cat", "hat"], 0, regex="[at]+"),
        regex("each text without a match counts", ["fish", "cat", "dog", ""], 3, regex="[at]+"),
        regex("anchors", ["ab", "xab"], 1, regex="^ab$"),
        regex("an empty match is a match", ["", "abc"], 0, regex="^[a-z]*$"),
        regex("groups and alternatives", ["DE12", "FR7", "XX1"], 1, regex="^(DE|FR)([0-9]+)$"),
        regex("null passes", [None, "a"], 0, regex="a"),
        regex("case matters", ["A"], 1, regex="a"),
        regex("flag i ignores case", ["A", "b"], 1, regex="a", flags="i"),
        regex("is_raw changes nothing", ["a", "b"], 1, regex="a", is_raw=True),
        regex("row condition", ["a", "b"], 0, regex="a", row_condition="a <> 'b'"),
        unique("distinct pairs pass", [(1, 1), (1, 2), (2, 1)], 0, column_list=ab),
        unique("each repeated pair counts once", [(1, 1)] * 3 + [(2, 2)] * 2, 2, column_list=ab),
        unique("a null is a value like others", [(1, None), (1, None)], 1, column_list=ab),
        unique("all null is left out", [(None, None), (None, None)], 0, column_list=ab),
        unique("any null is left out on request", [(1, None), (1, None), (None, None)], 0,
               column_list=ab, ignore_row_if="any_value_is_missing"),
        unique("any null leaves full rows in", [(1, 1), (1, 1), (1, None)], 1,
               column_list=ab, ignore_row_if="any_value_is_missing"),
        unique("one column", [(1, 1), (1, 2)], 1, column_list=["a"]),
        unique("unquoted may be an expression", [("x", 1), ("X", 1)], 1,
               column_list=["lower(a)", "b"]),
        unique("quoted is a name", [(1, 1), (1, 1)], 1, column_list=ab, quote_columns=True),
        unique("quoted is never an expression", [(1, 1)], None, column_list=["abs(a)"],
               quote_columns=True),
        unique("row condition", [(1, 1), (1, 1), (2, 2)], 0, column_list=ab, row_condition="a > 1"),
        unique("row condition keeps rows in", [(1, 1), (2, 2), (2, 2)], 1, column_list=ab,
               row_condition="a > 1"),
        greater("A above B passes", [(2, 1)], 0, column_A="a", column_B="b"),
        greater("each row not above counts", [(2, 1), (1, 1), (1, 2)], 2,
                column_A="a", column_B="b"),
        greater("or_equal", [(2, 1), (1, 1), (1, 2)], 1, column_A="a", column_B="b", or_equal=True),
        greater("null on either side passes", [(1, None), (None, 1), (None, None)], 0,
                column_A="a", column_B="b"),
        greater("row condition", [(1, 2), (2, 1)], 0, column_A="a", column_B="b",
                row_condition="a > 1"),
        greater("row condition keeps rows in", [(1, 2), (2, 3)], 1, column_A="a", column_B="b",
                row_condition="a > 1"),
        count("both bounds are inclusive", [1, 2], 0, min_value=2, max_value=2),
        count("too few", [1], 1, min_value=2),
        count("too many", [1, 2, 3], 1, max_value=2),
        count("none", [], 1, min_value=1),
        count("null rows count", [None, None], 0, min_value=2),
        count("strictly", [1, 2], 1, min_value=2, strictly=True),
        count("strictly inside passes", [1, 2], 0, min_value=1, max_value=3, strictly=True),
        count("each group outside counts", [(1, 1), (2, 1), (2, 2), (None, 1)], 2, min_value=2,
              group_by=["a"]),
        count("groups of several columns", [(1, 1), (1, 1), (2, 2)], 1, max_value=1,
              group_by=["a", "b"]),
        count("a group without rows is not seen", [], 0, min_value=1, group_by=["a"]),
        count("row condition", [1, 2, 3], 0, max_value=1, row_condition="a = 1"),
        count("row condition keeps rows in", [1, 1, 3], 1, max_value=1, row_condition="a = 1"),
    ]  # fmt: skip # one case a line reads as the table that it is


def refused_cases() -> list[Case]:
    """List what dbt must not even parse."""
    unique = functools.partial(
        _case, "expect_compound_columns_to_be_unique", rows=[], failures=None
    )
    return [
        *(
            _case(test, "no bound", [], None)
            for test, signature in SIGNATURES.items()
            if "min_value" in dict(signature)
        ),
        unique("no columns", column_list=[]),
        unique("an unknown ignore_row_if", column_list=["a"], ignore_row_if="some"),
    ]


def _case(
    test: str, claim: str, rows: Sequence[object], failures: int | None, **arguments: object
) -> Case:
    return Case(
        claim=claim,
        test=test,
        rows=[row if isinstance(row, tuple) else (row, 0) for row in rows],
        failures=failures,
        arguments=arguments,
    )


def _sql(value: object) -> str:
    if value is None:
        return "null"
    return f"'{value}'" if isinstance(value, str) else str(value)


def write_project(project: Path, name: str) -> None:
    """Write a project with the repository's package files and nothing in it."""
    project.mkdir(parents=True)
    for file in ("packages.yml", "package-lock.yml"):
        shutil.copy(ROOT / file, project)
    shutil.copytree(OFFLINE, project / "tests" / "offline_packages")
    settings = {
        "name": name,
        "profile": name,
        "config-version": 2,
        "test-paths": ["data_tests"],
        "packages-install-path": "{{ env_var('DBT_PACKAGES_INSTALL_PATH', 'dbt_packages') }}",
        "models": {"+materialized": "ephemeral"},
        "flags": {"send_anonymous_usage_stats": False},
    }
    (project / "dbt_project.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    profile = {"target": "dev", "outputs": {"dev": {"type": "duckdb", "path": f"{name}.duckdb"}}}
    profile["outputs"]["dev"]["path"] = str(project / f"{name}.duckdb")  # type: ignore[index] # mixed
    (project / "profiles.yml").write_text(yaml.safe_dump({name: profile}), encoding="utf-8")


def write_cases(project: Path, all_cases: Sequence[Case]) -> None:
    """Write one model and one test per case."""
    models = []
    for number, case in enumerate(all_cases):
        rows = ", ".join(f"({', '.join(map(_sql, row))})" for row in case.rows)
        # Without rows the columns still need their names and types.
        values = f"(values {rows or '(1, 1)'}) as rows_of_case (a, b)"
        sql = f"select * from {values} where {'true' if rows else 'false'}"
        (project / "models" / f"case_{number}.sql").write_text(sql, encoding="utf-8")
        column = {"column_name": "a"} if "column_name" in dict(SIGNATURES[case.test]) else {}
        test = {"name": f"test_{number}", "arguments": {**column, **case.arguments}}
        models.append({"name": f"case_{number}", "data_tests": [{PREFIX + case.test: test}]})
    properties = {"version": 2, "models": models}
    (project / "models" / "cases.yml").write_text(yaml.safe_dump(properties), encoding="utf-8")


def dbt(project: Path, *arguments: str) -> Any:
    """Run dbt in this process and return its result."""
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 # seconds; most tests here do without

    folders = ["--project-dir", str(project), "--profiles-dir", str(project)]
    return dbtRunner().invoke(["--quiet", *arguments, *folders])


@pytest.fixture(scope="module", params=["offline", "real"] if REAL else ["offline"])
def cases_project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a project with our own packages and, where they are, one with the real ones."""
    project = tmp_path_factory.mktemp(request.param) / "project"
    write_project(project, f"cases_{request.param}")
    (project / "models").mkdir()
    if request.param == "offline":
        installer.main(["--offline", "--project-dir", str(project)])
    else:
        for name in installer.locked_packages(ROOT):
            shutil.copytree(Path(str(REAL)) / name, project / "dbt_packages" / name)
    return project


@pytest.fixture(scope="module")
def verdicts(cases_project: Path) -> dict[str, tuple[str, int | None]]:
    """Build every case in one run; return each test's status and number of failures."""
    write_cases(cases_project, cases())
    built = dbt(cases_project, "build", "--threads", "2")
    assert built.exception is None
    return {node.node.name: (str(node.status), node.failures) for node in built.result}


@pytest.mark.parametrize(
    ("number", "case"),
    [pytest.param(n, c, id=f"{c.test}: {c.claim}") for n, c in enumerate(cases())],
)
def test_verdict(verdicts: dict[str, tuple[str, int | None]], number: int, case: Case) -> None:
    expected = {None: "error", 0: "pass"}.get(case.failures, "fail")
    status, failures = verdicts[f"test_{number}"]
    assert (status, failures or None) == (expected, case.failures or None)


@pytest.mark.parametrize("case", refused_cases(), ids=lambda case: f"{case.test}: {case.claim}")
def test_dbt_does_not_parse(cases_project: Path, case: Case) -> None:
    write_cases(cases_project, [case])
    parsed = dbt(cases_project, "parse")
    assert isinstance(parsed.exception, CompilationError)


def test_each_test_has_cases_that_pass_fail_and_use_each_argument() -> None:
    for name, signature in SIGNATURES.items():
        mine = [case for case in cases() if case.test == name]
        assert any(case.failures == 0 for case in mine), name
        assert any(case.failures for case in mine), name
        used = {argument for case in mine for argument in case.arguments}
        assert used == {argument for argument, _ in signature} - {"model", "column_name"}, name


# --- installing ------------------------------------------------------------------------------


def test_package_lock_has_the_hash_that_dbt_computes_for_packages_yml() -> None:
    from dbt.config.project import package_config_from_data  # noqa: PLC0415 # slow, here only
    from dbt.task.deps import _create_sha1_hash  # noqa: PLC0415 # likewise

    packages = yaml.safe_load((ROOT / "packages.yml").read_text(encoding="utf-8"))
    lock = yaml.safe_load((ROOT / "package-lock.yml").read_text(encoding="utf-8"))
    config = package_config_from_data(json.loads(json.dumps(packages)), packages)
    assert lock["sha1_hash"] == _create_sha1_hash(config.packages)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    write_project(path, "some_project")
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """Serve a static package hub on loopback, whose packages are ours under the real names."""
    root = tmp_path / "hub"
    names = {"dbt_expectations": "metaplane", "dbt_date": "godatadriven"}
    needs = {"dbt_expectations": [{"package": "godatadriven/dbt_date", "version": ["<1.0.0"]}]}
    handler = functools.partial(_QuietHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        index = [f"{owner}/{name}" for name, owner in names.items()]
        _write_json(root / "api" / "v1" / "index.json", index)
        for name, version in installer.locked_packages(ROOT).items():
            tarball = root / f"{name}.tar.gz"
            with tarfile.open(tarball, "w:gz") as archive:
                archive.add(OFFLINE / name, arcname=f"{name}-{version}")
                note = tarfile.TarInfo(f"{name}-{version}/FROM_HUB")
                archive.addfile(note, io.BytesIO())
            release = {
                "name": name,
                "version": version,
                "packages": needs.get(name, []),
                "downloads": {"tarball": url + tarball.name},
            }
            package = {"name": name, "namespace": names[name], "versions": {version: release}}
            _write_json(root / "api" / "v1" / names[name] / f"{name}.json", package)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield url
        server.shutdown()
        thread.join()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def run(command: Sequence[str], hub_url: str) -> subprocess.CompletedProcess[str]:
    """Run Python with that hub, and without the proxies and settings of this environment."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("DBT_")
    }
    return subprocess.run(
        [sys.executable, *command],
        env={**environment, "DBT_PACKAGE_HUB_URL": hub_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def holdings(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_hub_s_packages_are_installed_by_dbt_deps_where_the_hub_answers(
    project: Path, hub: str
) -> None:
    command = [str(SCRIPT), "--project-dir", str(project)]
    lock = (project / "package-lock.yml").read_bytes()
    words = "the real dbt_date 0.21.0, dbt_expectations 0.10.10"

    first = run(command, hub)
    assert (first.returncode, first.stdout) == (0, f"dbt packages: installed {words}\n"), first
    installed = holdings(project / "dbt_packages")
    assert {"dbt_expectations/FROM_HUB", "dbt_date/FROM_HUB", ".installed"} <= set(installed)
    assert json.loads(installed[".installed"][1])["source"] == "hub"
    assert (project / "package-lock.yml").read_bytes() == lock

    second = run(command, hub)
    assert second.stdout == f"dbt packages: nothing changed, {words}\n"
    assert holdings(project / "dbt_packages") == installed


def test_package_lock_is_what_dbt_itself_writes_for_packages_yml(project: Path, hub: str) -> None:
    (project / "package-lock.yml").unlink()
    deps = run(["-m", "dbt.cli.main", "deps", "--lock", "--project-dir", str(project)], hub)
    assert deps.returncode == 0, deps.stdout
    assert (project / "package-lock.yml").read_text(encoding="utf-8") == (
        ROOT / "package-lock.yml"
    ).read_text(encoding="utf-8")


def test_our_equivalents_are_installed_where_the_hub_is_out_of_reach(project: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _QuietHandler) as server:
        closed = f"http://127.0.0.1:{server.server_port}/"
    command = [str(SCRIPT), "--project-dir", str(project)]

    first = run(command, closed)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == f"dbt packages: hub not reachable, using {OFFLINE_WORDS}\n"
    installed = holdings(project / "dbt_packages")
    assert json.loads(installed[".installed"][1])["packages"] == OFFLINE_WORDS

    second = run(command, closed)
    assert second.stdout == f"dbt packages: nothing changed, {OFFLINE_WORDS}\n"
    assert holdings(project / "dbt_packages") == installed


def _unexpected() -> Any:
    raise AssertionError("this must not be asked")


def test_a_failing_dbt_deps_leaves_our_equivalents_not_half_an_installation(project: Path) -> None:
    folder = project / "dbt_packages"

    def half_of_it() -> str:
        shutil.copytree(OFFLINE / "dbt_date", folder / "dbt_date")
        (folder / "dbt_date" / "FROM_HUB").touch()
        return "dbt deps failed"

    line = installer.install(
        project, folder, offline=False, hub_reachable=lambda: True, dbt_deps=half_of_it
    )
    assert line == f"dbt packages: dbt deps failed, using {OFFLINE_WORDS}"
    assert not (folder / "dbt_date" / "FROM_HUB").exists()
    assert (folder / "dbt_expectations" / "macros").is_dir()


def test_a_dbt_deps_without_end_is_stopped(project: Path, hub: str) -> None:
    # dbt takes longer than this to start.
    assert installer.run_dbt_deps(project, seconds=0.05) == "dbt deps took over 0 s"


def test_offline_replaces_the_real_packages_and_asks_nobody(project: Path) -> None:
    folder = project / "dbt_packages"
    for name in ("dbt_date", "dbt_expectations"):
        (folder / name).mkdir(parents=True)
        (folder / name / "dbt_project.yml").write_text(f"name: {name}\n", encoding="utf-8")
    install = functools.partial(
        installer.install, project, folder, hub_reachable=_unexpected, dbt_deps=_unexpected
    )
    # What somebody's own `dbt deps` installed is kept unless told otherwise.
    assert install(offline=False).startswith("dbt packages: nothing changed, the real dbt_date")
    assert install(offline=True) == f"dbt packages: offline by request, using {OFFLINE_WORDS}"
    assert install(offline=True).startswith("dbt packages: nothing changed, the project's own")


@pytest.mark.parametrize(
    "changed", ["package-lock.yml", "tests/offline_packages/dbt_date/dbt_project.yml"]
)
def test_a_changed_lock_or_equivalent_is_installed_anew(project: Path, changed: str) -> None:
    folder = project / "dbt_packages"
    installer.install(
        project, folder, offline=True, hub_reachable=_unexpected, dbt_deps=_unexpected
    )
    with (project / changed).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    line = installer.install(
        project, folder, offline=False, hub_reachable=lambda: False, dbt_deps=_unexpected
    )
    assert line.startswith("dbt packages: hub not reachable, using")


def test_an_interrupted_copy_is_made_again(project: Path) -> None:
    folder = project / "dbt_packages"
    shutil.copytree(OFFLINE, folder)
    (folder / "dbt_expectations" / "macros" / "expect_column_values_to_be_in_set.sql").unlink()
    line = installer.install(
        project, folder, offline=False, hub_reachable=lambda: False, dbt_deps=_unexpected
    )
    assert line == f"dbt packages: hub not reachable, using {OFFLINE_WORDS}"
    assert declared_tests(folder / "dbt_expectations") == SIGNATURES


def test_a_folder_that_holds_other_things_is_never_replaced(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = project.parent / "home"
    (home / "letters").mkdir(parents=True)
    monkeypatch.setenv("DBT_PACKAGES_INSTALL_PATH", str(home))
    assert installer.main(["--offline", "--project-dir", str(project)]) == 1
    assert "holds letters, which is no dbt package" in capsys.readouterr().err
    assert [path.name for path in home.iterdir()] == ["letters"]
    monkeypatch.setenv("DBT_PACKAGES_INSTALL_PATH", "elsewhere")
    assert installer.main(["--offline", "--project-dir", str(project)]) == 0
    assert (project / "elsewhere" / ".installed").is_file()


def test_a_hub_that_answers_with_an_error_or_not_at_all_counts_as_out_of_reach(
    hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert installer.hub_answers(hub)
    assert not installer.hub_answers(hub + "missing/")
    with http.server.HTTPServer(("127.0.0.1", 0), _QuietHandler) as silent:  # accepts, never serves
        assert not installer.hub_answers(f"http://127.0.0.1:{silent.server_port}/", seconds=0.2)


def test_a_hub_s_name_that_nobody_resolves_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = threading.Event()

    def look_up_for_ever(*_: object, **__: object) -> None:
        released.wait(30)
        raise OSError

    monkeypatch.setattr(installer.urllib.request, "urlopen", look_up_for_ever)
    try:
        assert not installer.hub_answers("http://127.0.0.1:9/", seconds=0.05)
        assert any(thread.name.endswith("(probe)") for thread in threading.enumerate())
    finally:
        released.set()
