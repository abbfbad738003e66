"""Wanted against sent, batch by batch, on a clock of the test."""

from l2_platform.collectors.subscription import Batch, Subscription

SECOND = 1_000_000_000


def drain(subscription: Subscription, now: int = 0) -> list[Batch]:
    batches = []
    while (batch := subscription.next_batch(now)) is not None:
        batches.append(batch)
    return batches


def ready(count: int = 3, **options) -> Subscription:
    subscription = Subscription(**options)
    subscription.want(f"S{number}" for number in range(count))
    subscription.connected(0)
    drain(subscription)
    assert subscription.take_completed()
    return subscription


def test_nothing_goes_out_before_a_connection():
    subscription = Subscription()
    subscription.want(["A"])
    assert subscription.next_batch(0) is None


def test_rollout_on_the_first_start_in_steps_with_pauses():
    subscription = Subscription(rollout_steps=(10, 100), rollout_pause_ns=SECOND, batch_max=500)
    subscription.want(f"S{number}" for number in range(1500))
    subscription.connected(0)
    assert [len(batch.symbols) for batch in drain(subscription, 0)] == [10]
    assert drain(subscription, SECOND - 1) == []
    assert [len(batch.symbols) for batch in drain(subscription, SECOND)] == [90]
    assert not subscription.complete
    assert [len(batch.symbols) for batch in drain(subscription, 2 * SECOND)] == [500, 500, 400]
    assert subscription.take_completed()
    assert not subscription.take_completed()
    assert subscription.complete


def test_reconnect_sends_all_at_once():
    subscription = Subscription(rollout_steps=(1,), rollout_pause_ns=SECOND, batch_max=2)
    subscription.want(["A", "B", "C"])
    subscription.connected(0)
    drain(subscription, 0)
    drain(subscription, SECOND)
    assert subscription.take_completed()
    subscription.disconnected()
    assert not subscription.sent
    subscription.connected(0)
    assert drain(subscription, 0) == [
        Batch(("A", "B"), True, False, "reconnect"),
        Batch(("C",), True, False, "reconnect"),
    ]


def test_change_touches_only_what_changed():
    subscription = ready(3)
    assert subscription.want(["S0", "S2", "NEW"]) == (("NEW",), ("S1",))
    assert drain(subscription) == [Batch(("S1",), False, False, "change"), Batch(("NEW",), True, False, "change")]
    assert set(subscription.sent) == {"S0", "S2", "NEW"}


def test_symbol_removed_and_wanted_again_before_anything_was_sent_is_watched():
    subscription = ready(1)
    subscription.want([])
    subscription.want(["S0"])
    assert [batch.watch for batch in drain(subscription)][-1] is True
    assert set(subscription.sent) == {"S0"}


def test_symbol_removed_during_the_first_sweep_is_not_sent():
    subscription = Subscription(batch_max=1)
    subscription.want(["A", "B"])
    subscription.connected(0)
    subscription.next_batch(0)
    subscription.want(["A"])
    assert drain(subscription) == []
    assert subscription.take_completed()


def test_send_all_again_asks_for_fresh_state():
    subscription = ready(2)
    subscription.send_all_again("session", 0)
    assert drain(subscription) == [Batch(("S0", "S1"), True, True, "session")]
    assert subscription.take_completed()


def test_not_found_waits_for_a_change_of_the_wanted_symbols():
    subscription = ready(2)
    subscription.unknown("S1")
    subscription.send_all_again("server", 0)
    assert drain(subscription) == [Batch(("S0",), True, True, "server")]
    subscription.want(["S0", "S1", "S2"])
    assert set(drain(subscription)[0].symbols) == {"S1", "S2"}


def test_limit_stops_adding_and_tries_later_with_growing_waits():
    subscription = ready(4)
    subscription.limit_reached("S3", 0)
    subscription.want(["S0", "S1", "S2", "S3", "S4"])
    assert drain(subscription, 29 * SECOND) == []
    tried = drain(subscription, 31 * SECOND)
    assert {symbol for batch in tried for symbol in batch.symbols} == {"S3", "S4"}
    subscription.limit_reached("S3", 32 * SECOND)
    assert drain(subscription, 91 * SECOND) == []
    assert [batch.why for batch in drain(subscription, 93 * SECOND)] == ["retry"]


def test_limit_lifted_when_something_is_unwatched():
    subscription = ready(3)
    subscription.limit_reached("S2", 0)
    subscription.want(["S0", "S2"])
    assert [(batch.watch, batch.symbols) for batch in drain(subscription, SECOND)] == [
        (False, ("S1",)),
        (True, ("S2",)),
    ]


def test_limit_in_the_middle_of_a_sweep_keeps_the_rest_back():
    subscription = Subscription(batch_max=2)
    subscription.want(f"S{number}" for number in range(6))
    subscription.connected(0)
    subscription.next_batch(0)
    subscription.limit_reached("S1", 0)
    assert drain(subscription, 1) == []
    assert subscription.take_completed()
    assert set(subscription.refused) == {"S1", "S2", "S3", "S4", "S5"}


def test_periodic_round_is_spread_and_reaches_everyone():
    subscription = ready(100, rewatch_ns=100 * SECOND)
    seen: list[str] = []
    for second in range(1, 101):
        batches = drain(subscription, second * SECOND)
        assert all(batch.why == "periodic" and batch.refresh and len(batch.symbols) == 1 for batch in batches)
        seen += [symbol for batch in batches for symbol in batch.symbols]
    assert sorted(seen) == sorted(f"S{number}" for number in range(100))
