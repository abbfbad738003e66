"""Level 1 field names that this feed knows, and how each is written.

What does not belong here: the writing itself (`line_kernels`).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from l2_platform.feeds.iqfeed.simulator import flow_kernels as flow
from l2_platform.feeds.iqfeed.simulator import line_kernels as lines

FIELDS: Final[dict[str, tuple[int, int]]] = {
    "Most Recent Trade": (lines.F_PRICE, flow.L_PRICE),
    "Most Recent Trade Size": (lines.F_INT, flow.L_SIZE),
    "Most Recent Trade Time": (lines.F_TIME, flow.L_TS),
    "Most Recent Trade Date": (lines.F_DATE, flow.L_TS),
    "Most Recent Trade Conditions": (lines.F_CONDITION, flow.L_CONDITION),
    "Most Recent Trade Market Center": (lines.F_INT, flow.L_CENTER),
    "Most Recent Trade Aggressor": (lines.F_INT, flow.L_AGGRESSOR),
    "Most Recent Trade Day Code": (lines.F_DAY, flow.L_TS),
    "Last": (lines.F_PRICE, flow.L_LAST),
    "Last Size": (lines.F_INT, flow.L_LAST_SIZE),
    "Last Time": (lines.F_TIME, flow.L_LAST_TS),
    "Last Date": (lines.F_DATE, flow.L_LAST_TS),
    "Last Market Center": (lines.F_INT, flow.L_LAST_CENTER),
    "Extended Trade": (lines.F_PRICE, flow.L_EXT),
    "Extended Trade Size": (lines.F_INT, flow.L_EXT_SIZE),
    "Extended Trade Time": (lines.F_TIME, flow.L_EXT_TS),
    "Extended Trade Date": (lines.F_DATE, flow.L_EXT_TS),
    "Extended Trade Market Center": (lines.F_INT, flow.L_EXT_CENTER),
    "Bid": (lines.F_PRICE, flow.L_BID),
    "Bid Size": (lines.F_INT, flow.L_BID_SIZE),
    "Bid Time": (lines.F_TIME, flow.L_BID_TS),
    "Bid Market Center": (lines.F_INT, flow.L_BID_CENTER),
    "Ask": (lines.F_PRICE, flow.L_ASK),
    "Ask Size": (lines.F_INT, flow.L_ASK_SIZE),
    "Ask Time": (lines.F_TIME, flow.L_ASK_TS),
    "Ask Market Center": (lines.F_INT, flow.L_ASK_CENTER),
    "Spread": (lines.F_SPREAD, 0),
    "Open": (lines.F_PRICE, flow.L_OPEN),
    "High": (lines.F_PRICE, flow.L_HIGH),
    "Low": (lines.F_PRICE, flow.L_LOW),
    "Close": (lines.F_PRICE, flow.L_CLOSE),
    "Range": (lines.F_RANGE, 0),
    "Change": (lines.F_CHANGE, 0),
    "Total Volume": (lines.F_INT, flow.L_VOLUME),
    "Number of Trades Today": (lines.F_INT, flow.L_COUNT),
    "VWAP": (lines.F_VWAP, 0),
    "TickID": (lines.F_INT, flow.L_TICK),
    "Delay": (lines.F_CONSTANT, 0),
    "Decimal Precision": (lines.F_CONSTANT, 4),
    "Fraction Display Code": (lines.F_CONSTANT, 14),
    "Market Open": (lines.F_CONSTANT, 1),
    "Message Contents": (lines.F_CONTENTS, flow.L_CONTENTS),
}
"""Fields with data."""

for _name in (
    "Bid Change", "Ask Change", "Available Regions", "Settle", "Settlement Date", "Percent Change", "Change From Open",
    "Previous Day Volume", "Open Range 1", "Open Range 2", "Close Range 1", "Close Range 2", "Extended Trading Change",
    "Extended Trading Difference", "Percent Off Average Volume", "Exchange ID", "Tick", "Restricted Code",
    "Financial Status Indicator", "Market Capitalization", "Open Interest", "Volatility", "Days to Expiration",
    "Net Asset Value", "Average Maturity", "7 Day Yield", "Price-Earnings Ratio",
):  # fmt: skip
    FIELDS[_name] = (lines.F_EMPTY, 0)  # a valid name whose column stays empty here

DEFAULT_NAMES: Final = (
    "Most Recent Trade", "Most Recent Trade Size", "Most Recent Trade Time", "Most Recent Trade Market Center", "Total Volume",
    "Bid", "Bid Size", "Ask", "Ask Size", "Open", "High", "Low", "Close", "Message Contents", "Most Recent Trade Conditions",
)  # fmt: skip
"""Columns after Symbol up to protocol 6.0."""
TAIL_NAMES: Final = ("Most Recent Trade Aggressor", "Most Recent Trade Day Code")
"""Added by protocol 6.1."""

FUNDAMENTAL_NAMES: Final = (
    "Symbol", "Exchange ID", "PE", "Average Volume", "52 Week High", "52 Week Low", "Calendar Year High", "Calendar Year Low",
    "Dividend Yield", "Dividend Amount", "Dividend Rate", "Pay Date", "Ex-dividend Date", "Current Year EPS", "Next Year EPS",
    "Five-year Growth Percentage", "Fiscal Year End", "Company Name", "Root Option Symbol", "Percent Held By Institutions",
    "Beta", "Leaps", "Current Assets", "Current Liabilities", "Balance Sheet Date", "Long-term Debt",
    "Common Shares Outstanding", "Split Factor 1", "Split Factor 2", "Format Code", "Precision", "SIC",
    "Historical Volatility", "Security Type", "Listed Market", "52 Week High Date", "52 Week Low Date",
    "Calendar Year High Date", "Calendar Year Low Date", "Year End Close", "Maturity Date", "Coupon Rate", "Expiration Date",
    "Strike Price", "NAICS", "Exchange Root", "Options Premium Multiplier", "Options Multiple Deliverables",
    "Session Open Time", "Session Close Time", "Base Currency", "Contract Size", "Contract Months", "Minimum Tick Size",
    "First Delivery Date", "FIGI", "Security Sub Type",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """The columns of a client's Q and P lines after Symbol."""

    names: tuple[str, ...]

    def codes(self) -> tuple[lines.Int64, lines.Int64]:
        """How each column is written, and from which column of the row."""
        pairs = [FIELDS[name] for name in self.names]
        return np.array([kind for kind, _ in pairs], np.int64), np.array([column for _, column in pairs], np.int64)

    @property
    def line_bytes_max(self) -> int:
        """A line is never longer, bytes."""
        return 48 + lines.FIELD_BYTES_MAX * len(self.names)


def default_layout(protocol: tuple[int, int]) -> Layout:
    """What a socket speaks before it selects fields."""
    return Layout(DEFAULT_NAMES + TAIL_NAMES if protocol >= (6, 1) else DEFAULT_NAMES)
