"""The five quantities for runs too long for whole rows in memory: counts and checksums of what must be there against what is.

A sum over every row of numbers that come from its content is equal on both sides only when the same rows are there, each once. What
does not belong here: rows that fit into memory (`checkers` compares them whole and tells which are wrong).
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.faults.checkers import Account, Received
from tests.integration.homes import Home

WRAP = (1 << 64) - 1
Sums = tuple[int, ...]


def lines_of(part: Received) -> Iterator[tuple[int, list[bytes]]]:
    """(seq, fields) of every whole line."""
    for seq, line in part.lines():
        yield seq, line.rstrip(b"\r").split(b",")


def depth_sums(parts: Sequence[Received]) -> Sums:
    """Rows, and sums over seq, order and size, that the received lines must give in `depth_updates`."""
    count = seqs = orders = sizes = 0
    for part in parts:
        for seq, fields in lines_of(part):
            kind = fields[0]
            if kind in {b"3", b"4", b"6"} and len(fields) >= 11:
                sizes += seq * int(fields[6])
            elif kind != b"5" or len(fields) < 7:
                continue
            count += 1
            seqs += seq
            orders += seq * int(fields[2])
    return count, seqs & WRAP, orders & WRAP, sizes & WRAP


def level1_sums(parts: Sequence[Received]) -> tuple[Sums, Sums]:
    """The same of `trades` (rows, seq, size) and `quotes` (rows, seq, bid size, ask size)."""
    trades, quotes = Counter[str](), Counter[str]()
    places: dict[str, int] = {}
    for part in parts:
        for seq, fields in lines_of(part):
            if fields[:2] == [b"S", b"CURRENT UPDATE FIELDNAMES"]:
                places = {name.decode(): place for place, name in enumerate(fields[1:])} | {"Symbol": 1}
            elif fields[0] in {b"Q", b"P"} and len(fields) > places["Message Contents"]:
                contents = set(fields[places["Message Contents"]])
                if fields[0] == b"Q" and contents & set(b"CEO"):
                    trades.update(count=1, seq=seq, size=seq * int(fields[places["Most Recent Trade Size"]]))
                if fields[0] == b"P" or contents & set(b"ab"):
                    bid, ask = int(fields[places["Bid Size"]]), int(fields[places["Ask Size"]])
                    quotes.update(count=1, seq=seq, bid=seq * bid, ask=seq * ask)
    return (
        tuple(trades[name] & WRAP for name in ("count", "seq", "size")),
        tuple(quotes[name] & WRAP for name in ("count", "seq", "bid", "ask")),
    )


def compare_table(home: Home, table: str, stream: str, where: str, columns: Sequence[str], expected: Sums) -> Account:
    """A table's count, distinct seqs and sums against what is expected of it."""
    sums = ", ".join(f"toString(sum({column})) AS s{number}" for number, column in enumerate(columns))
    (row,) = home.sql(
        f"SELECT count() AS n, uniqExact(session_date, seq) AS d, {sums} FROM {table} WHERE stream = '{stream}' AND {where}"
    )
    stored = int(row["n"]), *(int(row[f"s{number}"]) & WRAP for number in range(len(columns)))
    account = Account(table, expected[0], stored[0])
    account.duplicate = stored[0] - int(row["d"])
    account.missing = max(0, expected[0] - int(row["d"]))
    account.extra = max(0, int(row["d"]) - expected[0])
    if stored != expected and not (account.duplicate or account.missing or account.extra):
        account.missing = account.extra = 1
        account.note(f"sums {stored} instead of {expected}")
    return account


def stored_depth(home: Home, stream: str, parts: Sequence[Received]) -> Account:
    """`depth_updates` against the received lines."""
    columns = ("seq", "toUInt64(seq) * toUInt64(order_id)", "if(kind = 'delete', 0, toUInt64(seq) * toUInt64(size))")
    return compare_table(home, "depth_updates", stream, "kind != 'clear'", columns, depth_sums(parts))


def stored_level1(home: Home, stream: str, parts: Sequence[Received]) -> tuple[Account, Account]:
    """`trades` and `quotes` against the received lines."""
    trades, quotes = level1_sums(parts)
    weighed = "toUInt64(seq) * toUInt64({})"
    return (
        compare_table(home, "trades", stream, "1", ("seq", weighed.format("size")), trades),
        compare_table(
            home, "quotes", stream, "1", ("seq", weighed.format("bid_size"), weighed.format("ask_size")), quotes
        ),
    )


def stored_files(home: Home) -> list[Account]:
    """Lines of the files of each kind against the table of the same rows, and their order within each file."""
    accounts = []
    for kind, table in (("l2", "book_snapshots"), ("l1", "quotes"), ("ticks", "trades")):
        (row,) = home.sql(f"SELECT count() AS n, toString(sum(seq)) AS s, toString(sum(toUInt64(seq) * seq)) AS q FROM {table}")
        count = total = squares = disorder = 0
        for file in sorted((home.path / "jsonl" / "live").rglob(f"*_{kind}_*.jsonl")):
            last = 0
            with file.open("rb") as lines:
                for line in lines:
                    seq = json.loads(line)["seq"]
                    disorder += seq < last
                    last, count, total, squares = seq, count + 1, total + seq, squares + seq * seq
        account = Account(f"{kind} files", int(row["n"]), count, disorder=disorder)
        account.missing, account.extra = max(0, account.sent - count), max(0, count - account.sent)
        if (total & WRAP, squares & WRAP) != (int(row["s"]) & WRAP, int(row["q"]) & WRAP) and account.sent == count:
            account.missing = account.extra = 1
            account.note("other lines than the table has rows")
        accounts.append(account)
    return accounts
