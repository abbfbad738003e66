"""Rollouts: wrong wishes change nothing, steps are judged, a bad one is taken back. Collectors are played by heartbeat files."""

import threading

import pytest

from l2_platform.clock import SystemClock
from l2_platform.errors import InputError, L2Error
from l2_platform.monitoring.heartbeat import Heartbeat, Lease
from l2_platform.monitoring.symbols_file import (
    SymbolGroup,
    SymbolsFile,
    edit_symbols,
    load_symbols,
    symbols_of_stream,
    with_added,
    write_symbols,
)
from l2_platform.operations import rollout
from l2_platform.operations.intents import refresh_intents
from l2_platform.operations.rollout import Change, Gate, Rollout, RolloutFailed, plan_steps
from l2_platform.settings import Settings

CLOCK = SystemClock()
FILE = SymbolsFile(7, (SymbolGroup("demo", ("A", "B", "C")), SymbolGroup("off", ("X", "Y"), enabled=False)))
FAST = Gate(wait_s=2, steady_s=0.2)


def names(count):
    return tuple(f"N{number}" for number in range(count))


# ── the plan ──────────────────────────────────────────────────────────────────


def test_added_symbols_go_out_in_steps_and_the_rest_in_a_last_one():
    files = list(plan_steps(FILE, Change("new", add=names(2500))))
    assert [len(file.group("new").symbols) for file in files] == [10, 100, 1000, 2500]
    assert all(file.group("demo") == FILE.group("demo") for file in files)


def test_few_symbols_are_one_step_and_removal_comes_first():
    files = list(plan_steps(FILE, Change("demo", add=("D", "E", "D"), remove=("A",), enable_groups=("off",))))
    assert [file.symbols for file in files] == [("B", "C", "X", "Y"), ("B", "C", "D", "E", "X", "Y")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change(), "nothing to do"),
        (Change(add=("D",)), "name the group"),
        (Change("demo", add=("A",)), "already in group demo"),
        (Change("demo", add=("D",), remove=("D",)), "added and removed"),
        (Change(remove=("Z",)), "Z: in no group"),
        (Change(enable_groups=("of",)), "did you mean off"),
        (Change(enable_groups=("off",), disable_groups=("off",)), "enabled and disabled"),
        (Change("off", add=("D",)), "is disabled"),
        (Change("demo", add=("D",), disable_groups=("demo",)), "is disabled"),
        (Change("demo", add=("D",), steps=(0,)), "from 1"),
    ],
)
def test_senseless_change_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        list(plan_steps(FILE, change))


# ── with collectors ───────────────────────────────────────────────────────────


class Players:
    """Collectors and a delivery that beat as real ones do, ten times a second."""

    def __init__(self, settings):
        self.settings = settings
        self.limit = 10_000
        self.unknown = set()
        self.lag_s = 0.0
        self.gap_open = 0
        self.silent = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play)

    def __enter__(self):
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _play(self):
        while not self._stop.wait(0.1):
            self._beat()

    def _beat(self):
        file = load_symbols(self.settings.symbols_file)
        for stream in self.settings.streams:
            share = symbols_of_stream(file.symbols, stream, self.settings.streams)
            unknown = sorted(self.unknown & set(share))
            watched = min(len(share) - len(unknown), self.limit)
            self._say(
                f"collector-{stream}", wanted=len(share), watched=watched, refused=len(share) - len(unknown) - watched,
                not_found=len(unknown), not_found_names=unknown[:10], account_symbols_max=self.limit,
            )  # fmt: skip
        for sink in ("clickhouse", "jsonl"):
            self._say(f"deliver-{sink}", streams={"iqfeed-depth-0": {"lag_s": self.lag_s, "gap_open": self.gap_open}})

    def _say(self, worker, **numbers):
        if worker not in self.silent:
            path = self.settings.run_dir / "heartbeats" / f"{worker}.json"
            Heartbeat(path, worker, CLOCK).beat("live", generation=1, **numbers)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "LOOK_S", 0.05)
    made = Settings(home=tmp_path)
    write_symbols(made.symbols_file, FILE)
    refresh_intents(made, CLOCK.now_ns())
    return made


@pytest.fixture
def players(settings):
    with Players(settings) as found:
        yield found


def symbols(settings):
    return load_symbols(settings.symbols_file)


def roll(settings, change, gate=FAST):
    told: list[str] = []
    try:
        return Rollout(settings, CLOCK).run(change, gate, told.append), told
    except L2Error as error:
        error.told = told
        raise


def test_good_steps_leave_the_new_symbols_and_tell_each_step(settings, players):
    done, told = roll(settings, Change("new", add=names(30)))
    assert [(step.symbols, step.version) for step in done] == [(13, 8), (33, 9)]
    assert symbols(settings).group("new").symbols == names(30)
    assert told[0].startswith("step 1 of 2")


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ({"unknown": {"N12", "N15"}}, "the feed does not know N12, N15"),
        ({"limit": 20}, "the account's limit is 20"),
        ({"lag_s": 31.0}, "31 s behind in iqfeed-depth-0"),
        ({"gap_open": 1}, "open gaps in iqfeed-depth-0"),
        ({"silent": {"collector-iqfeed-depth-0"}}, "collector-iqfeed-depth-0"),
    ],
    ids=["unknown", "limit", "lag", "gap", "silent"],
)
def test_bad_second_step_takes_everything_back_and_says_why(settings, players, monkeypatch, trouble, words):
    wait_good = Rollout._wait_good

    def then_trouble(self, file, gate, told):
        waited = wait_good(self, file, gate, told)
        for name, value in trouble.items():
            setattr(players, name, value)
        return waited

    monkeypatch.setattr(Rollout, "_wait_good", then_trouble)
    with pytest.raises(RolloutFailed, match="was not good within 2 s") as caught:
        roll(settings, Change("new", add=names(30)))
    assert words in caught.value.message
    assert "Taken back: version 10 has the symbols of version 7 again" in caught.value.message
    assert symbols(settings).groups == FILE.groups


def test_instance_that_is_not_well_before_is_left_alone(settings, players):
    players.lag_s = 99.0
    CLOCK.sleep(0.3)
    with pytest.raises(InputError, match="nothing was changed"):
        roll(settings, Change("new", add=names(3)))
    assert symbols(settings) == FILE
    done, _ = roll(settings, Change("new", add=names(3)), Gate(enabled=False))
    assert done[0].symbols == 6


def test_symbols_that_were_unknown_before_are_not_this_changes_fault(settings, players):
    players.unknown = {"A"}
    CLOCK.sleep(0.3)
    assert roll(settings, Change("new", add=names(3)))[0][0].symbols == 6


def test_wrong_name_of_a_later_step_is_found_before_anything_is_changed(settings, players):
    with pytest.raises(L2Error, match="upper case"):
        roll(settings, Change("new", add=(*names(50), "lower")))
    assert symbols(settings) == FILE


def test_edit_by_somebody_else_in_between_is_never_overwritten(settings, players, monkeypatch):
    wait_good = Rollout._wait_good

    def then_edit(self, file, gate, told):
        waited = wait_good(self, file, gate, told)
        edit_symbols(self._settings.symbols_file, lambda now: with_added(now, "demo", ["MINE"]))
        return waited

    monkeypatch.setattr(Rollout, "_wait_good", then_edit)
    with pytest.raises(InputError, match="changed by somebody else"):
        roll(settings, Change("new", add=names(30)))
    assert "MINE" in symbols(settings).symbols


def test_run_that_is_ended_by_a_person_is_taken_back(settings, players, monkeypatch):
    class Ended(BaseException):
        pass

    def ended(*_):
        raise Ended

    monkeypatch.setattr(Rollout, "_wait_good", ended)
    with pytest.raises(Ended):
        Rollout(settings, CLOCK).run(Change("new", add=names(3)), FAST, lambda _: None)
    assert symbols(settings).groups == FILE.groups


def test_second_rollout_at_once_is_refused(settings, players):
    with Lease(settings.run_dir / "leases" / "roll-symbols"), pytest.raises(L2Error, match="another roll_symbols"):
        roll(settings, Change("new", add=names(3)))
