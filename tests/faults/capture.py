"""A capture of depth lines of a given size, made here: every kind of line, both line ends, empty and bad lines among the good.

What belongs here: bytes as a feed could send them, the same for the same seed. What does not: how they are cut (`test_splits`).
"""

import random

HEAD = (
    b"S,KEY,12345\r\nS,SERVER CONNECTED\r\nS,CURRENT PROTOCOL,6.2\r\nT,20240102 09:30:00\r\n"
    b"S,CUST,real_time,127.0.0.1,60002,x,6.2.0,0,ABC,,500,QT_API,,,\r\n"
)
ODD = (
    b"\r\n", b"\n", b"E,something is wrong,\r\n", b"n,NOPE\r\n", b"q,ZZZ\r\n", b"3,\r\n", b"4,AAPL,x,y\r\n", b"\xff\xfe\x00\r\n",
    b"T,20240102 09:30:01\r\n", b"S,CLEAR DEPTH,SYM1,B,\r\n", b"M,NSDQ,NASDAQ,1,,\r\n", b"a line of its own\n",
)  # fmt: skip


def capture(size: int, seed: int = 5) -> bytes:
    """At least `size` bytes of whole lines."""
    chance = random.Random(seed)
    lines, total = [HEAD], len(HEAD)
    orders: dict[int, tuple[str, str]] = {}
    number = 0
    while total < size:
        if chance.random() < 0.05:
            line = chance.choice(ODD)
        else:
            number += 1
            line = _order_line(chance, orders, number)
        lines.append(line)
        total += len(line)
    return b"".join(lines)


def _order_line(chance: random.Random, orders: dict[int, tuple[str, str]], number: int) -> bytes:
    time = f"09:{30 + number // 6000 % 30:02}:{number // 100 % 60:02}.{number % 100:02}0000,2024-01-02"
    if orders and chance.random() < 0.6:
        order = chance.choice(list(orders))
        symbol, side = orders[order]
        if chance.random() < 0.5:
            del orders[order]
            return f"5,{symbol},{order},,{side},{time},\r\n".encode()
        kind = "4"
    else:
        order, symbol, side = number, f"SYM{chance.randrange(3)}", chance.choice("AB")
        orders[order] = symbol, side
        kind = chance.choice("36")
    price = (101 if side == "A" else 99) + chance.randrange(100) / 100
    return f"{kind},{symbol},{order},,{side},{price:.4f},{chance.randrange(1, 900)},{number},4,{time},\r\n".encode()
