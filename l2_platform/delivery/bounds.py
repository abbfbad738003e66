"""How near a delivery comes to its limits: counters that reads and writes tell, for its heartbeat."""

from collections.abc import Iterator

from l2_platform.monitoring.bounds import Bound
from l2_platform.settings import DeliverySettings
from l2_platform.sinks.jsonl import JsonlSink
from l2_platform.sinks.sink import Sink


class FollowerBounds:
    """The limits of one stream's way into one sink."""

    def __init__(self, settings: DeliverySettings, names_max: int) -> None:
        self.read_bytes = Bound("read_bytes", settings.read_bytes_max, "bytes", "delivery.read_bytes_max")
        self.read_lines = Bound("read_lines", settings.read_lines_max, "lines", "delivery.read_lines_max")
        self.names = Bound("symbol_names", names_max, "names", "symbols.names_max")
        self.rows = Bound("write_rows", settings.batch_rows_max, "rows", "delivery.batch_rows_max")
        self.failures = Bound("write_failures", settings.breaker_failures, "failures", "delivery.breaker_failures")

    def read(self, size: int, lines: int, names: int) -> None:
        """One read of the journal: bytes, lines; and how many symbol names the stream has brought."""
        self.read_bytes.see(size)
        self.read_lines.see(lines)
        self.names.see(names)

    def wrote(self, rows: int) -> None:
        """One write ended well; `rows` of its largest table."""
        self.rows.see(rows)
        self.failures.see(0)

    def __iter__(self) -> Iterator[Bound]:
        return iter((self.read_bytes, self.read_lines, self.names, self.rows, self.failures))


def sink_bounds(sink: Sink) -> tuple[Bound, ...]:
    """The limits of a sink itself."""
    return (sink.open_files,) if isinstance(sink, JsonlSink) else ()
