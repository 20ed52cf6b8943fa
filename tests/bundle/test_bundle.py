"""The Asset Bundle is one that the Databricks CLI takes, and all that it names is there."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from copy import deepcopy
from typing import Any

import pytest
import yaml
from dbt.cli.main import cli as dbt_command

from ingestion.cli import main as ingest_command
from tests.bundle import facts, loading
from tests.bundle.loading import PROJECT, UnresolvedError, resolved, whole

TARGETS = ("dev", "staging", "prod")


def jobs(target: str = "prod") -> dict[str, Any]:
    return dict(resolved(target)["resources"]["jobs"])


def tasks(kind: str, target: str = "prod") -> list[tuple[str, dict[str, Any]]]:
    """The tasks of a kind, each with its full name."""
    return [
        (f"{name}.{task['task_key']}", task)
        for name, job in jobs(target).items()
        for task in job["tasks"]
        if kind in task
    ]


def commands() -> list[list[str]]:
    """Every dbt command of every job, as words without `dbt`."""
    found = [shlex.split(c) for _, task in tasks("dbt_task") for c in task["dbt_task"]["commands"]]
    assert found and all(words[0] == "dbt" for words in found)
    return [words[1:] for words in found]


def test_the_targets_are_dev_staging_and_prod() -> None:
    assert tuple(whole()["targets"]) == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_every_field_and_value_is_one_that_bundles_have(target: str) -> None:
    shape = {**whole(), "resources": resolved(target)["resources"]}
    shape["targets"] = {
        name: {**each, **({"resources": {}} if "resources" in each else {})}
        for name, each in shape["targets"].items()
    }
    assert facts.faults(shape, facts.Root) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("resources.jobs.insights.max_concurent_runs", 1, "there is no such field"),
        ("resources.jobs.insights.max_concurrent_runs", "1", "is no int"),
        ("resources.jobs.insights.queue", {}, "enabled: is missing"),
        ("resources.jobs.insights.performance_target", "FAST", "is none of"),
        ("resources.schemas.marts.grants", [{"principal": "x", "privileges": ["READ"]}], "none of"),
        ("resources.alerts.nothing_landed.evaluation.comparison_operator", ">", "is none of"),
        ("permissions", [{"group_name": "x", "level": "CAN_LOOK"}], "is none of"),
        ("experiments", {}, "there is no such field"),
    ],
)
def test_a_fault_in_the_bundle_is_found(path: str, value: Any, fault: str) -> None:
    shape = deepcopy({**whole(), "resources": resolved("prod")["resources"]})
    *parents, last = path.split(".")
    place = shape
    for parent in parents:
        place = place[parent]
    place[last] = value
    found = facts.faults(shape, facts.Root)
    assert any(path in each and fault in each for each in found), found


def test_every_reference_means_something_and_every_variable_is_used() -> None:
    for target in TARGETS:
        assert "${" not in json.dumps(resolved(target))
    used = {name.removeprefix("var.") for name in loading.references() if name.startswith("var.")}
    assert used == set(whole()["variables"])
    with pytest.raises(UnresolvedError, match=re.escape("var.lakehouse")):
        resolved("prod", lakehouse=None)  # type: ignore[arg-type] # as if it were not said


def test_only_what_no_bank_shares_has_no_default() -> None:
    without = {
        name
        for name, variable in whole()["variables"].items()
        if "default" not in variable and "lookup" not in variable
    }
    assert without == set(loading.GIVEN)


def test_every_file_and_folder_that_is_named_is_there() -> None:
    assert set(loading.files()) == {
        PROJECT / "databricks.yml",
        *(PROJECT / "resources").glob("*.yml"),
    }
    for name, task in tasks("dbt_task"):
        project = (PROJECT / "resources" / task["dbt_task"]["project_directory"]).resolve()
        assert (project / "dbt_project.yml").is_file(), name
        # Of these two only the project's path is relative to the file that names it.
        assert (project / task["dbt_task"]["profiles_directory"] / "profiles.yml").is_file(), name
    (artifact,) = whole()["artifacts"].values()
    built = re.search(r"--wheel-dir (\S+) (\S+)$", artifact["build"])
    assert built and (PROJECT / artifact["path"] / built[2] / "pyproject.toml").is_file()
    wheels = {
        dependency
        for job in jobs().values()
        for environment in job["environments"]
        for dependency in environment["spec"]["dependencies"]
        if dependency.endswith(".whl")
    }
    assert [(PROJECT / "resources" / each).resolve() for each in wheels] == [
        PROJECT / artifact["path"] / built[1] / "*.whl"
    ]
    ignored = (PROJECT / ".gitignore").read_text().splitlines()
    assert {f"{built[1]}/", ".databricks/", "dbt_packages/"} <= set(ignored)
    assert whole()["sync"]["include"] == ["dbt_packages/**"]
    for pattern in whole()["sync"]["exclude"]:
        assert any(PROJECT.glob(pattern)), pattern


@pytest.mark.parametrize("target", TARGETS)
def test_every_task_has_its_environment_and_waits_for_tasks_of_its_job(target: str) -> None:
    for job in jobs(target).values():
        environments = {each["environment_key"] for each in job["environments"]}
        keys = [task["task_key"] for task in job["tasks"]]
        assert len(set(keys)) == len(keys)
        for place, task in enumerate(job["tasks"]):
            assert task["environment_key"] in environments
            assert {each["task_key"] for each in task.get("depends_on", [])} <= set(keys[:place])


def test_the_versions_are_those_that_were_tested() -> None:
    lock = (PROJECT / "requirements" / "demo.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock, re.M))
    pinned = 0
    for job in jobs().values():
        for environment in job["environments"]:
            for dependency in environment["spec"]["dependencies"]:
                if not dependency.endswith(".whl"):
                    name, version = dependency.split("==")
                    assert locked[name] == version
                    pinned += 1
    assert pinned


def test_the_wheel_tasks_call_a_command_of_the_wheel_with_options_that_it_has() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    asked = []
    for name, task in tasks("python_wheel_task"):
        wheel = task["python_wheel_task"]
        assert wheel["package_name"] == project["name"].replace("-", "_"), name
        module, function = project["scripts"][wheel["entry_point"]].split(":")
        assert callable(getattr(importlib.import_module(module), function))
        with ingest_command.make_context("ingest", list(wheel["parameters"])) as context:
            command, *rest = [*context._protected_args, *context.args]
            called = ingest_command.get_command(context, command)
            assert called is not None
            given = called.make_context(command, rest, parent=context).params
        settings = dict(each.split("=", 1) for each in context.params["settings"])
        assert {context.params["secret_scope"]} == {"realtime_insights"}
        assert given["lakehouse"] == loading.GIVEN["lakehouse"]
        mode = given.get("once"), given.get("engine")
        asked.append((name, command, *mode, settings.get("LANDING_PATH")))
    landing = "/Volumes/main/bronze/landing"
    assert asked == [
        ("insights.land", "run", True, "ingest", landing),
        ("set_up.land", "run", True, "ingest", landing),
        ("maintenance.compact", "compact", None, None, None),
    ]


def test_spark_lands_where_a_bank_says_so() -> None:
    for name in ("insights", "set_up"):
        job = resolved("prod", engine="spark")["resources"]["jobs"][name]
        parameters = job["tasks"][0]["python_wheel_task"]["parameters"]
        with ingest_command.make_context("ingest", list(parameters)) as context:
            command = ingest_command.get_command(context, "run")
            assert command is not None
            given = command.make_context("run", list(context.args), parent=context).params
        assert (given["engine"], given["once"]) == ("spark", True)


def test_every_variable_of_the_feeds_file_is_given_or_has_a_default() -> None:
    text = (PROJECT / "ingestion" / "feeds.yml").read_text()
    needed = set(re.findall(r"\$\{(\w+)\}", text))
    for _, task in tasks("python_wheel_task"):
        parameters = task["python_wheel_task"]["parameters"]
        if "run" in parameters:
            given = {each.split("=")[0] for each in parameters if "=" in each}
            assert needed <= given | {"LAKEHOUSE_PATH"}


def test_the_minutes_job_runs_once_at_a_time_retries_and_tells() -> None:
    job = jobs()["insights"]
    assert (job["max_concurrent_runs"], job["queue"]) == (1, {"enabled": False})
    assert job["schedule"] == {
        "quartz_cron_expression": "0 * * * * ?",
        "timezone_id": "UTC",
        "pause_status": "UNPAUSED",
    }
    assert [task["task_key"] for task in job["tasks"]] == ["land", "transform"]
    for task in job["tasks"]:
        assert task["max_retries"] >= 1 and task["timeout_seconds"] > 0
    assert job["email_notifications"]["on_failure"] == ["anna@bank.example"]
    # The task that may fail in a run that succeeds tells by itself.
    assert job["tasks"][0]["email_notifications"] == {"on_failure": ["anna@bank.example"]}
    assert job["tasks"][1]["run_if"] == "ALL_DONE"
    for each in jobs().values():
        assert each["max_concurrent_runs"] == 1
        assert set(each["tags"]) == {"project", "environment", "cost_center"}
        assert each["tags"]["environment"] == "prod"
        assert "on_failure" in each["email_notifications"]


@pytest.mark.parametrize("target", ["staging", "prod"])
def test_a_service_principal_runs_staging_and_prod_and_may_read_the_secrets(target: str) -> None:
    config = resolved(target, service_principal="11111111-2222")
    assert config["mode"] == "production"
    assert config["run_as"] == {"service_principal_name": "11111111-2222"}
    assert config["workspace"]["root_path"].startswith("/Workspace/Users/11111111-2222/")
    assert config["resources"]["secret_scopes"]["secrets"]["permissions"] == [
        {"service_principal_name": "11111111-2222", "level": "READ"}
    ]
    for schema in config["resources"]["schemas"].values():
        assert schema["grants"] == [
            {"principal": "11111111-2222", "privileges": ["ALL_PRIVILEGES", "MANAGE"]}
        ]


def test_targets_do_not_share_a_schema() -> None:
    names = [
        schema["name"]
        for target in TARGETS
        for schema in resolved(target)["resources"]["schemas"].values()
    ]
    assert len(set(names)) == len(names)
    assert "dev_anna_silver" in names
    kept = resolved("prod")["resources"]
    for resource in [
        *kept["volumes"].values(),
        kept["schemas"]["bronze"],
        kept["schemas"]["silver"],
    ]:
        assert resource["lifecycle"] == {"prevent_destroy": True}


def test_schedules_are_quartz_expressions() -> None:
    config = resolved("staging")["resources"]
    found = [
        j["schedule"]["quartz_cron_expression"] for j in config["jobs"].values() if "schedule" in j
    ]
    found += [alert["schedule"]["quartz_cron_schedule"] for alert in config["alerts"].values()]
    assert len(found) == 4
    for expression in found:
        *times, weekday = expression.split(" ")
        assert len(times) == 5 and weekday == "?"
        assert all(re.fullmatch(r"\*|\d+(/\d+)?", each) for each in times), expression


def test_the_alert_asks_a_column_that_its_query_gives_of_a_table_that_is_built() -> None:
    (alert,) = resolved("staging")["resources"]["alerts"].values()
    column = alert["evaluation"]["source"]["name"]
    assert f" as {column}" in alert["query_text"]
    assert "from main.staging_observability.feed_freshness" in alert["query_text"]
    described = yaml.safe_load((PROJECT / "models/observability/_observability.yml").read_text())
    (model,) = [m for m in described["models"] if m["name"] == "feed_freshness"]
    assert "last_ingested_at" in [each["name"] for each in model["columns"]]
    assert "max(last_ingested_at)" in alert["query_text"]
    assert alert["evaluation"]["threshold"]["value"] == {"double_value": 120}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The project as dbt sees it in a job of staging."""
    folder = tmp_path_factory.mktemp("parsed")
    config = resolved("staging", readers="analysts", personal_data_readers="seers")
    words = shlex.split(
        config["resources"]["jobs"]["insights"]["tasks"][1]["dbt_task"]["commands"][0]
    )
    variables = words[words.index("--vars") + 1]
    options = ["--vars", variables, "--target-path", str(folder), "--log-path", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", "--quiet", "parse", *options],
        cwd=PROJECT,
        env={
            **os.environ,
            "DBT_PROFILES_DIR": str(PROJECT / "resources" / "dbt"),
            "DBT_HOST": "workspace.example",
            "DBT_ACCESS_TOKEN": "token",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads((folder / "manifest.json").read_text()))


def test_dbt_takes_its_profile_and_variables_from_the_job(manifest: dict[str, Any]) -> None:
    assert manifest["metadata"]["adapter_type"] == "databricks"
    sources = {source["relation_name"] for source in manifest["sources"].values()}
    assert "`main`.`staging_bronze`.`customers`" in sources
    schemas = {
        (node["database"], node["schema"])
        for node in manifest["nodes"].values()
        if node["resource_type"] in {"model", "seed"}
    }
    given = resolved("staging")["resources"]["schemas"].values()
    made = {(schema["catalog_name"], schema["name"]) for schema in given}
    assert schemas == made - {("main", "staging_bronze")}
    view = manifest["nodes"]["model.realtime_insights.customers"]["config"]
    state = manifest["nodes"]["model.realtime_insights.customers_state"]["config"]
    assert view["grants"] == {"select": ["analysts"]} and state["grants"] == {"select": []}
    assert view["persist_docs"] == {"relation": True, "columns": True}


def test_every_dbt_command_is_one_and_runs_a_macro_that_is_there(manifest: dict[str, Any]) -> None:
    operations = set()
    for name, *options in commands():
        command = dbt_command.commands.get(name)
        if name == "source":
            assert dbt_command.commands["source"].commands.get(options.pop(0)) is not None
            continue
        assert command is not None, name
        parsed = command.make_context(name, list(options), ignore_unknown_options=False).params
        assert set(parsed["vars"]) >= {"warehouse", "catalog", "schema_prefix", "lakehouse"}
        if name == "run-operation":
            operations.add(parsed["macro"])
            assert f"macro.realtime_insights.{parsed['macro']}" in manifest["macros"]
    assert operations == {"register_bronze", "govern"}


def test_every_variable_that_dbt_is_told_is_read_somewhere() -> None:
    read = "".join(
        path.read_text()
        for path in [
            *(PROJECT / "macros").rglob("*.sql"),
            PROJECT / "dbt_project.yml",
            PROJECT / "resources/dbt/profiles.yml",
        ]
    )
    told = yaml.safe_load(
        resolved("dev")["resources"]["jobs"]["set_up"]["tasks"][1]["dbt_task"]["commands"][0]
        .split("--vars ")[1]
        .strip("'")
    )
    for name in told:
        assert f"var('{name}'" in read, name


@pytest.mark.parametrize(
    "output", ["duckdb", "databricks", "databricks_service_principal", "databricks_user"]
)
def test_every_output_of_the_example_profile_is_one_that_dbt_takes(output: str) -> None:
    from dbt.adapters.databricks import DatabricksCredentials  # noqa: PLC0415 # seconds
    from dbt.adapters.duckdb.credentials import DuckDBCredentials  # noqa: PLC0415 # likewise

    text = (PROJECT / "profiles.yml.example").read_text()
    outputs = yaml.safe_load(text)["realtime_insights"]["outputs"]
    profile = outputs[output]
    kind = {"duckdb": DuckDBCredentials, "databricks": DatabricksCredentials}[profile.pop("type")]
    profile.pop("threads")
    kind.validate(kind.translate_aliases(profile))
    secrets = {name for name in profile if name in {"token", "client_id", "client_secret"}}
    expected = {
        "duckdb": set(),
        "databricks": {"token"},
        "databricks_service_principal": {"client_id", "client_secret"},
        "databricks_user": set(),
    }
    assert secrets == expected[output]
    assert all(profile[name].startswith("{{ env_var(") for name in secrets)


def test_the_bundle_says_nothing_of_one_bank() -> None:
    for path in loading.files():
        text = path.read_text()
        assert not re.search(r"https://|@[a-z]+\.[a-z]+|[0-9a-f]{16}", text), path


def test_paths_of_the_job_are_those_of_its_target() -> None:
    parameters = dict(tasks("python_wheel_task", "staging"))["insights.land"]["python_wheel_task"]
    assert "LANDING_PATH=/Volumes/main/staging_bronze/landing" in parameters["parameters"]
