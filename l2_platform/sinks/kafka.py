"""Records to a Kafka topic, each once and in order per key: an idempotent producer with a bounded queue.

A record that is not acknowledged in time ends the sending with an error; nothing is dropped silently. What does not belong here: what
the records say.
"""

from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from l2_platform.clock import Clock
from l2_platform.errors import SinkMisconfigured, SinkRejected, SinkUnavailable
from l2_platform.settings import KafkaSettings

POLL_S: Final = 0.1
UNKNOWN_TOPIC: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)  # noqa: SLF001  (the library names its own errors so)


class KafkaTopic:
    """Sends records to one topic; one thread calls."""

    def __init__(self, settings: KafkaSettings, topic: str, clock: Clock, *, options: dict[str, Any] | None = None) -> None:
        """Connect; SinkUnavailable when no broker answers within `connect_s`, SinkMisconfigured when the topic cannot be used.

        `options` of librdkafka go before ours.
        """
        self.topic = settings.topic_prefix + topic
        self.acknowledged = 0
        self._settings = settings
        self._clock = clock
        self._failure = ""
        base = {
            "bootstrap.servers": settings.bootstrap, "client.id": "l2_platform", "enable.idempotence": True, "acks": "all",
            "compression.type": "lz4", "linger.ms": 5, "queue.buffering.max.messages": settings.queue_messages_max,
            "queue.buffering.max.kbytes": settings.queue_bytes_max // 1024, "message.timeout.ms": int(settings.delivery_s * 1000),
            "log_level": 2,
        }  # fmt: skip
        try:
            self._producer = Producer(base | (options or {}))
        except (KafkaException, ValueError) as error:
            raise SinkMisconfigured(f"Kafka at {settings.bootstrap!r} cannot be used: {error}; check kafka.bootstrap") from None
        self._check()

    def send(self, key: bytes, value: bytes) -> None:
        """Queue one record; wait for room when the queue is full. SinkUnavailable or SinkRejected after a failed delivery."""
        deadline: int | None = None
        while True:
            self._raise_failure()
            try:
                self._producer.produce(self.topic, value=value, key=key, on_delivery=self._delivered)
            except BufferError:
                now = self._clock.monotonic_ns()
                deadline = deadline or now + int(self._settings.delivery_s * 1e9)
                if now >= deadline:
                    raise self._away(f"its queue of {self._settings.queue_messages_max:,} records stayed full") from None
                self._producer.poll(POLL_S)
                continue
            except KafkaException as error:
                raise SinkRejected(f"Kafka topic {self.topic} refuses a record of {len(value)} bytes: {error}") from None
            self._producer.poll(0)
            return

    def flush(self) -> None:
        """Wait until everything is acknowledged; SinkUnavailable when that takes longer than `delivery_s`."""
        left = self._producer.flush(self._settings.delivery_s + 1)
        self._raise_failure()
        if left:
            raise self._away(f"{left:,} records were not acknowledged")

    def abandon(self) -> None:
        """Give up what is queued."""
        self._producer.purge()
        self._producer.flush(1)

    def poll(self) -> None:
        """Take acknowledgements while nothing is sent."""
        self._producer.poll(0)
        self._raise_failure()

    def _check(self) -> None:
        try:
            told = self._producer.list_topics(self.topic, timeout=self._settings.connect_s)
        except KafkaException as error:
            raise self._away(f"no broker answered within {self._settings.connect_s:g} s ({_words(error)})") from None
        found = told.topics.get(self.topic)
        if found is not None and found.error is not None and found.error.code() not in UNKNOWN_TOPIC:
            raise SinkMisconfigured(f"Kafka topic {self.topic} cannot be used: {found.error.str()}")

    def _delivered(self, error: KafkaError | None, _: Any) -> None:
        if error is None:
            self.acknowledged += 1
        elif not self._failure:
            self._failure = error.str()

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._away(f"a record was not acknowledged: {self._failure}")

    def _away(self, what: str) -> SinkUnavailable:
        return SinkUnavailable(
            f"Kafka at {self._settings.bootstrap}, topic {self.topic}: {what}; {self.acknowledged:,} records are acknowledged. "
            "Check the brokers and kafka.bootstrap, or --bootstrap"
        )


def _words(error: KafkaException) -> str:
    cause = error.args[0] if error.args else error
    return str(cause.str()) if isinstance(cause, KafkaError) else str(cause)
