"""The ClickHouse engine in this process: owns the data directory, runs statements, each in a session of its own.

A session is one engine connection: settings, current database and temporary tables are its own, queries of different sessions run
in parallel (the GIL is released inside the engine). The engine's one user may read and write tables, but no files, URLs or other
sources of the machine. What does not belong here: HTTP (server).
"""

import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final
from xml.sax.saxutils import escape

from chdb import _chdb as _engine_module

from l2_platform.settings import WarehouseSettings
from l2_platform.warehouse.chunks import ChunkJoiner
from l2_platform.warehouse.errors import QueryFailed, failure_of
from l2_platform.warehouse.statement import settings_place

_chdb: Any = _engine_module  # the extension module has no type information
GRANTS: Final = (
    "GRANT SHOW, SELECT, INSERT, ALTER, CREATE, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, KILL QUERY, SYSTEM MERGES, SYSTEM FLUSH LOGS, "
    "SYSTEM DROP CACHE, SYSTEM SYNC REPLICA, SYSTEM WAIT LOADING PARTS, INTROSPECTION, dictGet, TABLE ENGINE ON *.*"
)
"""Everything about tables; nothing about files, URLs, other servers, users, or stopping the engine."""
NOT_STREAMABLE: Final = "Streaming query is not supported"
LIMITED: Final = "max_execution_time"
RESERVED: Final = frozenset({"log_comment", "async_insert"})


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole result and its counts."""

    body: bytes
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0


class Engine:
    """Opens the directory (one process at a time can) and makes sessions."""

    def __init__(self, directory: Path, settings: WarehouseSettings) -> None:
        self._directory = directory
        self._settings = settings
        self._keeper: Any = None
        """Holds the engine open between requests."""

    def open(self) -> None:
        """Open or create the data; raise WarehouseError (QueryFailed) when it cannot be used, e.g. another process has it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._write_config()
        self._target = f"{self._directory}?config-file={config}"
        # The engine installs handlers for SIGTERM and others: stopping is the server's business.
        _chdb.reset_signal_handlers()
        try:
            self._keeper = _chdb.connect(self._target)
        except RuntimeError as error:
            raise failure_of(str(error)) from None
        _chdb.reset_signal_handlers()

    def close(self) -> None:
        """Close the engine; every acknowledged row is on disk already."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.close()

    def session(self) -> "Session":
        """A new session; close it."""
        try:
            return Session(_chdb.connect(self._target), self._settings)
        except RuntimeError as error:
            raise failure_of(str(error)) from None

    def kill(self, query_id: str) -> None:
        """Ask the engine to stop a running statement; nothing happens when it is over."""
        session = self.session()
        quoted = quote_text(query_id)
        try:
            session.query(
                f"KILL QUERY WHERE splitByChar(' ', Settings['log_comment'])[1] = {quoted} ASYNC".encode(), "TabSeparated", {}
            )
        finally:
            session.close()

    def _write_config(self) -> Path:
        """The engine's two configuration files, beside its data."""
        folder = self._directory.parent / "run" / "warehouse"
        folder.mkdir(parents=True, exist_ok=True)
        users, config = folder / "users.xml", folder / "config.xml"
        users.write_text(
            "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default><password></password>"
            "<profile>default</profile><quota>default</quota><networks><ip>::/0</ip></networks>"
            f"<grants><query>{GRANTS}</query></grants></default></users></clickhouse>",
            encoding="utf-8",
        )
        memory = self._settings.memory_bytes_max
        config.write_text(
            f"<clickhouse><users_config>{escape(str(users))}</users_config><timezone>UTC</timezone>"
            f"<max_server_memory_usage>{memory}</max_server_memory_usage>"
            f"<mark_cache_size>{min(memory // 16, 256 << 20)}</mark_cache_size>"
            f"<uncompressed_cache_size>0</uncompressed_cache_size></clickhouse>",
            encoding="utf-8",
        )
        return config


class Session:
    """One engine connection; statements of one session run one after the other."""

    def __init__(self, connection: Any, settings: WarehouseSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._given: list[str] = []

    def prepare(
        self, query_id: str, database: str | None, given: Mapping[str, str], answer_bytes_max: int | None = None
    ) -> None:
        """Apply a request's settings (setting name → text) and database; raise QueryFailed for unknown ones.

        `answer_bytes_max`: an answer that is larger before it is formatted fails, unless the request sets a limit of its own.
        """
        comment = " ".join(part for part in (query_id, given.get("log_comment", "")) if part)
        values = {
            "implicit_select": "0", "async_insert": "0", "max_execution_time": self._execution_limit(given.get(LIMITED)),
            "log_comment": comment, **{name: value for name, value in given.items() if name not in RESERVED and name != LIMITED},
        }  # fmt: skip
        if given.get("async_insert") == "1":
            values["async_insert"] = "1"
        limit = {} if answer_bytes_max is None else {"max_result_bytes": str(answer_bytes_max), "result_overflow_mode": "throw"}
        values = limit | values
        self._given = [*limit, *(name for name in given if name not in RESERVED and name not in limit)]
        pairs = ", ".join(f"{setting_name(name)} = {quote_text(value)}" for name, value in values.items())
        self._run(f"SET {pairs}".encode())
        if database:
            self._run(f"USE {quote_name(database)}".encode())

    def restore(self) -> None:
        """Forget the last request's settings, so that a session that lives on starts the next one clean."""
        if self._given:
            self._run(("SET " + ", ".join(f"{setting_name(name)} = DEFAULT" for name in self._given)).encode())
        self._given = []

    def is_reading(self, sql: bytes) -> bool:
        """The statement changes nothing."""
        facts = self._connection.classify_query(sql.decode("utf-8", "replace"))
        # what does not parse may run: the engine says what is wrong with it
        return facts["query_class"] in {_chdb.query_class.READ_ONLY, _chdb.query_class.UNKNOWN}

    def query(self, sql: bytes, output: str, params: Mapping[str, str]) -> Answer:
        """Run a statement to its end; the whole result in memory."""
        try:
            result = self._connection.query(sql, output, params=dict(params))
        except RuntimeError as error:
            raise failure_of(str(error)) from None
        return Answer(
            result.bytes(), result.rows_read(), result.bytes_read(), result.rows_written(), result.bytes_written()
        )

    def stream(self, sql: bytes, output: str, params: Mapping[str, str]) -> Iterator[bytes]:
        """Run a reading statement; pieces of the result as they are made. Closing the iterator cancels the statement."""
        try:
            result = self._connection.send_query(sql, output, params=dict(params))
        except RuntimeError as error:
            if NOT_STREAMABLE in str(error):
                # refused before it ran: DESCRIBE, SHOW, EXPLAIN …
                yield self.query(sql, output, params).body
                return
            raise failure_of(str(error)) from None
        joiner = ChunkJoiner(output)
        finished = False
        try:
            while True:
                piece = self._connection.streaming_fetch_result(result)
                if piece is None or piece.rows_read() == 0:
                    finished = True
                    yield joiner.end(b"" if piece is None else piece.bytes())
                    return
                yield joiner.add(piece.bytes())
        except RuntimeError as error:
            finished = True
            raise failure_of(str(error)) from None
        finally:
            if not finished:
                self._connection.streaming_cancel_query(result)

    def insert(self, sql: bytes, input_format: str, data: bytes | memoryview | int, params: Mapping[str, str]) -> Answer:
        """INSERT `data` (one whole body, or the descriptor of a file that has it).

        One Native block of the body becomes one block of each partition it touches.

        The data is read from a file in memory: the engine's own streaming insert does not tell of a failure behind its parser (a
        violated constraint, too many parts, a full disk), and answers as if the rows were stored.
        """
        for name, value in params.items():
            self._run(f"SET param_{setting_name(name)} = {quote_text(value)}".encode())
        place = settings_place(sql)
        with file_in_memory() as own:
            if not isinstance(data, int):
                own.write(data)
                own.flush()
            descriptor = data if isinstance(data, int) else own.fileno()
            source = f" FROM INFILE '/proc/self/fd/{descriptor}' COMPRESSION 'none' ".encode()
            try:
                result = self._connection.query(sql[:place] + source + sql[place:] + b" FORMAT " + input_format.encode(), "TabSeparated")
            except RuntimeError as error:
                raise failure_of(str(error)) from None
        return Answer(b"", 0, 0, result.rows_written(), result.bytes_written())

    def close(self) -> None:
        """End the session."""
        self._connection.close()

    def _run(self, sql: bytes) -> None:
        try:
            self._connection.query(sql, "TabSeparated")
        except RuntimeError as error:
            raise failure_of(str(error)) from None

    def _execution_limit(self, asked: str | None) -> str:
        limit = self._settings.query_s_max
        try:
            wanted = float(asked) if asked else 0.0
        except ValueError:
            raise QueryFailed(27, f"{LIMITED} is no number: {asked}", name="CANNOT_PARSE_INPUT_ASSERTION_FAILED") from None
        return str(min(wanted, limit) if wanted > 0 else limit)


def file_in_memory() -> BinaryIO:
    """A file without a name."""
    return os.fdopen(os.memfd_create("insert"), "wb")


def quote_text(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(name: str) -> str:
    """A SQL identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def setting_name(name: str) -> str:
    """The name, when it can be the name of a setting or parameter; raise QueryFailed otherwise."""
    if not name.isascii() or not name.replace("_", "a").isalnum():
        raise QueryFailed(115, f"Unknown setting {name!r}", name="UNKNOWN_SETTING")
    return name


def new_query_id() -> str:
    """For requests that bring none."""
    return str(uuid.uuid4())
