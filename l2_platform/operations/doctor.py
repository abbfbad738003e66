"""Is this machine, and are these settings, fit for recording? One finding per check, each with what to do.

`quick` is what `l2 up` asks before it starts anything; `full` is `l2 doctor`, which also asks the clock and the feed.
"""

import ctypes
import os
import resource
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

import psutil

from l2_platform.clock import Clock
from l2_platform.errors import ConfigError
from l2_platform.monitoring.symbols_file import load_symbols
from l2_platform.operations import disk
from l2_platform.operations.dagster_storage import storage_trouble
from l2_platform.operations.plan import LOOPBACK, plan_parts
from l2_platform.operations.supervisord import Supervisor, socket_path
from l2_platform.settings import Settings

PYTHON_MIN = (3, 11)
MEMORY_FAIL_BYTES = 1 << 30
MEMORY_WARN_BYTES = 3 << 30
OPEN_FILES_SPARE = 512
"""Sockets, logs and libraries of a process beside its JSONL files."""
OPEN_FILES_MIN = 1024
"""With fewer the warehouse or the recording may not start."""
CLOCK_WARN_S = 0.25
FEED_CLOCK_WARN_S = 2.0
"""The T line has whole seconds and comes once a second."""
FEED_WAIT_S = 3.0
CUST_LIMIT_FIELD = 10
"""Place of the symbol limit in an `S,CUST,…` line, counted from S = 0."""
PG_PORT, PG_PORT_USUAL = "DAGSTER_PG_PORT", "5432"
"""Port of Dagster's PostgreSQL."""
PG_NEEDED = ("DAGSTER_PG_HOST", "DAGSTER_PG_USERNAME", "DAGSTER_PG_PASSWORD", "DAGSTER_PG_DB")
PG_WAIT_S = 3
_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""


class Level(StrEnum):
    """How bad."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check."""

    name: str
    level: Level
    text: str
    advice: str = ""
    """What to do; empty when all is well."""


def quick(settings: Settings, clock: Clock) -> list[Finding]:
    """The checks that take no time and ask nobody outside."""
    return [
        check_python(),
        check_home(settings),
        check_disk(settings),
        check_memory(),
        check_open_files(settings),
        check_dagster_storage(settings),
        *check_ports(settings, clock),
    ]


def full(settings: Settings, clock: Clock) -> list[Finding]:
    """Everything; takes some seconds when a feed has to be asked."""
    feed = feed_lines(settings)
    return [
        *quick(settings, clock),
        Finding("settings", Level.OK, "all known and in range"),
        check_symbols(settings, feed),
        check_system_clock(),
        check_feed_clock(settings, clock, feed),
    ]


def check_dagster_storage(settings: Settings) -> Finding:
    """Dagster's runs and events have a place: PostgreSQL answers, when it is asked for."""
    made = settings.dagster.enabled and (settings.dagster_home / "history").exists()
    if made and (trouble := storage_trouble(settings)):
        return Finding("dagster storage", Level.WARN, trouble, "recording does not need it")
    if not settings.dagster.enabled or settings.dagster.storage == "sqlite":
        return Finding("dagster storage", Level.OK, f"SQLite in {settings.dagster_home}" if settings.dagster.enabled else "off")
    missing = [name for name in PG_NEEDED if not os.environ.get(name)]
    if missing:
        advice = "set them, or L2_DAGSTER__STORAGE=sqlite"
        return Finding("dagster storage", Level.FAIL, f"PostgreSQL is asked for, {', '.join(missing)} is not set", advice)
    import psycopg2  # type: ignore[import-untyped]  # has no type information

    host, user, password, database = (os.environ[name] for name in PG_NEEDED)
    port = os.environ.get(PG_PORT, PG_PORT_USUAL)
    where = f"PostgreSQL at {host}:{port}, database {database}"
    try:
        psycopg2.connect(
            host=host, port=port, user=user, password=password, dbname=database, connect_timeout=PG_WAIT_S
        ).close()
    except (psycopg2.Error, ValueError) as error:
        said = (str(error).strip().splitlines() or ["no answer"])[0]
        advice = "start it, make user and database, or mend DAGSTER_PG_*; L2_DAGSTER__STORAGE=sqlite needs none"
        return Finding("dagster storage", Level.FAIL, f"{where}: {said}", advice)
    return Finding("dagster storage", Level.OK, where)


def check_python() -> Finding:
    """Version of the running Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_MIN:
        return Finding("python", Level.FAIL, f"Python {version}", "install Python 3.11 or newer, then `make clean up`")
    return Finding("python", Level.OK, f"Python {version} in {sys.prefix}")


def check_home(settings: Settings) -> Finding:
    """`home` can be written, and its path is short enough for a socket."""
    try:
        socket_path(settings)
    except ConfigError as error:
        return Finding("home", Level.FAIL, error.message, "use a shorter L2_HOME")
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        return Finding("home", Level.FAIL, f"{folder} is no folder", "choose another L2_HOME")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("home", Level.FAIL, f"{folder} cannot be written", "choose another L2_HOME, or change its owner")
    return Finding("home", Level.OK, str(settings.home))


def check_disk(settings: Settings) -> Finding:
    """Free space against `disk.reserve_bytes`."""
    free, reserve = disk.free_bytes(settings.home), settings.disk.reserve_bytes
    text = f"{free / 1e9:.1f} GB free, reserve {reserve / 1e9:.1f} GB"
    if free < reserve:
        return Finding("disk", Level.FAIL, text, "free some space, move L2_HOME, or lower L2_DISK__RESERVE_BYTES")
    if free < 2 * reserve:
        return Finding("disk", Level.WARN, text, "below the reserve JSONL stops: free some space soon")
    return Finding("disk", Level.OK, text)


def check_memory() -> Finding:
    """Memory that is available now."""
    free = psutil.virtual_memory().available
    text = f"{free / 1e9:.1f} GB available"
    if free < MEMORY_FAIL_BYTES:
        return Finding("memory", Level.FAIL, text, "end other programs: at least 1 GB is needed")
    if free < MEMORY_WARN_BYTES:
        return Finding("memory", Level.WARN, text, "3 GB are comfortable; L2_DAGSTER__ENABLED=false saves 0.4 GB")
    return Finding("memory", Level.OK, text)


def check_open_files(settings: Settings) -> Finding:
    """RLIMIT_NOFILE: the soft limit is raised by the process manager, the hard limit binds."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = settings.jsonl.open_files_max + OPEN_FILES_SPARE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        advice = f"raise it (`ulimit -Hn {wanted}`, limits.conf): with more files than that each append opens and closes one"
        level = Level.FAIL if hard < OPEN_FILES_MIN else Level.WARN
        return Finding("open files", level, f"hard limit {hard}, wanted {wanted} for L2_JSONL__OPEN_FILES_MAX", advice)
    return Finding("open files", Level.OK, f"hard limit {'none' if hard == resource.RLIM_INFINITY else hard}")


def check_ports(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Every port that a part wants to listen on is free, or is held by this very instance."""
    if Supervisor(settings, clock).answers():
        yield Finding("ports", Level.OK, "in use by this running instance")
        return
    wanted = [
        (port, part.name) for part in plan_parts(settings) for port in part.ports if part.name != "dagster-daemon"
    ]
    busy = [f"port {port} ({name}) is taken{owner_of(port)}" for port, name in wanted if not port_is_free(port)]
    if busy:
        text = ", ".join(busy)
        yield Finding("ports", Level.FAIL, text, "end what holds them, or move all ports with L2_PORTS__BASE (e.g. 20000)")
    if not busy:
        yield Finding("ports", Level.OK, f"{', '.join(str(port) for port, _ in wanted)} are free")


def port_is_free(port: int) -> bool:
    """A server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def owner_of(port: int) -> str:
    """` by NAME (pid N)` where the owner of a listening port is visible to us, else empty."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid is None:
                    break
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return ""
    return " by another user's program"


def check_system_clock() -> Finding:
    """Is the machine's clock kept by NTP, and how far may it be off? Asked of the kernel (adjtimex)."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        # struct timex on 64-bit Linux: modes, offset, freq, maxerror, esterror, status, … (208 bytes in all)
        record = (ctypes.c_long * 32)()
        state = libc.adjtimex(ctypes.byref(record))
    except (OSError, AttributeError):
        state = -1
    advice = "switch on time synchronisation (chrony, systemd-timesyncd, or the hypervisor's)"
    if state < 0:
        return Finding("clock", Level.WARN, "offset unknown: the kernel does not say", advice)
    error_s = record[3] / 1e6
    if state == _TIME_ERROR:
        return Finding("clock", Level.WARN, "the kernel says: not synchronised, offset unknown", advice)
    if error_s > CLOCK_WARN_S:
        return Finding("clock", Level.WARN, f"synchronised, but may be off by {error_s:.2f} s", advice)
    return Finding("clock", Level.OK, f"synchronised, at most {error_s * 1000:.0f} ms off")


def feed_lines(settings: Settings) -> list[str] | None:
    """What the feed's Level 1 port says in the first seconds of a connection (CUST, T, …); None when it cannot be reached."""
    host = LOOPBACK if settings.feed.kind == "simulated" else settings.feed.host
    data = b""
    try:
        with socket.create_connection((host, settings.ports.level1), timeout=FEED_WAIT_S) as link:
            link.settimeout(FEED_WAIT_S)
            link.sendall(f"S,SET PROTOCOL,{settings.feed.protocol}\r\n".encode("ascii"))
            while len(data) < 65_536 and not (b"\nT," in b"\n" + data and b"S,CUST," in data):
                received = link.recv(4096)
                if not received:
                    break
                data += received
    except OSError:
        if not data:
            return None
    return data.decode("latin-1").splitlines()


def check_symbols(settings: Settings, feed: list[str] | None) -> Finding:
    """The symbols file against `symbols.limit` and the account's own limit (CUST line)."""
    if not settings.symbols_file.is_file():
        if settings.symbols.file is None and settings.feed.kind == "simulated":
            return Finding("symbols", Level.OK, f"the demo's {settings.simulator.symbols} (file is made by `l2 up`)")
        return Finding(
            "symbols", Level.FAIL, f"{settings.symbols_file} does not exist", "write it, or set L2_SYMBOLS__FILE"
        )
    try:
        limit, name_bytes = settings.symbols.limit, settings.symbols.name_bytes_max
        count = len(load_symbols(settings.symbols_file, limit=limit, name_bytes_max=name_bytes).symbols)
    except ConfigError as error:
        return Finding("symbols", Level.FAIL, error.message, "edit the symbols file")
    allowed = account_limit(feed or [])
    if allowed is None:
        return Finding("symbols", Level.OK, f"{count} (the account's limit is unknown: the feed did not say)")
    if count > allowed:
        advice = "disable groups in the symbols file, or raise the account's limit"
        return Finding("symbols", Level.FAIL, f"{count}, the account allows {allowed}", advice)
    return Finding("symbols", Level.OK, f"{count} of {allowed} that the account allows")


def account_limit(lines: list[str]) -> int | None:
    """Most symbols of the account, from the `S,CUST,` line; None when there is none."""
    for line in lines:
        fields = line.strip().split(",")
        # S,CUST,service type,ip,port,token,version,,exchanges,,most symbols,flags,…
        if fields[:2] == ["S", "CUST"] and len(fields) > CUST_LIMIT_FIELD and fields[CUST_LIMIT_FIELD].isdigit():
            return int(fields[CUST_LIMIT_FIELD])
    return None


def check_feed_clock(settings: Settings, clock: Clock, feed: list[str] | None) -> Finding:
    """Our clock against the feed's `T` line (New York time, whole seconds)."""
    stamps = [line.split(",")[1] for line in feed or [] if line.startswith("T,")]
    if not stamps:
        where = f"{settings.feed.host}:{settings.ports.level1}"
        level = Level.OK if settings.feed.kind == "simulated" and feed is None else Level.WARN
        advice = "" if level is Level.OK else f"is IQConnect up and logged in at {where}?"
        return Finding("feed clock", level, "unknown: the feed does not answer", advice)
    try:
        feed_time = datetime.strptime(stamps[-1].strip(), "%Y%m%d %H:%M:%S").replace(
            tzinfo=ZoneInfo("America/New_York")
        )
    except ValueError:
        return Finding("feed clock", Level.WARN, f"the feed said T,{stamps[-1]}", "check feed.protocol")
    offset_s = (datetime.fromtimestamp(clock.now_ns() / 1e9, UTC) - feed_time).total_seconds()
    text = f"{offset_s:+.1f} s against the feed's T line"
    if abs(offset_s) > FEED_CLOCK_WARN_S:
        return Finding("feed clock", Level.WARN, text, "synchronise this machine's clock; rolls wait while it is off")
    return Finding("feed clock", Level.OK, text)
