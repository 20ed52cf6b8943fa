"""Promises about the project as a whole: its README, its lint rules, its names."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[1]
# No test can run these: they are checked against the bundle.
NEEDS_A_WORKSPACE = ("databricks bundle deploy ", "databricks bundle run ")


def models() -> list[Path]:
    return sorted((PROJECT / "models").rglob("*.sql"))


def test_no_model_names_an_engine() -> None:
    assert models()
    for path in models():
        text = path.read_text().lower()
        for word in ("duckdb", "databricks", "spark", "target.type", "adapter."):
            assert word not in text, f"{path.relative_to(PROJECT)} says {word}"


def test_only_staging_and_observability_read_sources() -> None:
    for path in models():
        if "source(" in path.read_text():
            assert path.parent.name == "observability" or path.parent.parent.name == "staging", path


def test_no_float_in_models_that_hold_money() -> None:
    for path in models():
        if "staging" not in path.parts:
            assert not re.search(r"\b(float|double|real)\b", path.read_text(), re.I), path


def test_every_model_and_column_is_described() -> None:
    described = {}
    for path in (PROJECT / "models").rglob("*.yml"):
        for model in yaml.safe_load(path.read_text()).get("models", []):
            described[model["name"]] = model
    for path in models():
        model = described.pop(path.stem, None)
        assert model and model["description"].startswith("One row"), path.stem
        for column in model["columns"]:
            assert column["description"].strip(), f"{path.stem}.{column['name']}"
    assert not described, "YAML describes models that do not exist"


def test_one_mart_holds_personal_data_and_only_that_one() -> None:
    holding = set()
    for path in (PROJECT / "models" / "marts").rglob("*.sql"):
        if re.search(r"full_name|email|birth_date", path.read_text()):
            holding.add(path.stem)
    assert holding == {"customer_360"}


def test_readme_commands_are_run_by_ci_or_by_a_test() -> None:
    readme = (PROJECT / "README.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", readme, re.S)
    commands = {line.split("#")[0].strip() for block in blocks for line in block.splitlines()}
    run_by_ci = {line.strip() for line in (PROJECT / ".ci" / "run").read_text().splitlines()}
    tests = "".join(p.read_text() for p in (PROJECT / "tests").rglob("test_*.py"))
    assert "make demo" in commands and "make test" in commands
    for command in commands - {""}:
        needs_a_workspace = command.startswith(NEEDS_A_WORKSPACE)
        assert command in run_by_ci or f'"{command}"' in tests or needs_a_workspace, command


def test_readme_commands_that_need_a_workspace_fit_the_bundle() -> None:
    bundle = yaml.safe_load((PROJECT / "databricks.yml").read_text())
    jobs = yaml.safe_load((PROJECT / "resources" / "jobs.yml").read_text())["resources"]["jobs"]
    readme = (PROJECT / "README.md").read_text()
    named = re.findall(r"^databricks .*", readme, re.M)
    assert len(named) == len(NEEDS_A_WORKSPACE)
    for command in named:
        given = re.findall(r"--var (\w+)=", command)
        without = [
            n for n, v in bundle["variables"].items() if not {"default", "lookup"} & v.keys()
        ]
        assert sorted(given) == sorted(without), command
        ran = re.match(r"databricks bundle run (\w+)", command)
        assert ran is None or ran[1] in jobs, command


def test_make_alone_lists_what_there_is() -> None:
    done = subprocess.run(["make"], cwd=PROJECT, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "lint", "docs", "clean"):
        assert re.search(rf"^{target}\s+\S", done.stdout, re.M), done.stdout


def test_profiles_example_reads_every_secret_from_the_environment() -> None:
    text = (PROJECT / "profiles.yml.example").read_text()
    for name in ("token", "host", "http_path"):
        assert re.search(rf"{name}: \"{{{{ env_var\(", text), name
    assert "duckdb" in yaml.safe_load(text)["realtime_insights"]["target"]


def test_set_up_refuses_an_old_python_in_words() -> None:
    code = (
        "import sys; sys.version_info = (3, 9, 0); sys.version = '3.9.0 x';"
        "sys.argv = ['scripts/set_up.py', 'demo'];"
        "import scripts.set_up as s; s.main('demo')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed, this is 3.9.0" in done.stderr
