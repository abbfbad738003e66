"""`l2_platform.read` and `.book`: warehouse and archive as one, no row twice, and questions that name nothing."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from clickhouse_connect.driver.client import Client

import l2_platform
from l2_platform.archive.export import export_date
from l2_platform.clock import SystemClock
from l2_platform.errors import InputError, WarehouseError
from l2_platform.settings import Settings
from tests.integration.homes import Home
from tests.integration.stored import LIVE, make_home, put_trades, warehouse

pytestmark = pytest.mark.integration
IMPORT = "iqfeed-ticks-import-0011aabb"
OTHER = "iqfeed-ticks-import-99887766"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reading.md"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path, market_data: Path) -> Home:
    made = make_home(tmp_path_factory.mktemp("home"), numba_cache)
    made.ok("import", market_data / "iqfeed_ticks_2021-03-01_to_03.csv.gz", "--channel", "ticks", "--symbol", "XYZ")
    made.ok("import", market_data / "aapl_2012-06-21_depth_by_price.iqfeed.txt.gz", "--channel", "depth")
    return made


@pytest.fixture(scope="module")
def settings(home: Home) -> Settings:
    return home.settings


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    with warehouse(settings) as found:
        for day in ("2026-11-16", "2026-11-17", "2026-11-18"):
            put_trades(found, LIVE, day, 3000)
        put_trades(found, IMPORT, "2026-11-18", 3000)
        put_trades(found, IMPORT, "2026-11-19", 30)
        put_trades(found, OTHER, "2026-11-19", 30)
        yield found


def test_live_rows_come_before_imported_ones(client: Client, settings: Settings) -> None:
    frame = l2_platform.read("trades", ["AAA", "BBB"], "2026-11-17", "2026-11-19", settings=settings)
    assert len(frame) == 4000
    assert frame["stream"].unique().to_list() == [LIVE]
    assert frame["session_date"].unique().sort().to_list() == [date(2026, 11, 17), date(2026, 11, 18)]
    imported = l2_platform.read("trades", ["AAA", "BBB"], "2026-11-17", "2026-11-19", stream=IMPORT, settings=settings)
    assert len(imported) == 2000
    with pytest.raises(InputError, match=rf"AAA on 2026-11-19 and 2 more: several streams.*{IMPORT}.*{OTHER}.*stream="):
        l2_platform.read("trades", None, "2026-11-18", settings=settings)


def test_bounds_are_half_open_and_exact(client: Client, settings: Settings) -> None:
    def seqs(start: object, end: object, stream: str = LIVE) -> list[int]:
        return l2_platform.read("trades", None, start, end, stream=stream, columns=["seq"], settings=settings)["seq"].to_list()

    # Live rows count by receipt (…:10 + 10 ns is row 11), imports by the feed's time (7 ns before the second).
    assert seqs("2026-11-18T10:00:10", "2026-11-18T10:00:12") == [11, 12]
    assert seqs(datetime(2026, 11, 18, 15, 0, 10, tzinfo=UTC), "2026-11-18T15:00:12+00:00") == [11, 12]
    assert seqs("2026-11-18T10:00:10", "2026-11-18T10:00:12", IMPORT) == [12, 13]
    assert seqs("2026-11-18T21:00", "2026-11-18T22:00") == []
    assert seqs("2026-11-16", "2026-11-18") == [seq for _ in range(2) for seq in range(1, 3001)]


def test_types_are_exact_and_named_columns_come_in_order(client: Client, settings: Settings) -> None:
    frame = l2_platform.read(
        "trades", "BBB", "2026-11-18", "2026-11-19", columns=["ts_recv", "event_key", "price", "bid"], settings=settings
    )
    assert frame.schema == {
        "ts_recv": pl.Datetime("ns", "UTC"), "event_key": pl.String, "price": pl.Decimal(18, 9), "bid": pl.Decimal(18, 9),
    }  # fmt: skip
    assert frame["price"][0] == Decimal("123.457789001")
    assert frame["ts_recv"].cast(pl.Int64)[0] % 1_000_000_000 == 1
    assert frame["event_key"][0] == "BBB|2026-11-18|5|1"


def test_archived_dates_read_the_same_after_they_left_the_warehouse(client: Client, settings: Settings) -> None:
    for day in (date(2026, 11, 16), date(2026, 11, 17)):
        export_date(client, settings, SystemClock(), day)
    questions = [
        ("trades", ["AAA", "CCC"], "2026-11-16", "2026-11-19"), ("trades", None, "2026-11-16T10:10", "2026-11-17T10:20"),
        ("bars_1m", "AAA", "2026-11-16", "2026-11-18"), ("trades", "AAA", "2026-11-16T20:00", "2026-11-16T20:10"),
    ]  # fmt: skip
    before = [l2_platform.read(*question, settings=settings) for question in questions]
    client.command(f"ALTER TABLE l2.trades DROP PARTITION ('2026-11-16', '{LIVE}')")
    after = [l2_platform.read(*question, settings=settings) for question in questions]
    for one, other in zip(before, after, strict=True):
        assert one.schema == other.schema
        assert one.equals(other)
    assert [len(frame) for frame in before] == [6000, 3600, 102, 0]
    archived = l2_platform.read("trades", "AAA", "2026-11-16", "2026-11-18", archive_only=True, settings=settings)
    assert archived.equals(l2_platform.read("trades", "AAA", "2026-11-16", "2026-11-18", settings=settings))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("trade", "AAA"), {}, "did you mean 'trades'"),
        (("trades", "AAX"), {}, "no rows of AAX.*did you mean 'AAA'"),
        (("trades", []), {}, "give a name"),
        (("trades", "AAA", "2020-01-01", "2020-02-01"), {}, "nothing is recorded in trades between 2020-01-01 and 2020-01-31"),
        (("trades", "AAA", "soon"), {}, "start: 'soon' is no time"),
        (("trades", "AAA", "2026-11-18", "2026-11-18"), {}, "half-open"),
        (("trades", "AAA"), {"columns": ["prize"]}, "did you mean 'price'"),
        (("trades", "AAA"), {"stream": "iqfeed-level1-7"}, "no rows of AAA in stream 'iqfeed-level1-7'"),
        (("gap_events", "AAA"), {}, "l2 sql"),
        (("trades; DROP TABLE x", "AAA"), {}, "there is no table"),
    ],
)
def test_questions_that_name_nothing(
    client: Client, settings: Settings, arguments: tuple[object, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        l2_platform.read(*arguments, **options, settings=settings)


def test_too_many_rows_are_refused(client: Client, settings: Settings) -> None:
    small = settings.model_copy(update={"archive": settings.archive.model_copy(update={"read_rows_max": 2999})})
    with pytest.raises(InputError, match=r"3,000 rows are more than 2,999 \(archive.read_rows_max\)"):
        l2_platform.read("trades", None, "2026-11-17", "2026-11-18", settings=small)


def test_a_home_without_anything_and_a_server_that_is_away(tmp_path: Path, settings: Settings) -> None:
    empty = settings.model_copy(update={"home": tmp_path})
    with pytest.raises(InputError, match="is L2_HOME right"):
        l2_platform.read("trades", "AAA", settings=empty)
    assert not list(tmp_path.iterdir())
    away = settings.clickhouse.model_copy(update={"embedded": False, "port": 1, "timeout_s": 2})
    with pytest.raises(WarehouseError, match="`l2 up`, or pass archive_only=True"):
        l2_platform.read("trades", "AAA", settings=settings.model_copy(update={"clickhouse": away}))


def test_book_is_that_of_the_command(home: Home, settings: Settings) -> None:
    frame = l2_platform.book("AAPL", "2012-06-21T10:00:00", levels=5, settings=settings)
    assert frame["level"].to_list() == [1, 2, 3, 4, 5]
    assert frame.schema["bid_price"] == pl.Decimal(18, 9)
    shown = home.ok("book", "AAPL", "--at", "2012-06-21T10:00:00", "--levels", "5", "--json")
    for side, name in (("bids", "bid"), ("asks", "ask")):
        listed = re.search(rf'"{side}":\[(.*?)\]', shown)
        assert listed is not None
        found = re.findall(r'"price":([\d.]+),"size":(\d+)', listed[1])
        assert [(Decimal(price), int(size)) for price, size in found] == frame.select(f"{name}_price", f"{name}_size").rows()
    for symbol, at, message in (("ZZZ", "2012-06-21T10:00", "no depth of 'ZZZ'"), ("AAPL", "2012-06-21", "is no instant")):
        with pytest.raises(InputError, match=message):
            l2_platform.book(symbol, at, settings=settings)


def test_every_example_of_the_document_runs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOCUMENT), "exec"), names)
