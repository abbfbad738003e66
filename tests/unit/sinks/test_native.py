"""The Native encoder beside a reading thread: names that come while a block is being made."""

import numpy as np

from l2_platform.market.events import NO_SYMBOL, TableBatch
from l2_platform.sinks.native import NativeEncoder


class GrowingNames(list[str]):
    """A symbol list to which another thread adds a name at every look."""

    def __len__(self) -> int:
        count = super().__len__()
        self.append(f"NEW{count}")
        return count


def events(symbols: list[str], numbers: list[int]) -> TableBatch:
    rows = len(numbers)
    columns = {
        "seq": np.arange(1, rows + 1, dtype=np.uint64), "ordinal": np.zeros(rows, np.uint32), "symbol": np.array(numbers, np.int32),
        "ts_event": np.zeros(rows, np.int64), "ts_recv": np.zeros(rows, np.int64), "kind": ["system"] * rows, "detail": ["{}"] * rows,
        "raw": [""] * rows,
    }  # fmt: skip
    return TableBatch("feed_events", "iqfeed-depth-0", 20240102, "live", symbols, columns)


def test_names_that_come_meanwhile_change_nothing() -> None:
    numbers = [0, NO_SYMBOL, 1, 0]
    still = NativeEncoder().encode(events(["A", "B"], numbers), 0, len(numbers))
    encoder, growing = NativeEncoder(), GrowingNames(["A", "B"])
    for _ in range(5):
        assert encoder.encode(events(growing, numbers), 0, len(numbers)) == still
