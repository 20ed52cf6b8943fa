"""Writes the dashboard: the page's files, its chart library, and the data that it shows.

The data are the views ``marts.dashboard_*`` of the DuckDB file, read in one read-only connection.
They are written as JSON (`insights.json`, for a page that is served) and as a script that assigns
the same JSON (`insights.js`, for a page opened from disk, where a browser forbids fetching).
Every file is replaced as a whole: a reader sees the old file or the new one, never a part.
"""

import argparse
import importlib.util
import json
import math
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb

SCHEMA = "marts"
PREFIX = "dashboard_"
REQUIRED_VIEWS = (
    "summary",
    "engagement_mix",
    "favorites",
    "offers",
    "cash_back_monthly",
    "cash_back_daily",
    "losses",
    "losses_by_reason",
    "break_even",
    "break_even_by_programme",
    "freshness",
    "rejected",
)
PAGE_FILES = ("index.html", "app.js", "style.css")
CHART_LIBRARY = "plotly.min.js"

# Above this, a JavaScript number no longer tells neighbouring integers apart.
MAX_EXACT_INTEGER = 2**53 - 1

JsonValue = str | int | float | bool | None
Views = dict[str, list[dict[str, JsonValue]]]


class ExportError(Exception):
    """The dashboard cannot be written; the text is one line that says what and where."""


def json_value(value: object) -> JsonValue:
    """Returns `value` as the page reads it.

    Decimals become strings with all their digits, because a JSON number may lose some. Timestamps
    become ISO-8601 in UTC with a Z (those without a zone are in UTC already), dates YYYY-MM-DD.
    Integers that JavaScript would round become strings; NaN and infinities become null.
    """
    match value:
        case int() if abs(value) > MAX_EXACT_INTEGER:
            return str(value)
        case float() if not math.isfinite(value):
            return None
        case None | bool() | str() | int() | float():
            return value
        case Decimal():
            return format(value, "f")
        case datetime():
            utc = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
            return utc.isoformat().replace("+00:00", "Z")
        case _:
            return str(value)


def read_views(connection: duckdb.DuckDBPyConnection) -> Views:
    """Reads all rows of every dashboard view, in order, by name without the prefix.

    Raises `ExportError` where one of `REQUIRED_VIEWS` is missing.
    """
    found = connection.execute(
        "select table_name from information_schema.tables"
        " where table_schema = ? and starts_with(table_name, ?) order by table_name",
        [SCHEMA, PREFIX],
    ).fetchall()
    names = [str(name).removeprefix(PREFIX) for (name,) in found]
    missing = [f"{SCHEMA}.{PREFIX}{name}" for name in REQUIRED_VIEWS if name not in names]
    if missing:
        raise ExportError(f"missing view {', '.join(missing)}: run dbt build first")

    views: Views = {}
    for name in names:
        relation = connection.sql(f'from {SCHEMA}."{PREFIX}{name}" order by all')
        columns = relation.columns
        views[name] = [
            {column: json_value(value) for column, value in zip(columns, row, strict=True)}
            for row in relation.fetchall()
        ]
    return views


def render_json(views: Views, generated_at: datetime) -> str:
    """Returns the JSON text, plain ASCII, safe inside a script element as well.

    `<` is written as an escape so that `</script>` and `<!--` cannot occur; being ASCII, the text
    has no U+2028 or U+2029 either, which end a line in older JavaScript.
    """
    document = {"generated_at": json_value(generated_at), "views": views}
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def replace_file(path: Path, content: bytes) -> None:
    """Writes `path` so that a reader, or a crash, never meets half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def chart_library() -> Path:
    """Returns the chart library's JavaScript inside the installed plotly wheel.

    The wheel is located, not imported. Raises `ExportError` where it is not installed.
    """
    spec = importlib.util.find_spec("plotly")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "package_data" / CHART_LIBRARY
        if path.is_file():
            return path
    raise ExportError(f"{CHART_LIBRARY} not found: install the plotly package")


def write_dashboard(views: Views, output: Path, generated_at: datetime) -> None:
    """Writes the page, its chart library and its data into the folder `output`."""
    library = chart_library()
    output.mkdir(parents=True, exist_ok=True)
    page = Path(__file__).parent
    for name in PAGE_FILES:
        replace_file(output / name, (page / name).read_bytes())
    copied = output / CHART_LIBRARY
    # Some 5 MB that change only with the wheel, while the data change at every build.
    if not copied.is_file() or copied.stat().st_size != library.stat().st_size:
        replace_file(copied, library.read_bytes())
    text = render_json(views, generated_at)
    replace_file(output / "insights.js", f"window.INSIGHTS = {text};\n".encode("ascii"))
    replace_file(output / "insights.json", f"{text}\n".encode("ascii"))


def export(database: Path, output: Path, generated_at: datetime) -> Views:
    """Writes the dashboard of `database` into `output` and returns the rows that it shows.

    Raises `ExportError` where the database, a view or the chart library is missing, where the
    database cannot be read (another process may be writing it), or `output` not be written.
    """
    if not database.is_file():
        raise ExportError(f"no database at {database}: run dbt build first")
    try:
        with duckdb.connect(database, read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            views = read_views(connection)
        write_dashboard(views, output, generated_at)
    except duckdb.Error as error:
        raise ExportError(f"cannot read {database}: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise ExportError(f"cannot write {output}: {error.strerror or error}") from error
    return views


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, or 2 with one line on stderr."""
    lakehouse = Path(os.environ.get("LAKEHOUSE_PATH") or "lakehouse")
    parser = argparse.ArgumentParser(prog="dashboard.export", description="Write the dashboard.")
    parser.add_argument("--database", type=Path, default=lakehouse / "insights.duckdb")
    parser.add_argument("--output", type=Path, default=lakehouse / "dashboard")
    options = parser.parse_args(arguments)
    try:
        views = export(options.database, options.output, datetime.now(UTC))
    except ExportError as error:
        print(f"dashboard: {error}", file=sys.stderr)
        return 2
    rows = sum(map(len, views.values()))
    print(f"dashboard: {options.output / 'index.html'} ({len(views)} views, {rows} rows)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
