"""Prices as fixed-point integers: 1e-9 of the currency unit in an int64, so up to ±9.2 billion units with nine decimals.

Here: the scale and exact conversions. Kernels parse prices from bytes themselves. No float is used inside `market` and `book`;
floats appear only where people or JSON want them.
"""

from decimal import Decimal
from typing import Final

PRICE_SCALE: Final = 1_000_000_000
"""Units of one currency unit."""
PRICE_DECIMALS: Final = 9
"""Decimals of the scale."""


def price_from_text(text: str) -> int:
    """Exact fixed-point value of a decimal text (`188.3500`, `2938.`, `-0.5`); ValueError when it is none or has more than 9 decimals."""
    scaled = Decimal(text.strip()) * PRICE_SCALE
    value = int(scaled)
    if value != scaled or not -(2**63) < value < 2**63:
        msg = f"{text!r} is no price with at most nine decimals and less than 9.2e9"
        raise ValueError(msg)
    return value


def decimal_from_price(price: int) -> Decimal:
    """The exact decimal number of a fixed-point price."""
    return Decimal(price).scaleb(-PRICE_DECIMALS)


def text_from_price(price: int, decimals: int = 2) -> str:
    """The price with at least `decimals` decimals and no digit lost (`585.94`, `0.0001`)."""
    sign = "-" if price < 0 else ""
    whole, fraction = divmod(abs(price), PRICE_SCALE)
    digits = f"{fraction:09d}".rstrip("0")
    return f"{sign}{whole}.{digits.ljust(decimals, '0')}" if digits or decimals else f"{sign}{whole}"
