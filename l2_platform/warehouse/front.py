"""ClickHouse's HTTP interface in front of the engine: requests in, statements through, answers out.

One request is one statement. The engine's work runs in threads, at most `queries_max` at once; results stream with back-pressure.
What does not belong here: the engine (engine), the process and its signals (server).
"""

import asyncio
import hmac
import secrets
import threading
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from tempfile import SpooledTemporaryFile
from typing import Any, Final, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from l2_platform.clock import Clock
from l2_platform.monitoring.bounds import Bound
from l2_platform.monitoring.logs import get_logger
from l2_platform.settings import WarehouseSettings
from l2_platform.warehouse.answers import Sender, encoding_header, send_all, summary
from l2_platform.warehouse.bodies import Bodies, Held
from l2_platform.warehouse.chunks import can_stream, content_type
from l2_platform.warehouse.encoding import Encoder, choose_encoding, decode_blocks, decode_body, make_encoder
from l2_platform.warehouse.engine import Answer, Engine, Session, file_in_memory, new_query_id
from l2_platform.warehouse.errors import QueryFailed
from l2_platform.warehouse.statement import Statement, parse_statement, takes_body

Result = TypeVar("Result")
TRANSPORT: Final = frozenset(
    {
        "user", "password", "query", "query_id", "database", "default_format", "session_id", "session_timeout", "session_check",
        "quota_key", "compress", "decompress", "buffer_size", "wait_end_of_query", "client_protocol_version", "role", "stacktrace",
    }
)  # fmt: skip
"""URL parameters that are no settings."""
FIRST_BYTES: Final = 1 << 20
"""So much of an answer is held back before its headers go out: an error up to there gets a status of its own, bytes."""
SPOOL_BYTES: Final = 32 << 20
"""An answer that is made whole before it goes out is kept in memory up to here, then in a temporary file, bytes."""
SESSION_S: Final = 60.0
SESSION_WAIT_S: Final = 1.0


@dataclass(slots=True)
class Ask:
    """One request, taken apart."""

    statement: Statement
    query_id: str
    database: str | None
    output: str
    """Format of the answer."""
    params: dict[str, str]
    settings: dict[str, str]
    session_id: str
    session_s: float
    encoding: str | None
    may_write: bool
    whole: bool
    """The client wants to know the end before it gets the first byte (`wait_end_of_query`)."""
    body_file: int | None = None
    """Descriptor of the file with an INSERT's data; None when the statement has it."""


@dataclass(slots=True)
class KeptSession:
    """An engine session that several requests share by `session_id`."""

    session: Session
    expires_ns: int
    busy: bool = False


@dataclass(slots=True)
class Activity:
    """What the process is doing, for its heartbeat and for the end when idle."""

    running: int = 0
    waiting: int = 0
    last_ns: int = 0
    requests: int = 0
    failed: int = 0
    rows_written: int = 0
    queries: set[str] = field(default_factory=set)


class Front:
    """The ASGI application; `activity` may be read at any time."""

    def __init__(self, engine: Engine, settings: WarehouseSettings, user: str, password: str, clock: Clock) -> None:
        self._engine, self._settings, self._clock = engine, settings, clock
        self._user, self._password = user.encode(), password.encode()
        self._slots = asyncio.Semaphore(settings.queries_max)
        self._threads = ThreadPoolExecutor(settings.queries_max + 2, thread_name_prefix="query")
        self._sessions: dict[str, KeptSession] = {}
        self._sessions_free = threading.Condition()
        self._performing = 0
        self._log = get_logger("warehouse")
        self._timezone, self._version = "UTC", ""
        self.activity = Activity(last_ns=clock.monotonic_ns())
        self._bodies = Bodies(settings)
        self.queue_bound = Bound("queue", settings.queue_max, "requests", "warehouse.queue_max")
        self.running_bound = Bound("running", settings.queries_max, "requests", "warehouse.queries_max")
        self.session_bound = Bound("sessions", settings.sessions_max, "sessions", "warehouse.sessions_max")
        self.connection_bound = Bound("requests", settings.connections_max, "requests", "warehouse.connections_max")
        self.bounds = (self._bodies.bound, self.queue_bound, self.running_bound, self.session_bound, self.connection_bound)

    def application(self, on_start: Callable[[], None], on_stop: Callable[[], None]) -> Starlette:
        """The Starlette application; the two calls run when it accepts requests, and when the last one is done."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            facts = await self._in_thread(self._ask_engine)
            self._version, self._timezone = facts
            on_start()
            yield
            await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
            for kept in self._sessions.values():
                kept.session.close()
            on_stop()

        routes = [
            Route("/", endpoint=_Endpoint(self._handle)),
            Route("/ping", endpoint=_Endpoint(self._ping)),
            Route("/replicas_status", endpoint=_Endpoint(self._ping)),
            Route("/running", endpoint=_Endpoint(self._running)),
        ]
        return Starlette(routes=routes, lifespan=lifespan)

    def _ask_engine(self) -> tuple[str, str]:
        session = self._engine.session()
        try:
            version, timezone = session.query(b"SELECT version(), timezone()", "TSV", {}).body.decode().split()
        finally:
            session.close()
        return version, timezone

    async def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        work = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # a thread cannot be stopped, and its session must not be used twice at once
            await asyncio.wait([work])
            raise

    async def _ping(self, _: Request, __: Receive, send: Send) -> None:
        self.activity.last_ns = self._clock.monotonic_ns()
        await send_all(send, 200, {"Content-Type": "text/html; charset=UTF-8"}, b"Ok.\n")

    async def _running(self, request: Request, _: Receive, send: Send) -> None:
        """Ids of all requests that may still do something: being received, waiting, running. (Ours, not ClickHouse's.)"""
        try:
            self._authenticate(request)
        except QueryFailed as error:
            await Sender(send).fail(error, {}, self._version)
            return
        self.activity.last_ns = self._clock.monotonic_ns()
        await send_all(send, 200, {"Content-Type": "text/plain"}, "".join(f"{name}\n" for name in self.activity.queries).encode())

    async def _handle(self, request: Request, receive: Receive, send: Send) -> None:
        if request.method in {"GET", "HEAD"} and not request.query_params and "content-length" not in request.headers:
            # as the server answers a browser or a health check that asks nothing
            await self._ping(request, receive, send)
            return
        self.activity.requests += 1
        self.activity.running += 1
        self.connection_bound.see(self.activity.running)
        query_id = request.query_params.get("query_id") or new_query_id()
        sender = Sender(send)
        held = Held(self._bodies)
        known = False
        try:
            self._authenticate(request)
            self._claim(query_id)
            known = True
            with file_in_memory() if _is_plain_insert(request) else nullcontext() as file:
                body = await self._bodies.read(request, held, file)
                ask = await self._in_thread(self._take_apart, request, body, query_id, held)
                del body
                if file is not None:
                    file.flush()
                    ask.body_file = file.fileno()
                await self._admit(ask, receive, sender)
        except QueryFailed as error:
            self.activity.failed += 1
            await sender.fail(error, self._headers(query_id), self._version)
        except ClientDisconnect:
            # gone before its statement began: nothing was done
            self._log.info("client_gone", query_id=query_id)
        finally:
            if known:
                self.activity.queries.discard(query_id)
            held.release()
            self.activity.running -= 1
            self.activity.last_ns = self._clock.monotonic_ns()

    def _claim(self, query_id: str) -> None:
        if query_id in self.activity.queries:
            raise QueryFailed(216, f"Query with id = {query_id} is already running", name="QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING")
        self.activity.queries.add(query_id)

    def _authenticate(self, request: Request) -> None:
        headers, params = request.headers, request.query_params
        user, password = headers.get("X-ClickHouse-User"), headers.get("X-ClickHouse-Key", "")
        basic = headers.get("Authorization", "")
        if user is None and basic[:6].lower() == "basic ":
            try:
                user, _, password = b64decode(basic[6:], validate=True).decode().partition(":")
            except ValueError:
                user = ""
        if user is None:
            user, password = params.get("user"), params.get("password", "")
        if user is None:
            raise QueryFailed(194, "Give a user and a password (Basic, X-ClickHouse-User/Key, or in the URL)", name="REQUIRED_PASSWORD")
        same_user = hmac.compare_digest(user.encode(), self._user)
        if not (hmac.compare_digest(password.encode(), self._password) and same_user):
            detail = f"{user}: Authentication failed: password is incorrect, or there is no user with such name."
            raise QueryFailed(516, detail, name="AUTHENTICATION_FAILED")

    def _take_apart(self, request: Request, body: bytes, query_id: str, held: Held) -> Ask:
        url = dict(request.query_params)
        headers = request.headers
        limit = self._settings.body_bytes_max
        body = decode_body(body, headers.get("content-encoding", "").lower(), limit)
        if url.get("decompress") == "1":
            body = decode_blocks(body, limit)
        held.at_least(len(body))
        if url.get("compress") == "1":
            raise QueryFailed(48, "compress=1 is not supported: use Accept-Encoding with enable_http_compression=1", name="NOT_IMPLEMENTED")
        if headers.get("content-type", "").startswith("multipart/form-data"):
            url.update(_form_fields(headers["content-type"], body))
            body = b""
        query = url.get("query", "").encode()
        statement = parse_statement(query + b"\n" + body if query and body else query or body)
        settings = {name: value for name, value in url.items() if name not in TRANSPORT and not name.startswith("param_")}
        output = statement.format if statement.data is None else None
        encoding = choose_encoding(headers.get("accept-encoding", "")) if url.get("enable_http_compression") == "1" else None
        return Ask(
            statement=statement, query_id=query_id, database=url.get("database") or headers.get("X-ClickHouse-Database"),
            output=output or url.get("default_format") or headers.get("X-ClickHouse-Format") or "TabSeparated",
            params={name[6:]: value for name, value in url.items() if name.startswith("param_")}, settings=settings,
            session_id=url.get("session_id", ""), session_s=_seconds(url.get("session_timeout", ""), SESSION_S),
            encoding=encoding, may_write=request.method == "POST",
            whole=url.get("wait_end_of_query") == "1",
        )  # fmt: skip

    async def _admit(self, ask: Ask, receive: Receive, sender: Sender) -> None:
        watch = asyncio.ensure_future(receive())
        watch.add_done_callback(lambda done: self._on_disconnect(ask, sender, done))
        try:
            if ask.statement.verb == "KILL":
                # must work when everything else is stuck
                await self._perform(ask, watch, sender)
                return
            if self.activity.waiting >= self._settings.queue_max:
                self.queue_bound.hit()
                raise QueryFailed(202, "Too many simultaneous queries; try again", name="TOO_MANY_SIMULTANEOUS_QUERIES")
            self.activity.waiting += 1
            self.queue_bound.see(self.activity.waiting)
            try:
                await self._slots.acquire()
            finally:
                self.activity.waiting -= 1
            self._performing += 1
            self.running_bound.see(self._performing)
            try:
                await self._perform(ask, watch, sender)
            finally:
                self._performing -= 1
                self._slots.release()
        finally:
            watch.cancel()

    async def _perform(self, ask: Ask, watch: "asyncio.Future[Message]", sender: Sender) -> None:
        if watch.done():
            # An abandoned INSERT must not run late: its sender may have asked already how far it got.
            raise ClientDisconnect
        session = await self._in_thread(self._take_session, ask)
        limit = self._settings.query_s_max
        guard = asyncio.get_running_loop().call_later(limit + 2, self._threads.submit, self._engine.kill, ask.query_id)
        try:
            await self._in_thread(session.prepare, ask.query_id, ask.database, ask.settings, self._answer_bytes_max(ask))
            if not ask.may_write and not await self._in_thread(session.is_reading, ask.statement.sql):
                detail = "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly; use POST."
                raise QueryFailed(164, detail, name="READONLY")
            async with asyncio.timeout(limit + 5):
                await self._answer(ask, session, sender)
        except TimeoutError:
            raise QueryFailed(159, "Timeout exceeded: the answer was not taken in time", name="TIMEOUT_EXCEEDED") from None
        finally:
            guard.cancel()
            await asyncio.shield(self._in_thread(self._leave_session, ask, session))

    def _answer_bytes_max(self, ask: Ask) -> int | None:
        """Limit of an answer that is made whole in memory; None for those that are sent while they are made."""
        whole = ask.statement.data is None and not can_stream(ask.output)
        return self._settings.answer_bytes_max if whole else None

    async def _answer(self, ask: Ask, session: Session, sender: Sender) -> None:
        statement = ask.statement
        headers = self._headers(ask.query_id)
        if statement.data is not None:
            answer = await self._in_thread(
                session.insert, statement.sql, statement.format, statement.data if ask.body_file is None else ask.body_file, ask.params
            )
            self.activity.rows_written += answer.written_rows
            await sender.all(headers | {"X-ClickHouse-Summary": summary(answer)}, answer.body, None)
            return
        if statement.streams:
            headers |= {"X-ClickHouse-Format": ask.output, "Content-Type": content_type(ask.output)}
            if can_stream(ask.output):
                await self._stream(ask, session, headers, sender)
                return
        answer = await self._in_thread(session.query, statement.sql, ask.output, ask.params)
        self.activity.rows_written += answer.written_rows
        await sender.all(headers | {"X-ClickHouse-Summary": summary(answer)}, answer.body, ask.encoding)

    async def _stream(self, ask: Ask, session: Session, headers: dict[str, str], sender: Sender) -> None:
        pieces = session.stream(ask.statement.sql, ask.output, ask.params)
        encoder = make_encoder(ask.encoding)
        ready = SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - closed below
        try:
            size, more = 0, True
            while more and (ask.whole or size < FIRST_BYTES):
                more, piece = await self._in_thread(_next_piece, pieces, encoder)
                await self._in_thread(ready.write, piece)
                size += len(piece)
                if size > self._settings.spool_bytes_max:
                    detail = f"The answer is larger than {self._settings.spool_bytes_max} bytes; leave wait_end_of_query out"
                    raise QueryFailed(396, detail, name="TOO_MANY_ROWS_OR_BYTES")
            tag = secrets.token_hex(8)
            extra = {"X-ClickHouse-Summary": summary(Answer(b"")), "X-ClickHouse-Exception-Tag": tag}
            await sender.start(200, headers | extra | encoding_header(ask.encoding), tag, encoder)
            ready.seek(0)
            while piece := await self._in_thread(ready.read, FIRST_BYTES):
                await sender.more(piece)
            while more:
                more, piece = await self._in_thread(_next_piece, pieces, encoder)
                await sender.more(piece)
            await sender.end()
        finally:
            ready.close()
            await asyncio.shield(self._in_thread(_close, pieces))

    def _on_disconnect(self, ask: Ask, sender: Sender, done: "asyncio.Future[Message]") -> None:
        # An INSERT runs to its end: the client will ask how far it got.
        if not done.cancelled() and not sender.finished and ask.statement.streams:
            self._threads.submit(self._engine.kill, ask.query_id)

    def _take_session(self, ask: Ask) -> Session:
        if not ask.session_id:
            return self._engine.session()
        now = self._clock.monotonic_ns()
        with self._sessions_free:
            for name in [name for name, kept in self._sessions.items() if not kept.busy and kept.expires_ns < now]:
                self._sessions.pop(name).session.close()
            kept = self._sessions.get(ask.session_id)
            if kept is None:
                if len(self._sessions) >= self._settings.sessions_max:
                    self.session_bound.hit()
                    raise QueryFailed(202, "Too many sessions", name="TOO_MANY_SIMULTANEOUS_QUERIES")
                kept = self._sessions[ask.session_id] = KeptSession(self._engine.session(), 0)
            self.session_bound.see(len(self._sessions))
            # The last request's answer reaches the client a moment before its session is free.
            if not self._sessions_free.wait_for(lambda: not kept.busy, SESSION_WAIT_S):
                raise QueryFailed(373, f"Session {ask.session_id} is locked by a concurrent client", name="SESSION_IS_LOCKED")
            kept.busy = True
        return kept.session

    def _leave_session(self, ask: Ask, session: Session) -> None:
        kept = self._sessions.get(ask.session_id) if ask.session_id else None
        if kept is None:
            session.close()
            return
        session.restore()
        with self._sessions_free:
            kept.expires_ns = self._clock.monotonic_ns() + int(ask.session_s * 1e9)
            kept.busy = False
            self._sessions_free.notify_all()

    def _headers(self, query_id: str) -> dict[str, str]:
        return {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": self._timezone,
            "X-ClickHouse-Server-Display-Name": "l2-warehouse",
            "Content-Type": "text/plain; charset=UTF-8",
        }


class _Endpoint:
    """Hands a Starlette route's raw ASGI call to a method."""

    def __init__(self, handle: Callable[[Request, Receive, Send], Any]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handle(Request(scope, receive), receive, send)


def _is_plain_insert(request: Request) -> bool:
    """The body is nothing but an INSERT's data, as it is: it can go into the engine's file as it arrives, without a copy of its own."""
    kind, packed = request.headers.get("content-type", ""), request.headers.get("content-encoding", "").lower()
    if packed not in {"", "identity"} or request.query_params.get("decompress") == "1" or kind.startswith("multipart/form-data"):
        return False
    return takes_body(request.query_params.get("query", "").encode())


def _next_piece(pieces: Iterator[bytes], encoder: Encoder) -> tuple[bool, bytes]:
    """(more to come, compressed bytes)."""
    piece = next(pieces, None)
    return (False, encoder.end()) if piece is None else (True, encoder.add(piece))


def _close(pieces: Any) -> None:
    pieces.close()


def _seconds(text: str, default: float) -> float:
    return min(float(text), 3600.0) if text.replace(".", "", 1).isdigit() else default


def _form_fields(kind: str, body: bytes) -> dict[str, str]:
    """Text fields of a multipart form; external tables (parts with a file name) are refused."""
    form = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    fields: dict[str, str] = {}
    for part in form.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is not None:
            raise QueryFailed(48, "External data is not supported by the embedded warehouse", name="NOT_IMPLEMENTED")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            fields[name] = payload.decode()
    return fields
