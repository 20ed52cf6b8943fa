"""The warehouse as a process.

    cd tests; ../.venv-warehouse/bin/python -m warehouse.server --folder FOLDER

It writes its port on the first line of its output, and ends when its input ends: with the process
that started it, however that ended.
"""

import argparse
import json
import sys
from pathlib import Path

from .catalog import Catalog
from .engine import Engine, Sail, Spark
from .session import Journal, Session
from .wire import HTTP_PATH, http_server, serve


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where managed tables are kept")
    parser.add_argument("--spark", metavar="ADDRESS", help="a Spark Connect server, not Sail")
    arguments = parser.parse_args()
    catalog = Catalog(arguments.folder.resolve())
    catalog.create_catalog("main")
    journal = Journal()
    engine: Engine = Spark(arguments.spark) if arguments.spark else Sail()

    def open_session(place: str | None, schema: str | None, settings: dict[str, str]) -> Session:
        session = Session(catalog, engine, journal, (place, schema))
        for key, value in settings.items():
            session.set(key, value)
        return session

    server = http_server(open_session, journal.report)
    serve(server)
    print(json.dumps({"port": server.server_address[1], "http_path": HTTP_PATH}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
