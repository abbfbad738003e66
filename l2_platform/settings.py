"""The whole configuration tree: one frozen pydantic-settings object, built once at the edge of a process.

Variables start with `L2_`, sections nest with `__` (`L2_JSONL__LEVELS=5`); `.env` in the working directory is read too; a secret
`X` may come from the file that `X_FILE` names. Every class receives *its* section. Units are in the names. What does not belong
here: reading the environment anywhere else.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from l2_platform.errors import ConfigError

ENV_PREFIX = "L2_"
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[int, Field(gt=0, le=1 << 50)]


class Section(BaseModel):
    """A part of the tree: frozen, and a name that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class PortSettings(Section):
    """TCP ports, all on 127.0.0.1. One setting moves them all, so that two instances can run side by side."""

    base: Port = 0
    """0: the usual ports (IQConnect 5009/9100/9200/9300, warehouse 8123, Dagster 3000). Otherwise base + a fixed number (0-40)."""

    @field_validator("base")
    @classmethod
    def _room_above(cls, base: int) -> int:
        if base and not 1024 <= base <= 65_000:
            msg = "use 0, or a number from 1024 to 65000 with 40 free ports above it"
            raise ValueError(msg)
        return base

    def _port(self, usual: int, offset: int) -> int:
        return self.base + offset if self.base else usual

    @property
    def dagster(self) -> int:
        """Dagster's web UI (3000, or base + 0)."""
        return self._port(3000, 0)

    @property
    def code_server(self) -> int:
        """Dagster's code location, gRPC (4266, or base + 1)."""
        return self._port(4266, 1)

    @property
    def warehouse(self) -> int:
        """The warehouse's ClickHouse HTTP interface (8123, or base + 2)."""
        return self._port(8123, 2)

    @property
    def level1(self) -> int:
        """IQConnect Level 1 (5009, or base + 9)."""
        return self._port(5009, 9)

    @property
    def lookup(self) -> int:
        """IQConnect lookup (9100, or base + 10)."""
        return self._port(9100, 10)

    @property
    def level2(self) -> int:
        """IQConnect Level 2 (9200, or base + 20)."""
        return self._port(9200, 20)

    @property
    def admin(self) -> int:
        """IQConnect admin (9300, or base + 30)."""
        return self._port(9300, 30)

    @property
    def simulator_control(self) -> int:
        """Control commands of the simulated market (9399, or base + 39)."""
        return self._port(9399, 39)


class FeedSettings(Section):
    """The market data feed and how long its silences may be."""

    kind: Literal["simulated", "iqfeed"] = "simulated"
    """`simulated`: the built-in IQConnect look-alike; `iqfeed`: a real IQConnect at `host`."""
    host: str = Field(default="127.0.0.1", min_length=1, max_length=253)
    """Where IQConnect listens."""
    protocol: Literal["6.2", "6.1", "6.0", "5.2"] = "6.2"
    """IQFeed protocol asked for on every socket."""
    client_name: str = Field(default="l2_platform", pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    """Shown by IQConnect in its client statistics."""
    depth_watch: Literal["WOR", "WPL", "both"] = "WOR"
    """Level 2 watch command: WOR orders or venue rows, WPL price levels, both for names that offer both."""
    depth_levels_max: int = Field(default=0, ge=0, le=40)
    """MaxPriceLevels of WPL; 0 leaves it out."""
    level1_watch: Literal["w", "t"] = "w"
    """Level 1 watch command: w quotes and trades, t trades only."""
    level1_regional: bool = False
    """Ask for per-exchange quotes (`R` lines) too."""
    level1_fields: Annotated[tuple[str, ...], NoDecode] = (
        "Most Recent Trade", "Most Recent Trade Size", "Most Recent Trade Time", "Most Recent Trade Date",
        "Most Recent Trade Market Center", "Most Recent Trade Conditions", "Most Recent Trade Aggressor",
        "Most Recent Trade Day Code", "TickID", "Bid", "Bid Size", "Bid Time", "Bid Market Center", "Ask", "Ask Size",
        "Ask Time", "Ask Market Center", "Total Volume", "Number of Trades Today", "Delay", "Message Contents",
    )  # fmt: skip
    """Fields for SELECT UPDATE FIELDS, without Symbol (always first); comma separated in the environment."""
    name_symbol_in_selection: Literal["auto", "never", "always"] = "auto"
    """Disputed between IQConnect builds: auto asks without Symbol and, after `field_ack_s` without an answer, with it."""
    field_ack_s: Seconds = 2.0
    """Wait for the acknowledgement of SELECT UPDATE FIELDS, s."""
    tick_id_rule: Literal["per_market_center", "per_symbol", "none"] = "per_market_center"
    """How TickID counts; used by completeness tests only, never to drop a row."""
    connect_timeout_s: Seconds = 5.0
    """TCP connect and handshake, s."""
    suspect_s: Seconds = 3.0
    """No byte for this long (three missed T lines): the link is suspect and a provisional gap opens, s."""
    silence_s: Seconds = 10.0
    """No byte for this long: reconnect, s."""
    reconnect_first_s: float = Field(default=0.25, gt=0, le=1.0)
    """First retry after a disconnect, s; doubles with jitter."""
    reconnect_cap_s: Seconds = 30.0
    """Longest wait between two attempts, s."""
    unauthorized_retry_s: float = Field(default=30.0, ge=30.0, le=3600)
    """Wait after a refused login, s."""
    rewatch_s: float = Field(default=900.0, ge=0, le=86_400)
    """Re-send every watch this often (idempotent; vendors' watches die silently), s; 0 = never."""
    rollout_steps: Annotated[tuple[int, ...], NoDecode] = (10, 100, 1000)
    """First watches after a start go out in steps of this many symbols in all; comma separated."""
    rollout_pause_s: float = Field(default=0.2, ge=0, le=60)
    """Pause between two rollout steps, s."""
    watch_batch_max: int = Field(default=500, ge=1, le=10_000)
    """Watch commands in one send."""
    events_max: int = Field(default=100_000, ge=1000, le=10_000_000)
    """System lines of one read that wait to be acted on; the newest stay."""
    product_id: str = ""
    """IQFeed product id, for the admin port's REGISTER CLIENT APP; empty = IQConnect is already logged in."""
    login: SecretStr = SecretStr("")
    """IQFeed login id."""
    password: SecretStr = SecretStr("")
    """IQFeed password."""

    @field_validator("level1_fields", "rollout_steps", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _silence_after_suspect(self) -> "FeedSettings":
        if self.silence_s <= self.suspect_s:
            msg = f"feed.silence_s ({self.silence_s}) must be longer than feed.suspect_s ({self.suspect_s})"
            raise ValueError(msg)
        return self


class SymbolSettings(Section):
    """Which instruments are recorded."""

    file: Path | None = None
    """The symbols file (TOML, groups); None = `symbols.toml` under `home`, made by `l2 up` on the first start."""
    limit: int = Field(default=10_000, ge=1, le=100_000)
    """Most symbols on one stream; the account's own limit, read from the feed, counts too."""
    name_bytes_max: int = Field(default=30, ge=1, le=64)
    """Longest symbol name, bytes."""
    versions_kept: int = Field(default=200, ge=1, le=10_000)
    """Versions of the symbols file that are kept beside it until asset `universe` has recorded them."""
    names_max: int = Field(default=50_000, ge=100, le=1_000_000)
    """Most different names in the lines of one stream and session date (an import: of one file), so that corrupt lines cannot make
    symbols without end."""


class SessionSettings(Section):
    """Which calendar gives the session date."""

    calendar: str = Field(default="auto", pattern=r"^[A-Za-z0-9_]{1,20}$")
    """`auto`: always_open for the simulated market, XNYS for IQFeed; else a name of exchange-calendars."""
    roll_margin_s: float = Field(default=900.0, ge=0, le=7200)
    """A session ends this long after its last close (20:00 New York for US equities), s."""
    clock_skew_max_s: float = Field(default=60.0, gt=0, le=3600)
    """When our clock and the feed's `T` line differ by more, a roll waits and the stream says so, s."""
    start_margin_s: float = Field(default=1800.0, ge=0, le=14_400)
    """Collectors connect this long before a session's first trading (04:00 New York for US equities), s."""
    stop_margin_s: float = Field(default=600.0, ge=0, le=7200)
    """They leave the feed this long after its last close; not after the session's end, s."""
    maintenance: str = Field(default="", pattern=r"^(|([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)$")
    """Each day's time without recording, New York (`23:30-00:30`); empty: none. For calendars that trade through the night."""


class JournalSettings(Section):
    """The journal: the raw bytes of every stream, the only source of truth."""

    line_bytes_max: int = Field(default=65_536, ge=1024, le=1 << 20)
    """A longer line is cut here and counts as one seq, bytes."""
    recv_bytes: int = Field(default=262_144, ge=4096, le=1 << 24)
    """Most bytes of one socket read, and so of one frame, bytes."""
    read_sleep_ms: float = Field(default=1.0, ge=0, le=100)
    """Sleep after each read so that reads gather lines, ms."""
    fsync_interval_ms: float = Field(default=10.0, ge=0, le=1000)
    """Longest time between the end of one group fsync and the start of the next while bytes wait, ms."""
    unsynced_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=4 << 30)
    """Written bytes that are kept in memory until they are durable; a disk that is behind by more is waited for, bytes."""
    segment_bytes_max: int = Field(default=256 << 20, ge=1 << 16, le=8 << 30)
    """A segment is closed at this size, bytes."""
    segment_s_max: Seconds = 3600.0
    """A segment is closed at this age, s."""
    block_bytes: int = Field(default=1 << 20, ge=1 << 12, le=16 << 20)
    """Uncompressed size of one independent block of a sealed segment, bytes."""
    compression_level: int = Field(default=8, ge=1, le=19)
    """zstd level of sealed segments."""
    seal_s: Seconds = 10.0
    """How often the sealer looks for closed segments, s."""


class DeliverySettings(Section):
    """From the journal to a sink."""

    poll_ms: float = Field(default=3.0, gt=0, le=1000)
    """Wait between two looks at the durable position while much comes, ms."""
    idle_poll_ms: float = Field(default=20.0, gt=0, le=1000)
    """The same while little comes: the wait doubles up to here, ms."""
    step_bytes: int = Field(default=4096, ge=1, le=64 << 20)
    """Journal bytes that are read at once; fewer wait for `flush_ms`, bytes."""
    flush_ms: float = Field(default=400.0, ge=0, le=10_000)
    """Rows gather at most this long before they go to the sink, ms."""
    flush_ms_min: float = Field(default=40.0, ge=0, le=10_000)
    """Least time between the beginnings of two writes of a stream that are made before `flush_ms`, ms."""
    flush_lines: int = Field(default=500, ge=1, le=500_000)
    """Once so many lines are gathered they go before `flush_ms`."""
    read_bytes_max: int = Field(default=8 << 20, ge=1 << 16, le=256 << 20)
    """Most journal bytes decoded in one step, bytes."""
    read_lines_max: int = Field(default=250_000, ge=1000, le=10_000_000)
    """A step reads no further piece of journal (1 MiB) once it has this many lines: short lines become many rows."""
    raw_bytes_max: int = Field(default=65_536, ge=256, le=1 << 20)
    """Longest text kept in `feed_events.raw`; the journal has all of it, bytes."""
    batch_rows_max: int = Field(default=200_000, ge=1000, le=500_000)
    """Most rows of one table in one insert."""
    checkpoint_s: Seconds = 30.0
    """Time between two checkpoints, s: what a restart replays at most, with `checkpoint_lines`."""
    checkpoint_lines: int = Field(default=2_000_000, ge=1, le=1_000_000_000)
    """After so many lines a checkpoint is due before `checkpoint_s` is over."""
    checkpoints_kept: int = Field(default=3, ge=1, le=100)
    """Checkpoints kept per sink and stream."""
    retry_first_s: Seconds = 0.2
    """First wait after a failed write, s; doubles with jitter."""
    retry_cap_s: Seconds = 10.0
    """Longest wait between two attempts, s."""
    breaker_failures: int = Field(default=5, ge=1, le=1000)
    """After this many failed writes in a row the sink counts as down; it is tried on, with waits up to `retry_cap_s`."""
    discover_s: Seconds = 1.0
    """How often new streams and dates are looked for, s."""
    quarantine_rows_max: int = Field(default=1000, ge=1, le=100_000)
    """Most refused rows of one sink and session date that are put aside; at the next one the stream stops and says so."""
    lag_lines_max: int = Field(default=100_000, ge=0, le=1 << 40)
    """A table of a running date counts as delivered while it is at most this many lines behind the journal."""


class JsonlSettings(Section):
    """One file per symbol, kind and day."""

    enabled: bool = True
    """Write JSONL files."""
    levels: int = Field(default=10, ge=1, le=50)
    """Levels per side of an L2 record, and of book_snapshots."""
    l2_interval_ms: int = Field(default=100, ge=0, le=60_000)
    """At most one L2 record per symbol in this time (journal time), and the same for book_snapshots; 0 = every change, ms."""
    open_files_max: int = Field(default=16_384, ge=16, le=100_000)
    """File handles kept open; fewer where the process may not have as many. More files than that are opened again and again."""
    sync_s: Seconds = 1.0
    """Time between two syncs, after which the position is written, s."""


class ClickHouseSettings(Section):
    """Where the tables are: the embedded warehouse, or a ClickHouse server."""

    embedded: bool = True
    """True: `l2 warehouse` (chDB) under `home`; False: the server at host and port."""
    enabled: bool = True
    """Deliver to ClickHouse."""
    host: str = Field(default="127.0.0.1", min_length=1, max_length=253)
    """Server's address; the embedded warehouse is always on 127.0.0.1."""
    port: Port = 0
    """HTTP port; 0 = the warehouse port of `ports`."""
    database: str = Field(default="l2", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")
    """Database name."""
    user: str = Field(default="l2", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """User name."""
    password: SecretStr = SecretStr("")
    """Password; the embedded warehouse makes its own when empty (`run/warehouse.password`, mode 600)."""
    secure: bool = False
    """HTTPS to the server."""
    timeout_s: Seconds = 60.0
    """One request, s."""
    settle_s: Seconds = 10.0
    """How long an earlier insert may take to end after it was told to, s."""


class WarehouseSettings(Section):
    """The embedded ClickHouse engine."""

    idle_exit_s: Seconds = 10.0
    """A warehouse started by a command ends this long after its last request, s."""
    queries_max: int = Field(default=8, ge=1, le=128)
    """Requests worked on at once; more wait."""
    queue_max: int = Field(default=256, ge=1, le=10_000)
    """Requests waiting; more are refused with 503 and ClickHouse code 202."""
    query_s_max: Seconds = 600.0
    """A query that runs longer is cancelled, s."""
    memory_bytes_max: Bytes = 6 << 30
    """Memory of the engine, bytes."""
    body_bytes_max: Bytes = 1 << 30
    """Largest request body, and all bodies at hand together (unpacked), bytes."""
    body_s_max: Seconds = 120.0
    """A request body must arrive within this, s."""
    answer_bytes_max: Bytes = 1 << 30
    """Largest answer in a format that must be whole before it is sent (JSON, Parquet, Pretty …), bytes."""
    spool_bytes_max: Bytes = 8 << 30
    """Largest answer that is kept until its end because the client asked so (`wait_end_of_query`), on disk above 32 MiB, bytes."""
    connections_max: int = Field(default=512, ge=8, le=10_000)
    """Open connections; requests on further ones are refused with 503."""
    sessions_max: int = Field(default=1000, ge=1, le=100_000)
    """Sessions kept by `session_id`; further ones are refused with 503 and ClickHouse code 202."""
    keep_alive_s: float = Field(default=75.0, ge=5, le=3600)
    """Idle connections are closed after this, s."""
    start_s: Seconds = 60.0
    """How long a client waits for the warehouse to start, s."""


class ImportSettings(Section):
    """Captured files and history replies that are imported."""

    lines_max: int = Field(default=100_000_000, ge=1000, le=2_000_000_000)
    """Most lines of one file; about 32 bytes of memory a line are needed while it is looked through."""
    file_bytes_max: Bytes = 64 << 30
    """Largest file, unpacked, bytes."""


class GapSettings(Section):
    """When something counts as missing."""

    false_alarms_per_day: float = Field(default=0.01, gt=0, le=1000)
    """Silences of single symbols that may open a day, over all symbols of a stream, although nothing is wrong (Poisson arrivals)."""
    silence_s_min: float = Field(default=1.0, ge=0.5, le=3600)
    """A symbol that is silent for less is not silent, s."""
    pauses_min: float = Field(default=20.0, ge=5, le=10_000)
    """Nothing is said of a symbol before its rate rests on so many pauses in the running window of the session."""
    warn_s: float = Field(default=1.0, ge=0, le=86_400)
    """An unexplained gap that is longer is a warning, s."""
    error_s: float = Field(default=300.0, ge=0, le=86_400)
    """An unexplained gap that is longer is an error, s."""
    halts: str = Field(default="", max_length=2000)
    """File (relative to the home folder) or http(s) address of the exchange's trading halts, comma separated or RSS; empty: those of
    the simulated market where the feed is one, else silence of halted symbols stays unexplained."""
    halts_bytes_max: int = Field(default=16 << 20, ge=1024, le=1 << 30)
    """Largest file of halts, bytes."""
    halts_timeout_s: Seconds = 10.0
    """The whole answer of the halts' address must have come within this, s."""
    halt_edge_s: float = Field(default=60.0, ge=0, le=3600)
    """A halted symbol's silence may begin so much before the halt, and end so much after trading resumes, s."""
    auction_s: float = Field(default=120.0, ge=0, le=3600)
    """Silence of a symbol so near the open or close of regular trading is its auction, s."""

    @model_validator(mode="after")
    def _errors_after_warnings(self) -> "GapSettings":
        if self.error_s < self.warn_s:
            msg = f"gaps.error_s ({self.error_s}) must not be shorter than gaps.warn_s ({self.warn_s})"
            raise ValueError(msg)
        return self


class RebuildSettings(Section):
    """Session dates that are built again from the journal, beside the recording."""

    insert_rows: int = Field(default=500_000, ge=1000, le=500_000)
    """Rows of a table that gather for one insert into a staging table."""
    insert_threads: int = Field(default=2, ge=1, le=16)
    """Inserts under way at once; as many more wait, then reading waits."""
    request_s: Seconds = 600.0
    """One statement (an insert, a swap, a content hash), s."""
    retry_s: Seconds = 60.0
    """A warehouse that is away is tried again for this long, then the rebuild ends without having changed anything, s."""
    nice: int = Field(default=10, ge=0, le=19)
    """How far the process gives way to recording and live delivery."""
    lag_s: Seconds = 2.0
    """While the live delivery to ClickHouse is behind by more, no further insert begins, s."""
    yield_s: float = Field(default=10.0, ge=0, le=600)
    """Longest wait of one insert for the live delivery, s."""
    diff_keys: int = Field(default=20, ge=0, le=1000)
    """Keys of rows that differ, named per table and kind of difference."""
    diff_rows: int = Field(default=1_000_000, ge=1000, le=50_000_000)
    """Seqs compared at a time when the content differs: bounds the memory of the comparison."""


class CloseSettings(Section):
    """The daily close of a session date."""

    wait_s: Seconds = 900.0
    """How long a close waits for the sinks to reach the journal's end, and for the sealer, together, s."""
    poll_s: float = Field(default=1.0, gt=0, le=60)
    """Time between two looks, s."""
    margin_s: float = Field(default=1800.0, ge=0, le=43_200)
    """Schedule `daily_close` runs this long after a session date ended, s."""
    due_s: Seconds = 10_800.0
    """A session date that ended longer ago and is not closed turns `platform_health` red, s."""
    again_dates: int = Field(default=5, ge=1, le=60)
    """So many of the newest ended session dates are watched: one that is not closed is closed again."""
    again_max: int = Field(default=5, ge=0, le=100)
    """How often a date is asked for again before a person has to look."""
    again_first_s: Seconds = 900.0
    """The first try follows so long after the failed run (or after `margin_s`, without one); each next one waits twice as long, s."""
    again_cap_s: Seconds = 14_400.0
    """Longest wait between two tries, s."""


class CompletenessSettings(Section):
    """The verdict on each symbol of a session date."""

    gap_s: float = Field(default=1.0, ge=0, le=3600)
    """Gaps up to this length are not counted, s."""
    gap_short_s: float = Field(default=60.0, ge=0, le=86_400)
    """They are, when those of a symbol inside the session's windows are longer than this together, s."""
    dark_minutes: int = Field(default=5, ge=0, le=1440)
    """More minutes of a session without a row of any symbol are a loss, unless gaps tell of them."""
    dark_windows: Literal["regular", "all"] = "regular"
    """In which windows minutes without any row count: regular trading, or pre-market and after-hours trading too."""
    volume_share: float = Field(default=0.0, ge=0, le=1)
    """Share of a day's volume that the prints may lack."""
    tick_sparse: float = Field(default=2.0, ge=1, le=1000)
    """A market centre's TickIDs are a counter when their range is at most so many times their number."""
    usual_days: int = Field(default=20, ge=1, le=400)
    """Judged session dates before the date that say what is usual."""
    usual_days_min: int = Field(default=5, ge=1, le=400)
    """With fewer of them nothing is unusual."""
    usual_rows_min: int = Field(default=1000, ge=1, le=1_000_000_000)
    """Hours with fewer usual rows are not judged."""
    usual_share: float = Field(default=0.25, ge=0, le=1)
    """Fewer rows in an hour than this share of the usual ones degrade a symbol."""
    suspect_s: float = Field(default=1.0, ge=0, le=86_400)
    """A book that was suspect for longer than this in all, inside the session's windows, degrades its symbol, s."""
    suspect_share: float = Field(default=0.0, ge=0, le=1)
    """So does one only if this share of the book's time was suspect, too."""
    latency_p99_ms: float = Field(default=1000.0, ge=0, le=86_400_000)
    """A greater 99th percentile of latency is told, ms."""
    latency_every: int = Field(default=10, ge=1, le=10_000)
    """Latency is measured on one in so many lines."""
    query_s: Seconds = 600.0
    """One statement, s."""


class ReconcileSettings(Section):
    """Comparison of what the stores hold of a session date with its journal."""

    chunk_seqs: int = Field(default=65_536, ge=1000, le=10_000_000)
    """Seqs compared at a time where sums differ: bounds the memory of the search for keys."""
    rows_max: int = Field(default=2_000_000, ge=1000, le=100_000_000)
    """Records of files that differ, compared by key at once; of further files only the number of rows is told."""
    keys: int = Field(default=20, ge=0, le=1000)
    """Keys of rows that differ, named per table, store and kind of difference."""
    minutes: int = Field(default=20, ge=0, le=1440)
    """Minutes that differ, named per table and store."""
    read_bytes: Bytes = 8 << 20
    """A file is read in blocks of this size; a longer line is no record."""


class QualitySettings(Section):
    """The audit of a session date: thresholds of its checks (docs/quality.md), and what it may use."""

    findings_max: int = Field(default=1000, ge=1, le=100_000)
    """Most findings of one check that are kept, the worst first; all are counted."""
    episode_s: Seconds = 300.0
    """Rows of a symbol that are flagged within this make one finding, s."""
    group_rows: int = Field(default=20_000_000, ge=1000, le=1_000_000_000)
    """Rows that one statement of a check looks at; more go in several statements, a range of symbols each: bounds the memory."""
    join_rows: int = Field(default=2_000_000, ge=1000, le=100_000_000)
    """The same for statements that hold a table's rows in memory to compare them with another's, a few hundred bytes each."""
    memory_bytes_max: Bytes = 2 << 30
    """Memory of one statement in the warehouse; from half of it on it sorts and groups on disk, bytes."""
    statement_s: Seconds = 300.0
    """Longest time of one statement, s."""
    auction_margin_s: float = Field(default=60.0, ge=0, le=3600)
    """After the open and before the close so much is left to the auctions; a market that never closes has none, s."""
    crossed_s: Seconds = 1.0
    """A book (good only) or quote that is crossed for longer is an error, s."""
    locked_s: Seconds = 60.0
    """One that is locked, bid = ask, for longer is a warning, s."""
    snapshot_hold_s: Seconds = 0.5
    """A book snapshot stands for at most this long, since the change after it may have no record (decision 2), s."""
    stale_prints: int = Field(default=20, ge=1, le=1_000_000)
    """So many regular prints outside a quote that did not change …"""
    stale_s: Seconds = 10.0
    """… over so long a time: the quote is stale, s."""
    through_spreads: float = Field(default=1.0, ge=0, le=1000)
    """A print is through the quote when it is beyond it by more than so many spreads (T4) …"""
    through_min: float = Field(default=0.01, gt=0, le=1e6)
    """… and by more than this, currency units …"""
    through_late_s: Seconds = 3600.0
    """… unless a quote of the time before fits it: a late report, s."""
    spike_rows: int = Field(default=50, ge=10, le=1000)
    """Neighbourhood of a price: a block of so many rows, compared with the one before and the one after."""
    spike_deviations: float = Field(default=10.0, ge=1, le=1000)
    """A price is a spike when it is further from all three medians than so many deviations (medians of the absolute ones) …"""
    spike_share: float = Field(default=0.03, gt=0, le=10)
    """… plus this share of the median (granularity: a flat run has no deviation) …"""
    spike_min: float = Field(default=0.05, gt=0, le=1e6)
    """… and at least this, currency units."""
    spike_error_share: float = Field(default=0.25, gt=0, le=100)
    """A spike further off than this share of the median is an error."""
    spread_times: float = Field(default=50.0, ge=2, le=100_000)
    """A spread over so many medians of the day is an outlier (Q3) …"""
    spread_share: float = Field(default=0.05, gt=0, le=10)
    """… when it also is over this share of the price."""
    reorder_ms: float = Field(default=1.0, ge=0, le=3_600_000)
    """Event times of a symbol may go back by this, ms."""
    latency_negative_ms: float = Field(default=50.0, ge=0, le=3_600_000)
    """A live row may be received this long before its event, ms (50 ms is what FINRA allows clocks to differ)."""
    latency_s_max: Seconds = 60.0
    """A live row that is received later than this after its event is a warning, s."""
    zone_s: Seconds = 1500.0
    """Event and receive time that differ by more are an error: a wrong date or time zone, s."""
    drift_ms: float = Field(default=250.0, gt=0, le=3_600_000)
    """The least latency of ten minutes may differ from the day's by this, ms."""
    coverage_days: int = Field(default=10, ge=1, le=60)
    """Earlier session dates whose rows by symbol and hour are the usual."""
    price_max: float = Field(default=1_000_000.0, gt=0, le=9e9)
    """No price is over this, currency units."""
    size_max: int = Field(default=100_000_000, ge=1, le=1 << 60)
    """No size is over this, shares or contracts."""
    prices_positive: bool = True
    """Prices are over zero; False for spreads, and futures that may go below."""
    volume_share: float = Field(default=0.0, ge=0, le=1)
    """The sum of the sizes (C, E and O prints) may differ from the feed's running total by this share."""
    gap_s: Seconds = 1.0
    """An unexplained gap that was not repaired and is longer is an error, shorter a warning, s."""
    silence_rows: float = Field(default=30.0, ge=5, le=10_000)
    """A stream is silent when so many rows were due by its own rate …"""
    silence_times: float = Field(default=5.0, ge=1, le=1000)
    """… and no pause of the minute around is longer than the pause divided by this."""
    book_level1_ms: float = Field(default=500.0, ge=0, le=60_000)
    """The top of a good book must equal a Level 1 quote of the time around, ms."""
    book_level1_share: float = Field(default=0.5, gt=0, le=1)
    """When more than this share of a symbol's compared books (one in 5 s) differ it is a warning …"""
    book_level1_least: int = Field(default=20, ge=1, le=100_000)
    """… of so many in a row."""
    split_ratio: float = Field(default=1.4, gt=1, le=1000)
    """A first price that is so many times the last close, or that part of it, asks for a split or a wrong symbol."""
    coverage_days_min: int = Field(default=3, ge=1, le=60)
    """With fewer of them coverage is not judged."""
    coverage_rows: float = Field(default=200.0, ge=1, le=1e9)
    """Hours with fewer rows than this on average are too quiet to be judged."""
    coverage_low: float = Field(default=0.2, gt=0, lt=1)
    """Fewer rows than this part of the average are a warning; none at all an error."""
    coverage_high: float = Field(default=5.0, gt=1, le=1000)
    """More rows than so many times the average are a warning."""
    cross_source_share: float = Field(default=0.002, ge=0, le=1)
    """Minute closes of two vendors may differ by this share."""


class ReportSettings(Section):
    """The daily report of a session date."""

    rows: int = Field(default=10, ge=1, le=200)
    """Rows of each table of the page; what is left out is counted. With more it no longer fits on two sheets of paper."""
    symbols: int = Field(default=20, ge=1, le=200)
    """Symbols of the coverage map: the worst, then those with the fewest rows."""
    gaps_max: int = Field(default=10_000, ge=1, le=1_000_000)
    """Gaps that are looked at, the newest; bounds the memory."""
    query_s: Seconds = 300.0
    """One statement, s; a part whose statement takes longer is not evaluated."""


class ArchiveSettings(Section):
    """Closed session dates as Parquet files, and reading them again."""

    batch_rows: int = Field(default=65_536, ge=1024, le=1_000_000)
    """Rows that are in memory at once while a date is archived, verified or restored; also the size of a row group."""
    part_rows_max: int = Field(default=10_000_000, ge=1024, le=1_000_000_000)
    """Rows after which another file is begun."""
    compression_level: int = Field(default=6, ge=1, le=19)
    """zstd level of the files."""
    read_rows_max: int = Field(default=100_000_000, ge=1000, le=10_000_000_000)
    """Most rows that one `l2_platform.read` brings into memory."""


class LookupSettings(Section):
    """History from the vendor: IQConnect's lookup port."""

    sockets: int = Field(default=4, ge=1, le=15)
    """Requests that are answered at once, one on each connection."""
    requests_per_s: int = Field(default=45, ge=1, le=1000)
    """Most requests in any second over all connections; the vendor refuses above 50."""
    per_send: int = Field(default=1000, ge=1, le=100_000)
    """Lines that the vendor sends together."""
    silence_s: Seconds = 30.0
    """No byte of a reply for this long: the connection is given up, s."""
    reply_s_max: Seconds = 900.0
    """A reply that is not whole after this is given up, s."""
    reply_bytes_max: Bytes = 4 << 30
    """Largest reply, bytes."""
    attempts: int = Field(default=3, ge=1, le=100)
    """How often a symbol is asked for before it counts as failed."""
    retry_s: Seconds = 2.0
    """Wait before a request is made again, s."""
    tick_days: int = Field(default=180, ge=1, le=100_000)
    """How many calendar days back the vendor has ticks."""
    bar_days: int = Field(default=3650, ge=1, le=20_000)
    """How many calendar days back bars are asked for: the vendor has daily bars of ten years and more, of minutes somewhat less."""
    commit_bytes: int = Field(default=64 << 20, ge=1 << 16, le=1 << 30)
    """Replies of so many bytes go into the journal together, bytes."""


class RepairSettings(Section):
    """Gaps that are filled from the vendor's history."""

    enabled: bool = True
    """Gaps are repaired when they end, without anyone asking (sensor `repair_closed_gaps`)."""
    look_s: int = Field(default=10, ge=1, le=3600)
    """Time between two looks of the sensor, s."""
    settle_s: float = Field(default=3.0, ge=0, le=3600)
    """A gap is repaired this long after its end: until then the vendor's history may be behind, s."""
    margin_s: float = Field(default=2.0, ge=0, le=600)
    """Prints are asked for from this long before a gap to this long after it, s."""
    delivered_s: Seconds = 30.0
    """How long a repair waits until every live row before its end is in the warehouse, s."""
    gaps_max: int = Field(default=50, ge=1, le=10_000)
    """Most gaps of one run."""
    symbols_max: int = Field(default=200, ge=1, le=10_000)
    """Symbols whose replies are compared and journaled together."""
    attempts_max: int = Field(default=6, ge=1, le=1000)
    """How often a gap is tried without anyone asking."""
    retry_first_s: Seconds = 60.0
    """Wait after the first attempt that failed; doubles, s."""
    retry_cap_s: Seconds = 3600.0
    """Longest of these waits, s."""
    age_days_max: float = Field(default=7.0, gt=0, le=3650)
    """Gaps that ended longer ago are repaired only when somebody asks, days."""
    silence_s: Seconds = 10.0
    """No byte of a reply for this long: the connection is given up, s."""
    reply_s_max: Seconds = 60.0
    """A reply that is not whole after this is given up, s."""
    gap_s_max: Seconds = 1200.0
    """Symbols of a gap that were not asked for after this fail; another attempt goes on there, s."""


class BookIndexSettings(Section):
    """The index that answers what a book was at an instant."""

    unit_bytes: int = Field(default=512 << 10, ge=1 << 14, le=16 << 20)
    """Journal that is read and decoded to find the line of an instant, bytes."""
    group_rows_min: int = Field(default=400_000, ge=100, le=16_000_000)
    """Rows that are stored together by symbol behind the books as they were before; a busy symbol's are all applied, at worst."""
    group_rows_max: int = Field(default=2_000_000, ge=1000, le=64_000_000)
    """Most of them: while the books hold many orders, a group grows to eight rows an order; about 150 bytes of memory a row."""
    group_slices_max: int = Field(default=1024, ge=2, le=65_536)
    """Parts of a group between two events that concern every book, and its pieces of the journal."""
    chunk_bytes: int = Field(default=64 << 10, ge=1 << 10, le=16 << 20)
    """Rows of neighbouring symbols that are compressed together, bytes before that."""
    compression_level: int = Field(default=6, ge=1, le=19)
    """zstd level of the rows."""
    cache_bytes: int = Field(default=64 << 20, ge=0, le=8 << 30)
    """Unpacked parts of indexes that a reader of many instants keeps, bytes."""
    open_files_max: int = Field(default=32, ge=2, le=1024)
    """Indexes and journal segments that it keeps open."""


class SimulatorSettings(Section):
    """The simulated market."""

    symbols: int = Field(default=50, ge=1, le=10_000)
    """Instruments SYM000 …"""
    rate: float = Field(default=300.0, ge=1, le=400_000)
    """Messages a second over all symbols and both services, on average."""
    seed: int = Field(default=7, ge=0, le=2**63 - 1)
    """Same seed, same market."""
    shape: Literal["orders", "venues", "levels", "mixed"] = "orders"
    """Shape of depth; mixed gives each symbol one of the three."""
    symbol_limit: int = Field(default=10_000, ge=1, le=100_000)
    """Most watched symbols of the simulated account."""
    client_queue_bytes_max: Bytes = 64 << 20
    """Unsent bytes of a slow client before it is cut, bytes."""
    clients_max: int = Field(default=256, ge=5, le=10_000)
    """Connections over all ports; further ones are closed at once."""
    command_bytes_max: int = Field(default=65_536, ge=256, le=1 << 20)
    """Longest command line of a client, bytes."""
    trades_max: int = Field(default=500_000, ge=1, le=10_000_000)
    """Trades remembered for lookup requests, over all symbols (about 100 bytes each)."""
    recording_bytes_max: Bytes = 1 << 30
    """Largest recorded file that is played, unpacked, bytes; its lines are held in memory (about four times as much)."""
    halts_per_hour: float = Field(default=0.0, ge=0, le=1000)
    """Symbols whose trading is halted an hour, on average, at times and for symbols that the seed gives; 0 = on command only."""
    halt_s: float = Field(default=300.0, ge=1, le=86_400)
    """Length of such a halt, s."""
    halts_max: int = Field(default=500, ge=1, le=10_000)
    """Halts that are published, the newest."""
    ledger_bytes_max: int = Field(default=0, ge=0, le=1 << 50)
    """The ledger of everything sent is kept up to this size, bytes; 0 = no ledger (tests switch it on)."""


class ReplaySettings(Section):
    """Stored days that are played again (`l2 replay`)."""

    ahead_bytes: int = Field(default=32 << 20, ge=1 << 20, le=4 << 30)
    """Journal bytes that are read and decoded ahead of what is being played, bytes; about three times as much memory."""
    step_bytes: int = Field(default=256 << 10, ge=1 << 12, le=16 << 20)
    """Journal bytes that are read at once, bytes."""
    spin_us: int = Field(default=150, ge=0, le=1000)
    """The last part of a wait for the next line, in which the clock is watched instead of sleeping, µs."""
    settle_s: float = Field(default=1.0, ge=0, le=600)
    """Playing begins when enough clients watch and no further watch came for this long, s."""
    stall_s: Seconds = 30.0
    """At speed max, and at the end, a client that takes nothing for this long is cut, s."""
    report_s: float = Field(default=5.0, ge=0.1, le=3600)
    """Time between two lines of progress where no terminal shows a bar, s."""


class KafkaSettings(Section):
    """Where `l2 replay --to-kafka` sends records."""

    bootstrap: str = Field(default="127.0.0.1:9092", min_length=1, max_length=1000)
    """Brokers, host:port, comma separated."""
    topic_prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,100}$")
    """Put before every topic name."""
    connect_s: Seconds = 10.0
    """The brokers must answer within this at the start, s."""
    delivery_s: Seconds = 60.0
    """A record that is not acknowledged within this ends the replay with an error, s."""
    queue_messages_max: int = Field(default=100_000, ge=100, le=10_000_000)
    """Records that wait for their acknowledgement; further ones wait for room."""
    queue_bytes_max: int = Field(default=128 << 20, ge=1 << 20, le=2 << 30)
    """The same, bytes."""


class DiskSettings(Section):
    """What must stay free."""

    reserve_bytes: Bytes = 2 << 30
    """Below this JSONL is shed; below a quarter everything but the recording stops; below a sixteenth recording waits, bytes."""
    check_s: Seconds = 5.0
    """Time between two looks, s."""
    dates_min: float = Field(default=5.0, ge=0, le=10_000)
    """With room for fewer further session dates `platform_health` is red."""

    @property
    def recording_bytes(self) -> int:
        """Recording needs this much free space."""
        return self.reserve_bytes // 16


class SupervisionSettings(Section):
    """Processes and their signs of life."""

    heartbeat_s: float = Field(default=1.0, gt=0, le=10)
    """Time between two heartbeats, s."""
    hung_s: float = Field(default=15.0, ge=3, le=600)
    """A worker whose heartbeat is older is killed by the watchdog and restarted, s."""
    start_s: Seconds = 120.0
    """`l2 up` waits this long for every part to be healthy, s."""
    stop_s: float = Field(default=45.0, ge=1, le=60)
    """`l2 down` waits this long for a part before it kills it, s."""
    spec_s: Seconds = 60.0
    """A worker follows a changed desired state within this, or is rolled, s."""
    lag_s_max: Seconds = 30.0
    """A delivery that is further behind the journal warns; ten times as far is an error, s."""
    attempts_max: int = Field(default=5, ge=1, le=100)
    """Runs of `control_collector` that supervision requests for one trouble before it leaves it to people."""
    attempt_first_s: Seconds = 120.0
    """Wait after the first of these runs, s; doubles."""
    attempt_cap_s: Seconds = 1800.0
    """Longest wait between two of these runs, s."""
    crash_s: float = Field(default=20.0, gt=0, le=600)
    """A process that ends by itself within this after its start has crashed, s."""
    crash_starts_max: int = Field(default=5, ge=2, le=100)
    """Crashes in a row that are a crash loop: the watchdog holds the process back."""
    crash_first_s: Seconds = 15.0
    """First time that it is held back, s; doubles with each further crash."""
    crash_cap_s: Seconds = 600.0
    """Longest time that it is held back before it is tried again, s."""
    revivals_max: int = Field(default=5, ge=1, le=100)
    """`l2 run` brings a process manager that died back so often in a row; then it ends with an error."""


class DagsterSettings(Section):
    """The web UI."""

    enabled: bool = True
    """Start Dagster with `l2 up`."""
    storage: Literal["sqlite", "postgres"] = "sqlite"
    """Run and event storage; postgres reads DAGSTER_PG_* (see docs/operations.md)."""
    room_dates: int = Field(default=5, ge=1, le=250)
    """Growth a session date is the mean over so many complete ones."""
    keep_runs_days: int = Field(default=30, ge=1, le=3650)
    """Runs that ended longer ago are deleted with their logs, but for the newest of each asset and partition."""
    keep_events_days: int = Field(default=7, ge=1, le=3650)
    """Events that belong to no run (heartbeat numbers, verdicts) are deleted after so many days, but for the newest of each."""
    prune_rows_max: int = Field(default=200_000, ge=1000, le=100_000_000)
    """Most events that one pruning run deletes; the next one goes on."""
    prune_runs_max: int = Field(default=2000, ge=1, le=1_000_000)
    """Most runs that one pruning run deletes."""


class NotifySettings(Section):
    """Who is told when a run or a check fails."""

    urls: SecretStr = SecretStr("")
    """Receivers as URLs of the library apprise, separated by spaces: `mailto://user:password@example.com`, `jsons://host/path`,
    `slack://…`; empty: nobody. Rather in a file that L2_NOTIFY__URLS_FILE names."""
    errors_only: bool = True
    """Tell of failed promises (ERROR) only; else of warnings too."""
    group_s: float = Field(default=120.0, ge=0, le=86_400)
    """After a message, what happens within this goes into the next one, s; the first one goes at once."""
    repeat_s: Seconds = 3600.0
    """The same cause is told again after this, s; what happened in between is counted in that message."""
    hour_max: int = Field(default=20, ge=1, le=1000)
    """Most messages an hour; what does not fit waits and is counted in the next one."""
    causes_max: int = Field(default=200, ge=1, le=10_000)
    """Causes that are remembered and told in one message; further ones are counted only."""
    timeout_s: Seconds = 20.0
    """A receiver that does not take a message within this is tried again, s."""
    attempts_max: int = Field(default=5, ge=1, le=100)
    """A message is given up after so many attempts; the log says so."""


class LogSettings(Section):
    """Logs of the processes, under `home/logs`."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lowest level written."""
    format: Literal["auto", "json", "console"] = "auto"
    """auto: console on a terminal, JSON elsewhere."""
    file_bytes_max: int = Field(default=20 << 20, ge=1 << 16, le=1 << 30)
    """A log of the process manager is rotated at this size, bytes."""
    files_kept: int = Field(default=3, ge=1, le=100)
    """Rotated files kept of each log."""


class Settings(BaseSettings):
    """The root of the tree."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True,
        use_attribute_docstrings=True,
    )  # fmt: skip

    home: Path = Path(".l2")
    """All state: journal, books, files, warehouse, logs, Dagster."""
    streams: Annotated[tuple[str, ...], NoDecode] = ("iqfeed-depth-0", "iqfeed-level1-0", "iqfeed-admin-0")
    """Captures that run: feed-channel-number, channel one of depth, level1, admin; comma separated."""
    ports: PortSettings = PortSettings()
    """TCP ports."""
    feed: FeedSettings = FeedSettings()
    """The feed."""
    symbols: SymbolSettings = SymbolSettings()
    """What is recorded."""
    session: SessionSettings = SessionSettings()
    """Trading calendar."""
    journal: JournalSettings = JournalSettings()
    """Raw bytes."""
    delivery: DeliverySettings = DeliverySettings()
    """Journal to sinks."""
    jsonl: JsonlSettings = JsonlSettings()
    """Files."""
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    """Tables."""
    warehouse: WarehouseSettings = WarehouseSettings()
    """The embedded engine."""
    imports: ImportSettings = ImportSettings()
    """Files that are imported."""
    gaps: GapSettings = GapSettings()
    """Gaps and what explains them."""
    rebuild: RebuildSettings = RebuildSettings()
    """Dates that are built again."""
    close: CloseSettings = CloseSettings()
    """The daily close."""
    completeness: CompletenessSettings = CompletenessSettings()
    """Verdicts on stored dates."""
    reconcile: ReconcileSettings = ReconcileSettings()
    """Comparison of the stores."""
    quality: QualitySettings = QualitySettings()
    """The audit."""
    report: ReportSettings = ReportSettings()
    """The daily report."""
    archive: ArchiveSettings = ArchiveSettings()
    """Parquet files of closed dates."""
    lookup: LookupSettings = LookupSettings()
    """History from the vendor."""
    repair: RepairSettings = RepairSettings()
    """Gaps filled from history."""
    book_index: BookIndexSettings = BookIndexSettings()
    """Books at an instant."""
    simulator: SimulatorSettings = SimulatorSettings()
    """The simulated market."""
    replay: ReplaySettings = ReplaySettings()
    """Stored days, played again."""
    kafka: KafkaSettings = KafkaSettings()
    """Kafka brokers."""
    disk: DiskSettings = DiskSettings()
    """Free space."""
    supervision: SupervisionSettings = SupervisionSettings()
    """Processes."""
    dagster: DagsterSettings = DagsterSettings()
    """Web UI."""
    notify: NotifySettings = NotifySettings()
    """Messages to people."""
    log: LogSettings = LogSettings()
    """Logs."""

    @field_validator("streams", mode="before")
    @classmethod
    def _split_streams(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("streams")
    @classmethod
    def _known_streams(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            parts = name.split("-")
            if len(parts) != 3 or parts[0] != "iqfeed" or parts[1] not in {"depth", "level1", "admin"} or not parts[2].isdigit():
                msg = f"{name!r} is not feed-channel-number, e.g. iqfeed-depth-0 (channels: depth, level1, admin)"
                raise ValueError(msg)
        if len(set(value)) != len(value):
            msg = "a stream is named twice"
            raise ValueError(msg)
        return value

    @field_validator("home")
    @classmethod
    def _absolute_home(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  secrets come from X_FILE
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over `.env`; the names of secret files are read before."""
        files = {f"{name}_FILE".lower() for name in _secret_variables()}
        for source in (env_settings, dotenv_settings):
            assert isinstance(source, EnvSettingsSource)
            source.env_vars = {name: value for name, value in source.env_vars.items() if name.lower() not in files}
        return init_settings, env_settings, dotenv_settings

    @property
    def calendar_name(self) -> str:
        """The calendar of every live stream of this instance."""
        if self.session.calendar != "auto":
            return self.session.calendar
        return "always_open" if self.feed.kind == "simulated" else "XNYS"

    @property
    def symbols_file(self) -> Path:
        """Where the symbols are listed."""
        return self.symbols.file or self.home / "symbols.toml"

    @property
    def journal_dir(self) -> Path:
        """`journal/<stream>/<session date>/`: segments and their manifest."""
        return self.home / "journal"

    @property
    def run_dir(self) -> Path:
        """Leases, heartbeats, desired states, durable positions, process manager."""
        return self.home / "run"

    @property
    def simulated_halts(self) -> Path:
        """Trading halts of the simulated market, as an exchange publishes them."""
        return self.home / "simulator" / "halts.csv"

    @property
    def checkpoint_dir(self) -> Path:
        """`checkpoints/<sink>/<stream>/`."""
        return self.home / "checkpoints"

    @property
    def book_index_dir(self) -> Path:
        """`book_index/<stream>/<session date>.l2bx`: what `l2 book --at` reads; made from the journal, may be deleted."""
        return self.home / "book_index"

    @property
    def quarantine_dir(self) -> Path:
        """`quarantine/<sink>/`: rows that a sink refused."""
        return self.home / "quarantine"

    @property
    def jsonl_dir(self) -> Path:
        """`jsonl/live/<date>/`, and by source and stream for history and imports."""
        return self.home / "jsonl"

    @property
    def quality_dir(self) -> Path:
        """`quality/<session date>/`, `quality/<first>_<last>/` of a week: pages of audits; may be deleted, an audit makes them anew."""
        return self.home / "quality"

    @property
    def archive_dir(self) -> Path:
        """`archive/<table>/session_date=…/stream=…/`: Parquet files and their manifests."""
        return self.home / "archive"

    @property
    def report_dir(self) -> Path:
        """`reports/<session date>.html`: the daily reports; may be deleted, `l2 report` makes one anew."""
        return self.home / "reports"

    @property
    def warehouse_dir(self) -> Path:
        """The embedded engine's data."""
        return self.home / "warehouse"

    @property
    def log_dir(self) -> Path:
        """One log per process, rotated."""
        return self.home / "logs"

    @property
    def cache_dir(self) -> Path:
        """Compiled kernels and calendars; may be deleted at any time."""
        return self.home / "cache"

    @property
    def dagster_home(self) -> Path:
        """Dagster's own state."""
        return self.home / "dagster"


def load_settings(**overrides: Any) -> Settings:
    """Build the tree from the environment, `.env` and `overrides`; raise ConfigError with the field and the nearest valid name."""
    environment = {**_dotenv(Path(".env")), **os.environ}
    _reject_unknown(environment)
    secrets = _secrets_from_files(environment)
    for section, values in overrides.items():
        secrets[section] = secrets.get(section, {}) | values if isinstance(values, dict) else values
    try:
        return Settings(**secrets)
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ConfigError("settings: " + "; ".join(lines)) from None


def field_paths(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Every setting as a dotted path, sections included in the path only."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from field_paths(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def variable_of(path: str) -> str:
    """The environment variable of a dotted path."""
    return ENV_PREFIX + path.replace(".", "__").upper()


def _secret_variables() -> set[str]:
    return {variable_of(path) for path in ("feed.login", "feed.password", "clickhouse.password", "notify.urls")}


def _reject_unknown(environment: Mapping[str, str]) -> None:
    known = {variable_of(path) for path in field_paths()}
    allowed = known | {f"{name}_FILE" for name in _secret_variables()}
    for name in sorted(environment):
        if name.upper().startswith(ENV_PREFIX) and name.upper() not in allowed:
            near = difflib.get_close_matches(name.upper(), sorted(allowed), n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"settings: unknown variable {name}{hint} (`l2 settings` lists all)")


def _secrets_from_files(environment: Mapping[str, str]) -> dict[str, Any]:
    """Section → field → secret, for the variables whose `_FILE` is set; the environment itself is left as it is for child processes."""
    found: dict[str, Any] = {}
    for name in sorted(_secret_variables()):
        path = environment.get(f"{name}_FILE")
        if path is None:
            continue
        if environment.get(name):
            raise ConfigError(f"settings: {name} and {name}_FILE are both set; keep one")
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"settings: {name}_FILE: cannot read {path}: {error.strerror}") from None
        section, field_name = name.removeprefix(ENV_PREFIX).lower().split("__")
        found.setdefault(section, {})[field_name] = secret
    return found


def _dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    pairs = (line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {key.strip().removeprefix("export "): value.strip() for key, value in pairs if not key.lstrip().startswith("#")}
