"""Books the slow, obvious way: plain dictionaries, its own reading of lines, no code shared with the platform."""

from dataclasses import dataclass, field
from fractions import Fraction

BUILDING, GOOD, SUSPECT = 0, 1, 2


@dataclass
class Book:
    shape: str = ""
    trust: int = BUILDING
    fresh: bool = True
    cleared: set = field(default_factory=set)
    rows: dict = field(default_factory=dict)
    """orders: id → (side, price, size); venues: (venue, side) → (side, price, size)"""
    levels: dict = field(default_factory=lambda: {"B": {}, "A": {}})
    unknown: int = 0
    negative: int = 0
    mixed: int = 0
    crossed: int = 0
    locked: int = 0
    state: str = ""

    def ladder(self, side):
        if self.shape == "levels":
            found = {price: (size, count) for price, (size, count) in self.levels[side].items()}
        else:
            found = {}
            for row_side, price, size in self.rows.values():
                if row_side == side:
                    total, number = found.get(price, (0, 0))
                    found[price] = (total + size, number + 1)
        return [(price, *found[price]) for price in sorted(found, reverse=side == "B")]

    def clear(self, side):
        self.levels[side] = {}
        self.rows = {key: row for key, row in self.rows.items() if row[0] != side}


class BookOracle:
    """Feed it lines; read books, trust and what was recorded."""

    def __init__(self, top=10, interval_ns=0):
        self.books = {}
        self.top = top
        self.interval_ns = interval_ns
        self.last = {}
        self.recorded = []

    def line(self, seq, ts, text):
        fields = text.rstrip("\r\n").split(",")
        fields += [""] * (16 - len(fields))
        kind = fields[0]
        symbol = fields[1]
        if kind == "S" and fields[1] == "CLEAR DEPTH":
            symbol = fields[2]
        before = self.view(symbol)
        self.dispatch(kind, fields)
        after = self.view(symbol)
        if before != after:
            book = self.books[symbol]
            best = [ladder[0][0] if ladder else None for ladder in (book.ladder("B"), book.ladder("A"))]
            if kind != "S":
                state = ""
                if None not in best:
                    state = "crossed" if best[0] > best[1] else "locked" if best[0] == best[1] else ""
                if state != book.state:
                    book.crossed += state == "crossed"
                    book.locked += state == "locked"
                book.state = state
            cut_before = [ladder[: self.top] for ladder in before]
            cut_after = [ladder[: self.top] for ladder in after]
            last = self.last.get(symbol)
            if cut_before != cut_after and (last is None or self.interval_ns == 0 or ts >= last + self.interval_ns):
                self.last[symbol] = ts
                self.recorded.append((seq, symbol, book.trust, cut_after))

    def view(self, symbol):
        book = self.books.get(symbol)
        return [book.ladder("B"), book.ladder("A")] if book else [[], []]

    def dispatch(self, kind, fields):
        if kind in {"0", "3", "4", "5", "6"}:
            shape = "orders" if fields[2] else "venues"
            if kind == "0" and not fields[2] and not fields[3]:
                shape = "levels"
            self._row(kind, fields[1], shape, fields)
        elif kind in {"7", "8", "9"}:
            self._row(kind, fields[1], "levels", fields)
        elif kind in {"Z", "2"}:
            self._row(kind, fields[1], "venues", fields)
        elif kind == "T":
            for book in self.books.values():
                if book.trust == BUILDING and not book.fresh:
                    book.trust = GOOD
        elif kind == "S" and fields[1] == "CLEAR DEPTH":
            self._clear(fields[2], fields[3])
        elif kind == "S" and fields[1] == "SERVER DISCONNECTED":
            for book in self.books.values():
                if book.shape:
                    book.trust = SUSPECT
                    book.cleared = set()

    def _clear(self, symbol, side):
        book = self.books.setdefault(symbol, Book())
        book.clear(side)
        book.state = ""
        if book.trust == SUSPECT:
            book.cleared.add(side)
            if book.cleared == {"A", "B"}:
                book.trust = BUILDING
                book.cleared = set()
        else:
            book.trust = BUILDING
        book.fresh = True

    def _row(self, kind, symbol, shape, fields):
        book = self.books.setdefault(symbol, Book())
        deletes = kind in {"5", "9"}
        if not book.shape and not deletes:
            book.shape = shape
        if book.shape and book.shape != shape:
            book.mixed += 1
            return
        if kind in {"6", "7", "Z"}:
            if book.trust == SUSPECT:
                book.clear("A")
                book.clear("B")
                book.trust, book.fresh = BUILDING, False
            elif book.fresh:
                book.trust, book.fresh = BUILDING, False
        elif book.trust == BUILDING:
            book.trust, book.fresh = GOOD, False
        if shape == "levels":
            self._level(book, kind, deletes, fields)
        elif kind in {"Z", "2"}:
            for side, price, size, valid in (("B", 3, 5, 11), ("A", 4, 6, 12)):
                amount = 0 if fields[valid] == "F" else int(fields[size])
                self._put(book, (fields[2], side), side, fields[price], amount)
        else:
            side = fields[4]
            key = fields[2] or (fields[3], side)
            if deletes:
                if book.rows.pop(key, None) is None:
                    book.unknown += 1
            else:
                self._put(book, key, side, fields[5], int(fields[6]))

    @staticmethod
    def _put(book, key, side, price, size):
        if size < 0:
            book.negative += 1
        if size <= 0:
            book.rows.pop(key, None)
        else:
            book.rows[key] = (side, Fraction(price), size)

    @staticmethod
    def _level(book, kind, deletes, fields):
        at = 4 if kind == "0" else 2
        side = fields[at]
        price = Fraction(fields[at + 1])
        if deletes:
            if book.levels[side].pop(price, None) is None:
                book.unknown += 1
            return
        size = int(fields[at + 2])
        count = 0 if kind == "0" else int(fields[at + 3] or 0)
        if size < 0:
            book.negative += 1
        if size <= 0:
            book.levels[side].pop(price, None)
        else:
            book.levels[side][price] = (size, count)
