"""Random journals of depth: all three shapes at once, reconnects, gaps, resets, odd and bad lines, several segments, raw and sealed."""

from pathlib import Path

import numpy as np

from l2_platform.clock import SystemClock
from l2_platform.journal.frame import FrameFlag
from l2_platform.journal.sealer import seal_closed
from l2_platform.journal.writer import JournalWriter
from l2_platform.settings import JournalSettings, Settings
from tests.unit.delivery.journals import DATE, MS, T0, NoSync

STREAM = "iqfeed-depth-0"
SYMBOLS = ("ORD0", "ORD1", "VEN0", "VEN1", "LEV0", "LEV1", "MIX")
ODD_LINES = ("3,ORD0,x,,B,1,1,1,4,,,", "n,ORD0,", "q,VEN1,", "garbage", "3,NEW\x01,1,,B,1,1,1,4,,,", "M,NSDQ,Nasdaq,", "E,!NONE,")
VENUES = ("NSDQ", "ARCA", "BATS", "EDGX")


class RandomDepth:
    """Lines of a few symbols; the same seed gives the same."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ids: dict[str, list[int]] = {name: [] for name in SYMBOLS}
        self.next_id = 640_000_000_001

    def _pick(self, *choices: str) -> str:
        return choices[int(self.rng.integers(len(choices)))]

    def _price(self, side: str) -> str:
        cents = 10_000 + (-1 if side == "B" else 1) * int(self.rng.integers(-1, 12))
        return f"{cents / 100 + (0.0001 if self.rng.random() < 0.02 else 0):.4f}"

    def _size(self) -> int:
        draw = self.rng.random()
        if draw < 0.02:
            return int(self.rng.choice([0, -5, 10**18 - 1]))
        return int(self.rng.integers(1, 10)) * 100 if draw < 0.8 else int(self.rng.integers(1, 5000))

    def line(self) -> str:
        """The next one."""
        draw = self.rng.random()
        when = f"10:00:{int(self.rng.integers(60)):02d}.{int(self.rng.integers(10**6)):06d},2024-01-02,"
        if draw < 0.02:
            return f"T,20240102 10:00:{int(self.rng.integers(60)):02d}"
        if draw < 0.03:
            return f"S,CLEAR DEPTH,{self._pick(*SYMBOLS)},{self._pick('A', 'B')},"
        if draw < 0.034:
            return self._pick("S,SERVER DISCONNECTED,", "S,SERVER CONNECTED,")
        if draw < 0.05:
            return self._pick(*ODD_LINES)
        symbol = self._pick(*SYMBOLS)
        kind = symbol[:3] if symbol != "MIX" else self._pick("ORD", "VEN", "LEV")
        side = self._pick("A", "B")
        if kind == "LEV":
            if self.rng.random() < 0.3:
                return f"9,{symbol},{side},{self._price(side)},{when}"
            letter = "7" if self.rng.random() < 0.1 else "8"
            return f"{letter},{symbol},{side},{self._price(side)},{self._size()},{int(self.rng.integers(0, 9))},4,{when}"
        if kind == "VEN":
            return self._venue(symbol, side, when)
        return self._order(symbol, side, when)

    def _venue(self, symbol: str, side: str, when: str) -> str:
        venue, draw = self._pick(*VENUES), self.rng.random()
        if draw < 0.2:
            return f"5,{symbol},,{venue},{side},{when}"
        if draw < 0.35:
            prices = (self._price("B") if self.rng.random() < 0.9 else "", self._price("A") if self.rng.random() < 0.9 else "")
            clock, day = when.split(",")[:2]
            valid = "T" if self.rng.random() < 0.9 else "F"
            head = f"{self._pick('Z', '2')},{symbol},{venue},{prices[0]},{prices[1]}"
            return f"{head},{self._size()},{self._size()},{clock},{day},52,{clock},{valid},T,"
        letter = "6" if draw < 0.45 else "4"
        return f"{letter},{symbol},,{venue},{side},{self._price(side)},{self._size()},,4,{when}"

    def _order(self, symbol: str, side: str, when: str) -> str:
        known, draw = self.ids[symbol], self.rng.random()
        if known and draw < 0.35:
            number = known.pop(int(self.rng.integers(len(known))))
            return f"5,{symbol},{number},,{side},{when}"
        if known and draw < 0.5:
            number = known[int(self.rng.integers(len(known)))]
            return f"4,{symbol},{number},,{side},{self._price(side)},{self._size()},{number},4,{when}"
        self.next_id += int(self.rng.integers(1, 2000))
        number = self.next_id if draw < 0.97 else 1
        known.append(number)
        letter = "6" if draw > 0.94 else self._pick("3", "3", "3", "0")
        return f"{letter},{symbol},{number},{self._pick('', 'NSDQ')},{side},{self._price(side)},{self._size()},{number},4,{when}"


class RandomJournal:
    """A live stream of random depth; its clock now and then steps back."""

    def __init__(self, settings: Settings, seed: int, *, segment_bytes: int = 1 << 16, session_date: int = DATE) -> None:
        self.settings = settings
        self.depth = RandomDepth(seed)
        self.rng = np.random.default_rng(seed + 1)
        self.ts = T0
        self.writer = JournalWriter(
            settings.journal_dir, STREAM, JournalSettings(segment_bytes_max=segment_bytes), SystemClock(), calendar="always_open",
            durable_path=settings.run_dir / "durable" / STREAM, calls=NoSync(),
        )  # fmt: skip
        self.writer.open(session_date)
        self.control("session", session_date=session_date, reset=True)
        self.control("collector_start", pid=1, clean=True, last_ts=None, lost_tail_bytes=0)
        self.control("connect", host="127.0.0.1", port=1, attempt=1)

    def tick(self) -> int:
        self.ts += int(self.rng.integers(0, 3)) * MS if self.rng.random() < 0.98 else -20 * MS
        return self.ts

    def control(self, event: str, **fields: object) -> None:
        self.writer.control(event, self.tick(), 1, **fields)

    def frames(self, count: int) -> None:
        """So many frames, with what happens to a link in between."""
        for _ in range(count):
            draw = self.rng.random()
            if draw < 0.006:
                self.control("disconnect", reason="fin", last_byte_ns=self.ts)
                if draw < 0.004:
                    self.control("connect", host="127.0.0.1", port=1, attempt=1)
            elif draw < 0.008:
                self.control("session", session_date=DATE, reset=True)
            elif draw < 0.03:
                self.control("subscribed", symbols=3)
            elif draw < 0.04:
                self.writer.append(b"3,ORD0,7,,B,10", 1, self.tick(), 1, int(FrameFlag.FRAGMENT))
            lines = [self.depth.line().encode("latin-1") + b"\r\n" for _ in range(int(self.rng.integers(1, 12)))]
            self.writer.append(b"".join(lines), len(lines), self.tick(), 1)

    def close(self) -> None:
        """Nothing more comes; the date stays the running one."""
        self.writer.close()

    def roll(self, session_date: int) -> None:
        """The date is over."""
        self.writer.roll(session_date)
        self.control("session", session_date=session_date, reset=True)
        self.writer.close()

    def seal(self) -> int:
        """Seal what is closed; how many segments."""
        return len(seal_closed(self.settings.journal_dir, STREAM, JournalSettings(block_bytes=1 << 13)))


def settings_in(folder: Path) -> Settings:
    """Settings whose index has many small parts."""
    (folder / "run" / "durable").mkdir(parents=True)
    small = {"unit_bytes": 1 << 14, "group_rows_min": 1500, "group_rows_max": 4000, "group_slices_max": 64, "chunk_bytes": 1 << 12}
    settings = Settings(home=folder)
    return settings.model_copy(update={"book_index": settings.book_index.model_copy(update=small)})
