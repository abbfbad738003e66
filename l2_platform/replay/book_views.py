"""Books at many instants by one reading of the journal from the beginning of the date: what the book index is proven with."""

from collections.abc import Iterator, Sequence

import numpy as np

from l2_platform.journal.reader import Control
from l2_platform.market.events import DepthBatch
from l2_platform.replay.books import BookReader, BookView, head
from l2_platform.settings import Settings


def views_at(
    settings: Settings, stream: str, session_date: int, questions: Sequence[tuple[str, int]], levels: int = 10, read_bytes: int = 1 << 20
) -> Iterator[BookView]:
    """The book of each (symbol, instant), the instants in order, from the public parts of `BookReader` only."""
    reader = BookReader(settings, stream, session_date, from_checkpoint=False, levels=levels)
    waiting = list(questions)[::-1]

    def due(before: int) -> Iterator[BookView]:
        while waiting and waiting[-1][1] < before:
            yield reader.view(waiting.pop()[0], levels)

    while items := reader.journal.read(read_bytes):
        for item in items:
            if isinstance(item, Control) and reader.is_live:
                yield from due(item.ts_recv)
            for batch in reader.pipeline.decoded([item]):
                times = reader.times(batch)
                done = 0
                while done < len(batch):
                    # Rows up to the next instant that is asked for.
                    stop = int(np.searchsorted(times, waiting[-1][1], side="right")) if waiting else len(batch)
                    if stop > done:
                        part = rows_between(batch, done, stop)
                        reader.apply(part, times[done:stop], stop - done)
                        done = stop
                    if done < len(batch):
                        yield from due(int(times[done]))
    yield from due(1 << 63)


def rows_between(batch: DepthBatch, first: int, last: int) -> DepthBatch:
    """Rows of a batch as a batch."""
    whole = head(batch, last)
    if not first:
        return whole
    pairs = int(np.searchsorted(whole.pair_row, first))
    for name in type(whole).__dataclass_fields__:
        if name not in {"buffer", "trust"}:
            setattr(whole, name, getattr(whole, name)[pairs if name.startswith("pair_") else first :])
    whole.pair_row = whole.pair_row - first
    return whole
