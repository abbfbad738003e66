"""Heartbeats as Prometheus or OpenMetrics text: what every worker says of itself, at one moment.

Names start with `l2_`, units are base units. A value that a heartbeat does not hold gives no sample; a worker that does not beat shows
by the age of its last beat. What does not belong here: reading the files (heartbeat), rules and alerts.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from l2_platform.monitoring.heartbeat import HeartbeatRecord

Kind = Literal["gauge", "counter"]

WORKER_NUMBERS: Final[tuple[tuple[str, str, Kind, str], ...]] = (
    ("lines", "l2_lines", "counter", "Lines recorded since the start of the process."),
    ("bytes", "l2_recorded_bytes", "counter", "Bytes of the feed recorded since the start of the process."),
    ("last_seq", "l2_last_seq", "gauge", "Number of the newest recorded line of the session date."),
    ("rows", "l2_rows", "counter", "Rows that the sink took since the start of the process."),
    ("rows_written", "l2_rows_written", "counter", "Rows inserted since the start of the process."),
    ("lag_lines", "l2_lag_lines", "gauge", "Durable lines that the sink does not have yet, over all streams."),
    ("failures", "l2_write_failures", "gauge", "Failed writes in a row."),
    ("wanted", "l2_wanted_symbols", "gauge", "Symbols that should be recorded."),
    ("watched", "l2_watched_symbols", "gauge", "Watches sent on this connection and not refused."),
    ("refused", "l2_refused_symbols", "gauge", "Watches that the feed refused at the account's limit."),
    ("not_found", "l2_unknown_symbols", "gauge", "Symbols that the feed does not know."),
    ("connected", "l2_connected", "gauge", "1 while the feed's socket is open."),
    ("attempts", "l2_connection_attempts", "counter", "Attempts to connect since the start of the process."),
    ("disconnects", "l2_disconnects", "counter", "Lost connections since the start of the process."),
    ("error_lines", "l2_feed_error_lines", "counter", "Error lines of the feed since the start of the process."),
    ("skew_s", "l2_clock_skew_seconds", "gauge", "Our clock minus the feed's."),
    ("requests", "l2_requests", "counter", "HTTP requests since the start of the process."),
    ("failed", "l2_failed_requests", "counter", "HTTP requests that failed since the start of the process."),
    ("clients", "l2_clients", "gauge", "Open connections of the simulated market."),
)
"""(name in the heartbeat, name of the metric, kind, meaning)."""
STREAM_NUMBERS: Final[tuple[tuple[str, str, Kind, str], ...]] = (
    ("seq", "l2_delivered_seq", "gauge", "Number of the newest line that the sink has, of the session date."),
    ("session_date", "l2_session_date", "gauge", "Session date that is delivered, YYYYMMDD."),
    ("lag_lines", "l2_stream_lag_lines", "gauge", "Durable lines that the sink does not have yet."),
    ("lag_s", "l2_stream_lag_seconds", "gauge", "Age of the newest delivered line against the newest durable one."),
    ("rows", "l2_stream_rows", "counter", "Rows that the sink took since the start of the process."),
    ("failures", "l2_stream_write_failures", "gauge", "Failed writes in a row."),
    ("gaps", "l2_gaps", "counter", "Gaps found since the pipeline was made (start, or session date)."),
    ("gap_open", "l2_gap_open", "gauge", "1 while the stream has a gap that is not over."),
    ("symbols_silent", "l2_symbols_silent", "gauge", "Symbols that are improbably silent now."),
)
BOUND_NUMBERS: Final[tuple[tuple[str, str, Kind, str], ...]] = (
    ("now", "l2_bound_now", "gauge", "Present value of a limited thing, in its unit."),
    ("high", "l2_bound_high", "gauge", "Its highest value since the start of the process."),
    ("limit", "l2_bound_limit", "gauge", "Its limit."),
    ("reached", "l2_bound_reached", "counter", "How often it came to its limit."),
)


def render(records: Iterable[HeartbeatRecord], now_ns: int, *, openmetrics: bool = False) -> str:
    """All heartbeats as exposition text; `now_ns` is the present time."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Heartbeats(list(records), now_ns))
    return (generate_openmetrics if openmetrics else generate_latest)(registry).decode()


class _Heartbeats:
    """A collector in the client library's sense: makes the families anew at each scrape."""

    def __init__(self, records: list[HeartbeatRecord], now_ns: int) -> None:
        self._records, self._now_ns = records, now_ns

    def collect(self) -> Iterator[Metric]:
        """Every family, also those without samples: a name that vanishes is harder to watch than a zero."""
        yield from self._workers()
        labels = [({"worker": record.worker}, record.numbers) for record in self._records]
        yield from _families(WORKER_NUMBERS, ["worker"], labels)
        streams = [
            ({"worker": record.worker, "stream": str(name)}, _mapping(numbers))
            for record in self._records
            for name, numbers in _mapping(record.numbers.get("streams")).items()
        ]
        yield from _families(STREAM_NUMBERS, ["worker", "stream"], streams)
        bounds = [
            (
                {"worker": record.worker, "bound": str(name), "unit": str(numbers["unit"]), "setting": str(numbers["setting"])},
                numbers,
            )
            for record in self._records
            for name, numbers in _mapping(record.numbers.get("bounds")).items()
        ]
        yield from _families(BOUND_NUMBERS, ["worker", "bound", "unit", "setting"], bounds)
        yield from self._fsyncs()

    def _workers(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("l2_worker_up", "1 while the process that wrote the heartbeat runs.", labels=["worker"])
        state = GaugeMetricFamily("l2_worker_state", "1 for the state the worker is in.", labels=["worker", "state"])
        age = GaugeMetricFamily("l2_heartbeat_age_seconds", "Age of the newest heartbeat.", labels=["worker"])
        generation = GaugeMetricFamily("l2_worker_generation", "Generation of the intent that it applied.", labels=["worker"])
        for record in self._records:
            up.add_metric([record.worker], float(record.alive()))
            state.add_metric([record.worker, record.state], 1.0)
            age.add_metric([record.worker], max(0.0, record.age_s(self._now_ns)))
            generation.add_metric([record.worker], record.generation)
        yield from (up, state, age, generation)

    def _fsyncs(self) -> Iterator[Metric]:
        family = SummaryMetricFamily("l2_fsync_seconds", "Group syncs of the journal.", labels=["worker"])
        longest = GaugeMetricFamily("l2_fsync_longest_seconds", "The longest since the start of the process.", labels=["worker"])
        for record in self._records:
            timing = _mapping(record.numbers.get("fsync"))
            if timing:
                family.add_metric([record.worker], int(timing["count"]), float(timing["sum_s"]))
                longest.add_metric([record.worker], float(timing["longest_s"]))
        yield from (family, longest)


def _families(
    wanted: tuple[tuple[str, str, Kind, str], ...],
    names: list[str],
    rows: list[tuple[dict[str, str], Mapping[str, Any]]],
) -> Iterator[Metric]:
    for field, metric, kind, meaning in wanted:
        family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(metric, meaning, labels=names)
        for labels, numbers in rows:
            value = numbers.get(field)
            if isinstance(value, int | float):
                family.add_metric([labels[name] for name in names], float(value))
        yield family


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
