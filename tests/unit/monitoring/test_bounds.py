import json

from prometheus_client.parser import text_string_to_metric_families

from l2_platform.monitoring.bounds import Bound, Timing, bounds_record
from l2_platform.monitoring.heartbeat import Heartbeat, HeartbeatRecord, read_heartbeat
from l2_platform.monitoring.metrics import render


class FixedClock:
    def now_ns(self) -> int:
        return 5_000_000_000

    def monotonic_ns(self) -> int:
        return 0

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_bound_keeps_now_high_and_how_often_it_was_reached():
    bound = Bound("queue", 10, "rows", "some.queue_max")
    for value in (3, 10, 11, 4, 10, 2):
        bound.see(value)
    assert bound.as_record() == {
        "now": 2, "high": 11, "limit": 10, "reached": 2, "unit": "rows", "setting": "some.queue_max",
    }  # fmt: skip
    bound.hit()
    assert (bound.now, bound.high, bound.reached) == (2, 11, 3)


def test_an_enforced_limit_was_reached_even_if_no_value_was_seen():
    bound = Bound("line", 65_536, "bytes", "some.line_max")
    bound.hit()
    assert (bound.high, bound.reached) == (65_536, 1)


def test_bounds_of_one_name_are_told_as_one():
    bounds = [Bound("rows", 10, "rows", "some.rows_max") for _ in range(2)]
    bounds[0].see(7)
    bounds[1].see(10)
    bounds[1].see(1)
    assert bounds_record(bounds)["rows"] | {"unit": "", "setting": ""} == {
        "now": 7, "high": 10, "limit": 10, "reached": 1, "unit": "", "setting": "",
    }  # fmt: skip


def test_heartbeats_become_text_that_parses(tmp_path):
    path = tmp_path / "collector.json"
    bound = Bound("unsynced_bytes", 100, "bytes", "journal.unsynced_bytes_max")
    bound.see(100)
    syncs = Timing()
    syncs.add(0.25)
    syncs.add(0.5)
    Heartbeat(path, "collector", FixedClock()).beat(
        "live", generation=3, lines=7, connected=True, last_error="E,oh", bounds=bounds_record([bound]), fsync=syncs.as_record()
    )
    record = read_heartbeat(path)
    assert record is not None
    delivery = HeartbeatRecord("deliver", 1, 0, 0, "degraded", 0, {"streams": {"iqfeed-depth-0": {"seq": 9, "gaps": 2, "lag_s": 1.5}}})
    found = samples(render([record, delivery], 7_000_000_000))
    worker = ("worker", "collector")
    labels = (("bound", "unsynced_bytes"), ("setting", "journal.unsynced_bytes_max"), ("unit", "bytes"), worker)
    assert found["l2_bound_high", labels] == 100
    assert found["l2_bound_reached_total", labels] == 1
    assert found["l2_fsync_seconds_count", (worker,)] == 2
    assert found["l2_fsync_seconds_sum", (worker,)] == 0.75
    assert found["l2_fsync_longest_seconds", (worker,)] == 0.5
    assert found["l2_lines_total", (worker,)] == 7
    assert found["l2_connected", (worker,)] == 1
    assert found["l2_heartbeat_age_seconds", (worker,)] == 2
    assert found["l2_worker_up", (worker,)] == 1
    assert found["l2_worker_up", (("worker", "deliver"),)] == 0
    assert found["l2_gaps_total", (("stream", "iqfeed-depth-0"), ("worker", "deliver"))] == 2
    assert render([record], 0, openmetrics=True).endswith("# EOF\n")


def test_a_heartbeat_with_strange_numbers_gives_no_samples_of_them():
    strange = {"lines": "many", "streams": 4, "bounds": None, "fsync": [], "rows": None}
    found = samples(render([HeartbeatRecord("x", 1, 0, 0, "live", 0, json.loads(json.dumps(strange)))], 0))
    assert {name for name, _ in found} == {"l2_worker_up", "l2_worker_state", "l2_heartbeat_age_seconds", "l2_worker_generation"}
