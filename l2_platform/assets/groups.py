"""The groups of the catalog, in the order of the flow; every asset is in one of them.

What does not belong here: which asset is in which group (each says it itself; a test compares).
"""

from collections.abc import Mapping
from typing import Final

from l2_platform.assets.archive import GROUP as ARCHIVE
from l2_platform.assets.proofs import QUALITY
from l2_platform.assets.workers import COLLECT, RECORD, TABLES

OPERATE: Final = "operate"
GROUPS: Final[Mapping[str, str]] = {
    OPERATE: "the verdict over everything, reviews, and what Dagster itself needs",
    COLLECT: "what is wanted (symbols, sessions), the feed and the collectors",
    RECORD: "the journal, and the processes that deliver it",
    TABLES: "market tables and bars of the warehouse, by session date",
    ARCHIVE: "session dates that are over: closed, their books indexed, archived as Parquet",
    QUALITY: "what proves a session date: gaps, stores, completeness, checks, and the page that tells it",
}
"""Group → what is in it."""
