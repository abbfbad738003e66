"""A stored day as records of a Kafka topic: one JSON object a market line, key = symbol, so that a symbol's records stay in order.

`stream`, `session_date` and `seq` say which line it is. What does not belong here: sending (`sinks.kafka`), pace (`pace`).
"""

import threading
from collections.abc import Iterator
from typing import Any, Final

import orjson

from l2_platform.clock import Clock, SystemClock
from l2_platform.market.events import NULL_PRICE, NULL_TS, DepthBatch, Level1Kind
from l2_platform.market.instruments import mmid_text
from l2_platform.replay.digest import LineDigest, line_batch, runs
from l2_platform.replay.pace import AS_FAST_AS_POSSIBLE
from l2_platform.replay.performance import Performance
from l2_platform.replay.serving import Order, Outcome, Report, on_stop_signals, outcome_of, prepare
from l2_platform.replay.tape import Slice
from l2_platform.settings import Settings
from l2_platform.sinks.kafka import KafkaTopic

IDLE_S: Final = 0.05
LINES_A_TURN: Final = 16_384
DEPTH_COLUMNS: Final = ("size", "priority", "order_id", "count")
LEVEL1_COLUMNS: Final = (
    "size", "market_center", "tick_id", "aggressor", "day_code", "total_volume", "bid_size", "bid_market_center", "ask_size",
    "ask_market_center",
)  # fmt: skip
QUOTE_KINDS: Final = frozenset({Level1Kind.QUOTE, Level1Kind.SUMMARY})


class TopicAudience:
    """Turns what is played into records."""

    def __init__(self, show: Performance, topic: KafkaTopic) -> None:
        self.sent = 0
        self._show = show
        self._topic = topic
        show.audience = self

    def take(self, found: Slice, digest: LineDigest) -> None:
        """Send the market lines of a slice, and count them."""
        chosen = self._show.chosen
        part = self._show.parts[found.piece.track]
        for first, stop, special in runs(found):
            if special:
                mark = int(found.piece.marks[first])
                digest.add_special(mark, found.piece.line(first), everything=chosen.everything)
                continue
            digest.add(line_batch(found, first, stop), None if chosen.everything else chosen.mask)
            for symbol, record in rows_of(found, first, stop, part.stream, part.session_date):
                if chosen.mask[symbol]:
                    name = chosen.names[symbol]
                    self._topic.send(name.encode("latin-1"), orjson.dumps({"symbol": name, **record}))
                    self.sent += 1

    def link(self, channel: str, *, up: bool) -> None:
        """A topic has no link: the gap is in `gap_events`."""


def rows_of(found: Slice, first: int, stop: int, stream: str, session_date: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """(symbol number, record) of market lines; times in ns since the epoch, prices as numbers, null where the line has none."""
    batch = found.piece.batch
    pick = slice(first, stop)
    columns: dict[str, list[Any]] = {
        "seq": batch.seq[pick].tolist(), "kind": [chr(kind) for kind in batch.kind[pick]], "ts_event": _times(batch.ts_event[pick]),
        "ts_recv": batch.ts_recv[pick].tolist(), "price": _prices(batch.price[pick]),
    }  # fmt: skip
    if isinstance(batch, DepthBatch):
        columns["side"] = [chr(side) if side else None for side in batch.side[pick]]
        columns["mmid"] = [mmid_text(mmid) for mmid in batch.mmid[pick]]
        columns |= {name: getattr(batch, name)[pick].tolist() for name in DEPTH_COLUMNS}
    else:
        columns |= {"bid": _prices(batch.bid[pick]), "ask": _prices(batch.ask[pick])}
        columns |= {name: getattr(batch, name)[pick].tolist() for name in LEVEL1_COLUMNS}
        columns["line"] = [
            None if kind in QUOTE_KINDS else found.piece.line(row).rstrip(b"\r\n").decode("latin-1")
            for row, kind in enumerate(batch.kind[pick].tolist(), first)
        ]
    head = {"stream": stream, "session_date": session_date}
    names = tuple(columns)
    for symbol, *values in zip(batch.symbol[pick].tolist(), *columns.values(), strict=True):
        yield symbol, head | dict(zip(names, values, strict=True))


def _times(values: Any) -> list[int | None]:
    return [None if value == NULL_TS else value for value in values.tolist()]


def _prices(values: Any) -> list[float | None]:
    return [None if missing else price for price, missing in zip((values / 1e9).tolist(), (values == NULL_PRICE).tolist(), strict=True)]


def send_day(
    settings: Settings, order: Order, topic: str, *, report: Report | None = None, stop: threading.Event | None = None,
    clock: Clock | None = None, options: dict[str, Any] | None = None,
) -> Outcome:  # fmt: skip
    """Send a stored day, paced, until its end, SIGTERM, SIGINT, or `stop` is set; all is acknowledged at the return.

    SinkUnavailable when the brokers do not answer, or do not acknowledge, in time. `options` are librdkafka's.
    """
    clock = clock or SystemClock()
    stop = stop or threading.Event()
    signals = on_stop_signals(stop)
    show, _ = prepare(settings, order, clock, report)
    try:
        sink = KafkaTopic(settings.kafka, topic, clock, options=options)
        audience = TopicAudience(show, sink)
        began = clock.monotonic_ns()
        show.pacer.resume(began)
        _play(settings, show, sink, stop, report, clock)
        sink.flush()
    finally:
        show.tape.close()
    complete = show.over()
    why = "end" if complete else (signals[0] if signals else "a stop")
    outcome = outcome_of(show, complete=complete, why=why, seconds=(clock.monotonic_ns() - began) / 1e9, clock=clock)
    outcome.record["records"] = audience.sent
    outcome.record["topic"] = sink.topic
    return outcome


def _play(
    settings: Settings, show: Performance, sink: KafkaTopic, stop: threading.Event, report: Report | None, clock: Clock
) -> None:  # fmt: skip
    every = int(settings.replay.report_s * 1e9)
    told, lines = clock.monotonic_ns(), 0
    while not stop.is_set() and not show.over():
        now = clock.monotonic_ns()
        if report is not None and now - told >= every:
            report({"state": "sending", **show.record(now), "rate": (show.lines - lines) * 1e9 / (now - told)})
            told, lines = now, show.lines
        if show.tape.starved:
            show.tape.wait(IDLE_S)
            continue
        if show.pacer.speed == AS_FAST_AS_POSSIBLE:
            show.play(show.tape.window() or 0, LINES_A_TURN)
            continue
        following = show.tape.next_time()
        left = show.pacer.due(following) - now if following is not None else 0
        if left > 0:
            sink.poll()
            clock.sleep(min(IDLE_S, left / 1e9))
            continue
        show.play(show.pacer.position(clock.monotonic_ns()), LINES_A_TURN)


