"""The wire: Thrift messages over HTTP, as the Databricks SQL connector sends them.

The message types are the connector's own generated ones. A statement runs while its request
waits, and its whole result is in the reply.
"""

import json
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import pyarrow as pa
from databricks.sql.thrift_api.TCLIService import TCLIService
from databricks.sql.thrift_api.TCLIService import ttypes as t
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.transport.TTransport import TMemoryBuffer

HTTP_PATH = "/sql/1.0/warehouses/local"
_OK = t.TStatus(statusCode=t.TStatusCode.SUCCESS_STATUS)


class WarehouseSession(Protocol):
    """What the wire needs of a session."""

    def execute(self, statement: str) -> pa.Table:
        """Run a statement."""

    def schemas(self) -> pa.Table:
        """Answer the metadata request for schemas."""

    def tables(self, catalog: str | None, schema: str | None) -> pa.Table:
        """Answer the metadata request for tables."""

    def close(self) -> None:
        """End the session."""


OpenSession = Callable[[str | None, str | None, dict[str, str]], WarehouseSession]

_TYPES: tuple[tuple[Callable[[pa.DataType], bool], int], ...] = (
    (pa.types.is_boolean, t.TTypeId.BOOLEAN_TYPE),
    (pa.types.is_int8, t.TTypeId.TINYINT_TYPE),
    (pa.types.is_int16, t.TTypeId.SMALLINT_TYPE),
    (pa.types.is_int32, t.TTypeId.INT_TYPE),
    (pa.types.is_int64, t.TTypeId.BIGINT_TYPE),
    (pa.types.is_float32, t.TTypeId.FLOAT_TYPE),
    (pa.types.is_float64, t.TTypeId.DOUBLE_TYPE),
    (pa.types.is_timestamp, t.TTypeId.TIMESTAMP_TYPE),
    (pa.types.is_date, t.TTypeId.DATE_TYPE),
    (pa.types.is_binary, t.TTypeId.BINARY_TYPE),
    (pa.types.is_decimal, t.TTypeId.DECIMAL_TYPE),
    (pa.types.is_map, t.TTypeId.MAP_TYPE),
    (pa.types.is_list, t.TTypeId.ARRAY_TYPE),
    (pa.types.is_struct, t.TTypeId.STRUCT_TYPE),
    (pa.types.is_null, t.TTypeId.NULL_TYPE),
)


def _type_of(kind: pa.DataType) -> t.TTypeDesc:
    identifier = next((i for fits, i in _TYPES if fits(kind)), t.TTypeId.STRING_TYPE)
    qualifiers = None
    if identifier == t.TTypeId.DECIMAL_TYPE:
        values = {"precision": kind.precision, "scale": kind.scale}
        qualifiers = t.TTypeQualifiers(
            qualifiers={k: t.TTypeQualifierValue(i32Value=v) for k, v in values.items()}
        )
    entry = t.TPrimitiveTypeEntry(type=identifier, typeQualifiers=qualifiers)
    return t.TTypeDesc(types=[t.TTypeEntry(primitiveEntry=entry)])


def _plain(table: pa.Table) -> pa.Table:
    """Give strings the one representation that the connector expects."""
    for number, column in enumerate(table.schema):
        if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
            strings = table.column(number).cast(pa.string())
            table = table.set_column(number, column.name, strings)
    return table


class _Service:
    """The requests of the connector, each answered by a method of its name."""

    def __init__(self, open_session: OpenSession) -> None:
        self._open_session = open_session
        self._sessions: dict[bytes, WarehouseSession] = {}
        self._metadata: dict[bytes, t.TGetResultSetMetadataResp] = {}

    @staticmethod
    def _handle() -> t.THandleIdentifier:
        return t.THandleIdentifier(guid=uuid.uuid4().bytes, secret=uuid.uuid4().bytes)

    def _session(self, request: Any) -> WarehouseSession:
        return self._sessions[request.sessionHandle.sessionId.guid]

    def OpenSession(self, request: Any) -> Any:  # noqa: N802 # the protocol's name
        handle, space = self._handle(), request.initialNamespace
        try:
            self._sessions[handle.guid] = self._open_session(
                space and space.catalogName, space and space.schemaName, request.configuration or {}
            )
        except Exception as error:  # noqa: BLE001 # told to the client
            status = t.TStatus(statusCode=t.TStatusCode.ERROR_STATUS, errorMessage=str(error))
            return t.TOpenSessionResp(status=status, serverProtocolVersion=0)
        return t.TOpenSessionResp(
            status=_OK,
            serverProtocolVersion=t.TProtocolVersion.SPARK_CLI_SERVICE_PROTOCOL_V7,
            sessionHandle=t.TSessionHandle(sessionId=handle),
            configuration={},
            canUseMultipleCatalogs=True,
            initialNamespace=space,
        )

    def CloseSession(self, request: Any) -> Any:  # noqa: N802
        session = self._sessions.pop(request.sessionHandle.sessionId.guid, None)
        if session:
            session.close()
        return t.TCloseSessionResp(status=_OK)

    def _run(self, response: Any, work: Callable[[], pa.Table]) -> Any:
        handle = self._handle()
        operation = t.TOperationHandle(
            operationId=handle,
            operationType=t.TOperationType.EXECUTE_STATEMENT,
            hasResultSet=True,
        )
        try:
            table = _plain(work())
        except Exception as error:  # noqa: BLE001 # told to the client
            message = str(error).strip().split("\n\nJVM")[0]
            failed = t.TGetOperationStatusResp(
                status=_OK,
                operationState=t.TOperationState.ERROR_STATE,
                displayMessage=message,
                errorMessage=message,
                sqlState="42000",
            )
            direct = t.TSparkDirectResults(operationStatus=failed)
            return response(status=_OK, operationHandle=operation, directResults=direct)
        columns = [
            t.TColumnDesc(columnName=c.name, typeDesc=_type_of(c.type), position=n)
            for n, c in enumerate(table.schema)
        ]
        metadata = t.TGetResultSetMetadataResp(
            status=_OK,
            schema=t.TTableSchema(columns=columns),
            resultFormat=t.TSparkRowSetType.ARROW_BASED_SET,
            lz4Compressed=False,
            arrowSchema=table.schema.serialize().to_pybytes(),
            isStagingOperation=False,
        )
        batches = [
            t.TSparkArrowBatch(batch=b.serialize().to_pybytes(), rowCount=b.num_rows)
            for b in table.combine_chunks().to_batches()
            if b.num_rows
        ]
        rows = t.TFetchResultsResp(
            status=_OK,
            hasMoreRows=False,
            results=t.TRowSet(startRowOffset=0, rows=[], arrowBatches=batches),
        )
        self._metadata[handle.guid] = metadata
        finished = t.TGetOperationStatusResp(
            status=_OK, operationState=t.TOperationState.FINISHED_STATE
        )
        direct = t.TSparkDirectResults(
            operationStatus=finished, resultSetMetadata=metadata, resultSet=rows
        )
        return response(status=_OK, operationHandle=operation, directResults=direct)

    def ExecuteStatement(self, request: Any) -> Any:  # noqa: N802
        session = self._session(request)
        return self._run(t.TExecuteStatementResp, lambda: session.execute(request.statement))

    def GetSchemas(self, request: Any) -> Any:  # noqa: N802
        return self._run(t.TGetSchemasResp, self._session(request).schemas)

    def GetTables(self, request: Any) -> Any:  # noqa: N802
        session = self._session(request)
        return self._run(
            t.TGetTablesResp, lambda: session.tables(request.catalogName, request.schemaName)
        )

    def GetOperationStatus(self, request: Any) -> Any:  # noqa: N802
        return t.TGetOperationStatusResp(
            status=_OK, operationState=t.TOperationState.FINISHED_STATE
        )

    def GetResultSetMetadata(self, request: Any) -> Any:  # noqa: N802
        return self._metadata[request.operationHandle.operationId.guid]

    def FetchResults(self, request: Any) -> Any:  # noqa: N802
        none = t.TRowSet(startRowOffset=0, rows=[], arrowBatches=[])
        metadata = self.GetResultSetMetadata(request)
        return t.TFetchResultsResp(
            status=_OK, hasMoreRows=False, results=none, resultSetMetadata=metadata
        )

    def CloseOperation(self, request: Any) -> Any:  # noqa: N802
        self._metadata.pop(request.operationHandle.operationId.guid, None)
        return t.TCloseOperationResp(status=_OK)

    def CancelOperation(self, request: Any) -> Any:  # noqa: N802
        return t.TCancelOperationResp(status=_OK)


def http_server(
    open_session: OpenSession, report: Callable[[], dict[str, Any]]
) -> ThreadingHTTPServer:
    """Return a server on a loopback port that the system chooses, a thread per connection.

    `report`: what GET /report answers, as JSON.
    """
    service = TCLIService.Processor(_Service(open_session))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # A reply in one packet, sent at once: otherwise every request waits 40 ms.
        wbufsize = -1
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # inherited
            """Say nothing."""

        def _reply(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def do_GET(self) -> None:  # noqa: N802 # inherited
            if self.path == "/.well-known/databricks-config":
                host = f"http://127.0.0.1:{self.server.server_address[1]}"
                found: dict[str, Any] = {"host_type": "workspace", "oidc_endpoint": f"{host}/oidc"}
                code = 200
            elif self.path == "/report":
                code, found = 200, report()
            else:
                code, found = 404, {"error_code": "NOT_FOUND", "message": "a local warehouse"}
            self._reply(code, "application/json", json.dumps(found).encode())

        def do_POST(self) -> None:  # noqa: N802 # inherited
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != HTTP_PATH:
                self._reply(404, "application/json", b"{}")
                return
            reply = TMemoryBuffer()
            service.process(TBinaryProtocol(TMemoryBuffer(body)), TBinaryProtocol(reply))
            self._reply(200, "application/x-thrift", reply.getvalue())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    return server


def serve(server: ThreadingHTTPServer) -> None:
    """Serve in the background."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
