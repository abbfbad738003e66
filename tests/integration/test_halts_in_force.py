"""An open silence of a halted symbol counts nowhere while the halt is in force, and everywhere when halts cannot be had."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.quality.audit import audit_date
from l2_platform.quality.completeness import judge_date
from l2_platform.quality.findings import CheckResult
from l2_platform.quality.ledger import load_gaps
from l2_platform.quality.report import DayReport, write_report
from l2_platform.quality.silence import gaps_now
from l2_platform.quality.table_proofs import judge_table
from l2_platform.resources.proofs import ProofsResource
from l2_platform.settings import Settings
from tests.integration.audit_rows import BEGIN_NS, DAY, put_symbol
from tests.integration.homes import Home
from tests.integration.recorded_days import end_warehouse
from tests.integration.reported_days import put_gap
from tests.integration.stored import make_home, warehouse

pytestmark = pytest.mark.integration
NUMBER = 20260306
NOW_NS = BEGIN_NS + 1_800 * 10**9
"""10:30 in New York: the date is running."""
HALTS = "Halt Date,Halt Time,Issue Symbol,Reason Codes,Resumption Date,Resumption Trade Time\n03/06/2026,10:15:00,HALTED,T1,,\n"


class At(SystemClock):
    """10:30 of the date."""

    def now_ns(self) -> int:
        return NOW_NS


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Home]:
    """A date on which one symbol is halted and another one is just silent."""
    made = make_home(tmp_path_factory.mktemp("home"), numba_cache)
    made.variables["L2_GAPS__HALTS"] = "halts.csv"
    made.path.joinpath("halts.csv").write_text(HALTS)
    with warehouse(made.settings) as client:
        for place, symbol in enumerate(("HALTED", "SILENT")):
            put_symbol(client, symbol, place)
            put_gap(client, DAY, symbol, "15:15:00", None, "symbol_silence", symbols=[symbol])
    yield made
    end_warehouse(made.settings)


@pytest.fixture
def unread(home: Home) -> Settings:
    """Settings of which the halts cannot be read."""
    settings = home.settings
    return settings.model_copy(update={"gaps": settings.gaps.model_copy(update={"halts": "absent.csv"})})


def lost_of(made: DayReport) -> dict[str, str]:
    """What a report says of each silence."""
    return {gap.symbols[0]: gap.explanation for gap in made.facts.gaps.need()}


def silences_of(settings: Settings) -> CheckResult:
    """The check of the audit that judges silences; statements over the ledger alone have no stream."""
    (found,) = audit_date(settings, DAY, At(), ["silence_explained"]).checks
    return found


def test_a_running_date_does_not_count_the_halt(home: Home) -> None:
    made = write_report(home.settings, NUMBER, At())
    assert lost_of(made) == {"HALTED": "halt", "SILENT": ""}
    counts = made.as_dict()["gaps"]
    assert (counts["all"], counts["explained"], counts["unexplained"]) == (2, 1, 1)
    told = [item.what for item in made.verdict.todo]
    assert "1 gap did not end" in told
    assert not any("halts" in text for text in told)
    (proof,) = [proof for proof in judge_table(made.facts, "trades", {}) if proof.name == "no_unexplained_gaps"]
    assert (proof.numbers["gaps"], proof.numbers["unexplained"], proof.numbers["unexplained_s"]) == (2, 1, 900.0)
    assert {found.symbol for found in silences_of(home.settings).findings if found.symbol} == {"SILENT"}
    with warehouse(home.settings) as client:
        found, why = gaps_now(home.settings, client, DAY, NOW_NS)
        assert ({gap.symbols[0]: gap.explanation for gap in found}, why) == (lost_of(made), "")
        assert {gap.explanation for gap in load_gaps(client, "l2", DAY)} == {""}, "the ledger is the delivery's"


def test_a_date_that_is_over_does_not_count_a_halt_that_outlasted_it(home: Home) -> None:
    judged = {one.symbol: one for one in judge_date(home.settings, NUMBER, SystemClock()).symbols}
    halted, silent = judged["HALTED"].facts, judged["SILENT"].facts
    # from 10:15 to 20:00 in New York; minutes without a row of any symbol are those that no gap of the symbol tells of
    until_end = (9 * 60 + 45) * 60.0
    assert (halted.gap_s, halted.explained_s, halted.unexplained_s - halted.dark_s) == (until_end, until_end, 0.0)
    assert (silent.gap_s, silent.explained_s, silent.unexplained_s - silent.dark_s) == (until_end, 0.0, until_end)
    # the asset `gaps` and the page read the same
    facts = ProofsResource(settings=home.settings).facts(NUMBER)
    assert {gap.symbols[0]: gap.explanation for gap in facts.gaps.need()} == {"HALTED": "halt", "SILENT": ""}


def test_without_the_halts_it_counts_and_why_is_told(unread: Settings) -> None:
    made = write_report(unread, NUMBER, At())
    assert lost_of(made) == {"HALTED": "", "SILENT": ""}
    assert any("halts explain no open gap" in item.what and "absent.csv" in item.what for item in made.verdict.todo)
    assert {found.symbol for found in silences_of(unread).findings if found.symbol} == {"HALTED", "SILENT"}
    verdict = judge_date(unread, NUMBER, SystemClock())
    assert "absent.csv" in verdict.message
    assert {one.facts.explained_s for one in verdict.symbols} == {0.0}
