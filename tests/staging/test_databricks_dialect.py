"""Every staging macro gives SQL of Databricks, compiled by its adapter, without a workspace."""

import subprocess
import sys
from pathlib import Path

import yaml
from sqlfluff.core import FluffConfig, Linter

PROJECT = Path(__file__).parent / "formats"
MACROS = Path(__file__).parents[2] / "macros" / "staging"
# Nothing listens there, and nothing is asked: these models are views.
NOWHERE = "http://127.0.0.1:9"


def compiled(folder: Path) -> dict[str, str]:
    """The models of the formats' project, compiled for Databricks."""
    target = {
        "type": "databricks",
        "host": NOWHERE,
        "http_path": "/sql/1.0/warehouses/none",
        "token": "none",
        "schema": "none",
        "connection_parameters": {"_connection_uri": NOWHERE, "enable_telemetry": False},
    }
    profile = {"target": "databricks", "outputs": {"databricks": target}}
    (folder / "profiles.yml").write_text(yaml.safe_dump({"realtime_insights": profile}))
    options: list[str | Path] = ["--no-introspect", "--no-populate-cache", "--project-dir", PROJECT]
    for option in ("--profiles-dir", "--target-path", "--log-path"):
        options += [option, folder]
    done = subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", "--quiet", "compile", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.stem: path.read_text() for path in (folder / "compiled").rglob("*.sql")}


def test_every_format_compiles_to_sql_of_databricks(tmp_path: Path) -> None:
    models = compiled(tmp_path)
    assert set(models) == {path.stem for path in PROJECT.rglob("*.sql")}
    linter = Linter(config=FluffConfig(overrides={"dialect": "databricks"}))
    for name, sql in models.items():
        assert "struct_pack" not in sql and '"_text_' not in sql, name
        parsed = linter.parse_string(sql)
        assert not parsed.violations, (name, parsed.violations)


def test_every_public_macro_has_a_model_here_and_is_documented() -> None:
    used = "".join(path.read_text() for path in PROJECT.rglob("*.sql"))
    documented = {
        macro["name"]: macro
        for macro in yaml.safe_load((MACROS / "_staging.yml").read_text())["macros"]
    }
    helpers = {"change_columns", "staged_changes", "typed"}
    formats = {p.stem for p in MACROS.glob("*_changes.sql")} | {"json_records"}
    for name in formats - helpers - {"flat_changes"}:
        assert f"{{{{ {name}(" in used, name
        arguments = documented[name]["arguments"]
        assert {"relation", "feed", "columns"} <= {argument["name"] for argument in arguments}
        assert all(argument["type"] and argument["description"] for argument in arguments)
        assert f"{name}(" in documented[name]["description"], f"{name} has no example"
    assert helpers <= set(documented)
