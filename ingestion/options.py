"""What the commands of `ingest` have in common."""

import os
from pathlib import Path

import click

from ingestion.locations import Root, root

DEFAULT_FEEDS_FILE = Path(__file__).with_name("feeds.yml")

feeds_option = click.option(
    "--feeds",
    "feeds_file",
    envvar="FEEDS_FILE",
    type=click.Path(path_type=Path),
    default=DEFAULT_FEEDS_FILE,
    help="The file that declares the feeds.  [env FEEDS_FILE; default: the demo's feeds]",
)
lakehouse_option = click.option(
    "--lakehouse",
    envvar="LAKEHOUSE_PATH",
    type=root,
    default="lakehouse",
    show_default=True,
    help="The folder of all tables, or its URL (s3://...).  [env LAKEHOUSE_PATH]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def environment(lakehouse: Root) -> dict[str, str]:
    """Return the environment for the feeds file, with the folder that --lakehouse names."""
    return {**os.environ, "LAKEHOUSE_PATH": str(lakehouse)}
