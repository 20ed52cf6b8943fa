"""A schema registry on loopback: as much of Confluent's API as reading and registering takes."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

AUTHORIZATION = "Basic dXNlcjpzM2NyM3Q="  # user:s3cr3t


class Registry:
    """Schemas by id, from 1; a test adds some."""

    def __init__(self) -> None:
        self.url = ""
        self.schemas: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.protected = False

    def add(
        self,
        schema: object,
        kind: str = "AVRO",
        references: tuple[tuple[str, int], ...] = (),
        subject: str | None = None,
    ) -> int:
        """Register a schema that refers to others by (name, id); return its id.

        A Protobuf schema is given in serialized form, an Avro schema as what its JSON means.
        """
        content = schema if isinstance(schema, str) else json.dumps(schema)
        number = len(self.schemas) + 1
        self.schemas.append(
            {
                "subject": subject or f"subject-{number}",
                "version": 1,
                "id": number,
                "guid": str(uuid.UUID(int=number)),
                "schemaType": kind,
                "schema": content,
                "references": [
                    {"name": name, "subject": f"subject-{at}", "version": 1}
                    for name, at in references
                ],
            }
        )
        return number

    def answer(self, path: str, serialized: bool, body: dict[str, Any]) -> tuple[int, object]:
        """Return a status and what the body says."""
        match [unquote(part) for part in path.strip("/").split("/")]:
            case ["schemas", "types"]:
                return 200, ["AVRO", "PROTOBUF", "JSON"]
            case ["schemas", "ids", number]:
                return self._found(serialized, id=int(number))
            case ["schemas", "guids", guid]:
                return self._found(serialized, guid=guid)
            case ["subjects", subject, "versions", _]:
                return self._found(serialized, subject=subject)
            case ["subjects", subject, "versions"] if body:
                return 200, {"id": self.add(body["schema"], subject=subject)}
        return 404, "no such page"

    def _found(self, serialized: bool, **wanted: object) -> tuple[int, object]:
        for schema in self.schemas:
            if all(schema[name] == value for name, value in wanted.items()):
                if schema["schemaType"] == "PROTOBUF" and not serialized:
                    return 200, {**schema, "schema": 'syntax = "proto3";'}
                return 200, schema
        return 404, {"error_code": 40403, "message": "Schema not found"}


@contextmanager
def schema_registry() -> Iterator[Registry]:
    """Run a registry without schemas."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlsplit(self.path)
            registry.requests.append(where.path)
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else {}
            if registry.protected and self.headers.get("Authorization") != AUTHORIZATION:
                status, content = 401, {"error_code": 401, "message": "Unauthorized"}
            else:
                serialized = parse_qs(where.query).get("format") == ["serialized"]
                status, content = registry.answer(where.path, serialized, body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
