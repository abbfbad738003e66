"""A stored day to a Kafka topic: librdkafka's own broker in this process, a real consumer, every row once and in order."""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from l2_platform.clock import SystemClock
from l2_platform.errors import SinkUnavailable
from l2_platform.replay.pace import AS_FAST_AS_POSSIBLE
from l2_platform.replay.serving import Order
from l2_platform.replay.to_kafka import send_day
from l2_platform.settings import KafkaSettings
from l2_platform.sinks.kafka import KafkaTopic
from tests.integration.stored_days import (
    DATE,
    DEPTH,
    LEVEL1,
    depth_day,
    level1_day,
    lines_of,
    settings_in,
    write_stream,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def brokers():
    """host:port of three brokers that live in this process."""
    holder = Producer({"test.mock.num.brokers": 3, "bootstrap.servers": "replaced"})
    found = holder.list_topics(timeout=20).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in found)
    holder.flush(1)


def records_of(brokers: str, topic: str, count: int) -> list[tuple[Any, str, dict[str, Any]]]:
    """(partition, key, record) of everything in a topic; more than `count` are looked for, too."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "test", "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    found: list[tuple[Any, str, dict[str, Any]]] = []
    deadline = time.monotonic() + 60
    quiet_since = time.monotonic()
    while time.monotonic() < deadline and (len(found) < count or time.monotonic() - quiet_since < 1):
        for message in consumer.consume(1000, 0.2):
            assert message.error() is None
            found.append((message.partition(), message.key().decode(), json.loads(message.value())))
            quiet_since = time.monotonic()
    consumer.close()
    return found


def test_consumer_sees_every_row_once_in_order_per_symbol(tmp_path: Path, numba_cache, brokers):
    settings = settings_in(tmp_path, kafka={"bootstrap": brokers, "topic_prefix": "l2."})
    depth, level1 = depth_day(), level1_day()
    write_stream(settings, DEPTH, depth)
    write_stream(settings, LEVEL1, level1)
    outcome = send_day(settings, Order(DATE, speed=20.0), "day")
    sent = len(lines_of(depth, b"3")) + len(lines_of(level1, b"Q")) + len(lines_of(level1, b"F"))
    assert (outcome.complete, outcome.record["records"], outcome.record["topic"]) == (True, sent, "l2.day")
    found = records_of(brokers, "l2.day", sent)
    assert len(found) == sent
    assert len({(row["stream"], row["session_date"], row["seq"]) for _, _, row in found}) == sent
    by_symbol: dict[tuple[str, str], list[int]] = defaultdict(list)
    partitions = defaultdict(set)
    for partition, key, row in found:
        assert key == row["symbol"]
        partitions[key].add(partition)
        by_symbol[key, row["stream"]].append(row["seq"])
    assert set(by_symbol) == {(name, stream) for name in ("AAA", "BBB") for stream in (DEPTH, LEVEL1)}
    assert all(len(places) == 1 for places in partitions.values())
    assert all(seqs == sorted(seqs) for seqs in by_symbol.values())
    orders = sorted((row for _, _, row in found if row["stream"] == DEPTH), key=lambda row: row["seq"])
    for row, line in zip(orders, lines_of(depth, b"3"), strict=True):
        field = line.decode().split(",")
        told = (row["kind"], row["symbol"], str(row["order_id"]), row["side"], row["price"], row["size"], row["priority"])
        assert told == (field[0], field[1], field[2], field[4], float(field[5]), int(field[6]), int(field[7]))
    trade = next(row for _, _, row in found if row["stream"] == LEVEL1 and row["kind"] == "Q")
    assert {"price", "bid", "ask", "ts_recv", "total_volume"} <= trade.keys()


def test_only_the_chosen_symbols_and_times_are_sent(tmp_path: Path, numba_cache, brokers):
    settings = settings_in(tmp_path, kafka={"bootstrap": brokers})
    write_stream(settings, DEPTH, depth_day())
    outcome = send_day(settings, Order(DATE, symbols=("BBB",), speed=AS_FAST_AS_POSSIBLE, begin="10:00:01", end="10:00:02"), "part")
    stored = [step for at, step in depth_day() if isinstance(step, bytes) and step.startswith(b"3,BBB") and 1000 <= at <= 2000]
    assert outcome.record["records"] == len(stored)
    found = records_of(brokers, "part", len(stored))
    assert sorted(row["order_id"] for _, _, row in found) == [int(line.split(b",")[2]) for line in stored]


def test_queue_that_is_full_waits_and_loses_nothing(brokers):
    settings = KafkaSettings(bootstrap=brokers, queue_messages_max=100)
    topic = KafkaTopic(settings, "narrow", SystemClock())
    for number in range(2000):
        topic.send(b"k", json.dumps({"n": number}).encode())
    topic.flush()
    assert topic.acknowledged == 2000
    assert [row["n"] for _, _, row in records_of(brokers, "narrow", 2000)] == list(range(2000))


def test_brokers_that_do_not_answer_end_the_wish_in_bounded_time(tmp_path: Path, numba_cache):
    settings = settings_in(tmp_path, kafka={"bootstrap": "127.0.0.1:1", "connect_s": 1.0})
    write_stream(settings, DEPTH, depth_day(20))
    with pytest.raises(SinkUnavailable, match="no broker answered within 1 s") as error:
        send_day(settings, Order(DATE), "day")
    assert "--bootstrap" in error.value.message
