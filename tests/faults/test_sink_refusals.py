"""F14: everything that a ClickHouse server can say against an insert, and what the delivery makes of it.

Scale: every code of the engine (about 600) through the table of codes; every code that has a meaning of its own once (quick: one of each
meaning over HTTP; ci and full: all), and real limits of a real warehouse. Nothing is dropped: the same rows are there once after it.
"""

from collections.abc import Iterator

import pytest

from l2_platform.errors import (
    SinkBackpressure,
    SinkBlocked,
    SinkError,
    SinkMisconfigured,
    SinkRejected,
    SinkUnavailable,
)
from l2_platform.settings import DeliverySettings, Settings
from l2_platform.sinks.clickhouse import ClickHouseSink
from l2_platform.sinks.clickhouse_failures import CODES, STATUSES, Verdict, verdict_of
from tests.faults.conftest import Measured
from tests.faults.scale import FAULTS
from tests.faults.sinks import DATE, at, client_of, depth_rows, front_of, sink_at, stored, through, warehouse_at
from tests.faults.warehouse_front import Refusal

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]
ERRORS: dict[Verdict, type[SinkError]] = {
    Verdict.PASSING: SinkUnavailable, Verdict.BUSY: SinkBackpressure, Verdict.BLOCKED: SinkBlocked,
    Verdict.MISCONFIGURED: SinkMisconfigured,
}  # fmt: skip
NAMED = {
    252: Verdict.BUSY, 241: Verdict.BUSY, 202: Verdict.BUSY, 159: Verdict.PASSING, 209: Verdict.PASSING, 210: Verdict.PASSING,
    242: Verdict.BLOCKED, 164: Verdict.BLOCKED, 201: Verdict.BLOCKED, 243: Verdict.BLOCKED, 75: Verdict.BLOCKED,
    516: Verdict.MISCONFIGURED, 497: Verdict.MISCONFIGURED, 81: Verdict.MISCONFIGURED, 60: Verdict.MISCONFIGURED,
    469: Verdict.CONTENT, 117: Verdict.CONTENT, 321: Verdict.CONTENT, 999: Verdict.PASSING, 49: Verdict.PASSING,
}  # fmt: skip
"""What must never change by accident: the failures that people meet."""
TRIED = sorted(CODES) if FAULTS != "quick" else [252, 159, 243, 497, 469, 117, 60]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with warehouse_at(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.mark.parametrize("code", sorted(NAMED))
def test_the_failures_that_people_meet_are_told_apart(code: int) -> None:
    assert verdict_of(code) is NAMED[code]


def test_every_code_of_the_engine_has_a_meaning_and_unknown_ones_keep_the_rows(settings: Settings, measured: Measured) -> None:
    with client_of(settings) as client:
        names: dict[int, str] = dict(
            client.query(
                "SELECT toInt32(number), errorCodeToName(number) FROM numbers(1, 1200) WHERE errorCodeToName(number) != ''"
            ).result_rows
        )
    meant = {name: verdict_of(code) for code, name in names.items()}
    assert set(CODES) <= set(names)
    # whatever speaks of these things is no fault of rows
    for word in ("MEMORY", "TOO_MANY_PARTS", "TIMEOUT", "NETWORK", "SOCKET", "SPACE", "QUOTA_EXCEEDED", "READ_ONLY", "AUTHENT", "PASSWORD"):
        for name, verdict in meant.items():
            assert word not in name or verdict is not Verdict.CONTENT, name
    measured(codes=len(names), **{verdict.value: sum(one is verdict for one in meant.values()) for verdict in Verdict})


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_an_answer_without_a_code_is_told_by_its_status(settings: Settings, status: int) -> None:
    """As proxies and load balancers give them; those that stand for content are found to be about all rows or none."""
    stream = f"iqfeed-depth-{status}"
    with front_of(settings) as front, client_of(settings) as client, sink_at(through(front, settings)) as sink:
        _refused_once(sink, front.orders, Refusal(0, status, "an answer of something in between"), STATUSES[status], stream)
        assert stored(client, "depth_updates", stream) == (40, 40, 40)


def test_each_code_once_and_the_rows_are_there_once_afterwards(settings: Settings, measured: Measured) -> None:
    stream, seq = "iqfeed-depth-0", 0
    with front_of(settings) as front, client_of(settings) as client, sink_at(through(front, settings)) as sink:
        sink.resume(stream, DATE)
        for code in TRIED:
            _refused_once(sink, front.orders, Refusal(code), CODES[code], stream, seq)
            seq += 40
        assert sink.quarantine.count(stream, DATE) == 0
        assert stored(client, "depth_updates", stream) == (seq, seq, seq)
    measured(codes=len(TRIED), rows=seq)


def _refused_once(sink: ClickHouseSink, orders: object, refusal: Refusal, verdict: Verdict, stream: str, seq: int = 0) -> None:
    """The first insert is refused; the write fails as it must, or (content) finds that no row is at fault. Then it is taken."""
    left = [refusal]
    orders.refuse = lambda _: left.pop() if left else None  # type: ignore[attr-defined]
    rows = [depth_rows(stream, seq + 1, 40)]
    if verdict is Verdict.CONTENT:
        sink.write(rows, at(seq + 40), seq + 40)
        return
    with pytest.raises(ERRORS[verdict]) as caught:
        sink.write(rows, at(seq + 40), seq + 40)
    assert type(caught.value) is ERRORS[verdict], refusal.code
    sink.write(rows, at(seq + 40), seq + 40)


REAL = {
    "too many parts": (
        "ALTER TABLE l2.depth_updates MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1", SinkBackpressure, 252,
    ),
    "a constraint": ("ALTER TABLE l2.depth_updates ADD CONSTRAINT never CHECK seq < 30", SinkRejected, 469),
    "the table is gone": ("RENAME TABLE l2.depth_updates TO l2.away", SinkMisconfigured, 60),
}  # fmt: skip
MENDED = {
    "too many parts": "ALTER TABLE l2.depth_updates RESET SETTING parts_to_throw_insert, parts_to_delay_insert",
    "a constraint": "ALTER TABLE l2.depth_updates DROP CONSTRAINT never",
    "the table is gone": "RENAME TABLE l2.away TO l2.depth_updates",
}


@pytest.mark.parametrize("limit", sorted(REAL))
def test_real_limits_of_a_real_warehouse(settings: Settings, limit: str) -> None:
    statement, kind, code = REAL[limit]
    stream = f"iqfeed-depth-{1000 + sorted(REAL).index(limit)}"
    few = settings.model_copy(update={"delivery": DeliverySettings(quarantine_rows_max=1)})
    with client_of(settings) as client, sink_at(few) as sink:
        sink.resume(stream, DATE)
        client.command("SYSTEM STOP MERGES l2.depth_updates")
        for first in (1, 11, 21):
            sink.write([depth_rows(stream, first, 5)], at(first + 4), first + 4)
        client.command(statement)
        try:
            with pytest.raises(kind) as caught:
                sink.write([depth_rows(stream, 31, 5)], at(35), 35)
            assert caught.value.facts.get("code", code) == code
        finally:
            client.command(MENDED[limit])
            client.command("SYSTEM START MERGES l2.depth_updates")
        held = sink.quarantine.count(stream, DATE)
        sink.write([depth_rows(stream, 31, 5)], at(35), 35)
        assert held == (limit == "a constraint")
        assert stored(client, "depth_updates", stream)[:2] == (20 - held, 20 - held)


def test_a_wrong_password_is_a_matter_for_a_person(settings: Settings) -> None:
    with front_of(settings) as front:
        found = through(front, settings)
        wrong = found.model_copy(update={"clickhouse": found.clickhouse.model_copy(update={"user": "somebody"})})
        with pytest.raises(SinkMisconfigured, match="516"):
            ClickHouseSink(wrong).open()
