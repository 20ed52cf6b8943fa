"""Make the environment that the other commands need. Standard library only; called by make.

    python scripts/set_up.py demo|dev

Creates .venv with the locked packages of requirements/<name>.lock (every one checked by its hash),
the project itself, DuckDB's Delta extension out of its wheel, and the dbt packages. Running it
again brings an existing environment up to date.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
ENVIRONMENT = PROJECT / ".venv"
OLDEST_PYTHON = (3, 11)

# DuckDB looks in its extension folder before it looks on the network, and checks the signature.
INSTALL_DELTA_EXTENSION = """
import duckdb, importlib.util, pathlib
folder = pathlib.Path(importlib.util.find_spec("duckdb_extension_delta").origin).parent
duckdb.connect().install_extension(str(next(folder.rglob("delta.duckdb_extension*"))))
"""


def run(*command: str | Path) -> None:
    """Run a command of the environment; end with its exit code if it fails."""
    settings = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(  # noqa: S603 # fixed commands of our own environment
        [str(part) for part in command], cwd=PROJECT, env=settings, check=False
    )
    if done.returncode:
        sys.exit(f"set-up failed: {' '.join(str(part) for part in command[1:4])} ...")


def main(name: str) -> None:
    """Bring the environment to what requirements/<name>.lock says."""
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(
            f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed, this is "
            f"{sys.version.split()[0]}: make PYTHON=python3.11 {name}"
        )
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        print("set-up: creating .venv", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    print(f"set-up: installing requirements/{name}.lock (one to two minutes)", flush=True)
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    run(*pip, "--require-hashes", "--requirement", f"requirements/{name}.lock")
    run(*pip, "--editable", ".")
    run(python, "-c", INSTALL_DELTA_EXTENSION)
    run(python, "scripts/install_dbt_packages.py")
    # What `dev` installs is all that `demo` needs.
    for marker in {"demo": (".demo",), "dev": (".demo", ".dev")}[name]:
        (ENVIRONMENT / marker).touch()


if __name__ == "__main__":
    main(sys.argv[1])
