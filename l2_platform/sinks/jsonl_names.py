"""Where the JSONL files are and what they are called: `jsonl/live/20250725/AAPL_l2_20250725.jsonl`.

Light, for whoever only names them. What does not belong here: writing them (jsonl).
"""

from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

KINDS: Final = {"book_snapshots": "l2", "quotes": "l1", "trades": "ticks"}
"""Tables that become files, and the kind in the file's name; other tables are not for files."""
SAFE: Final = "@#+="
"""Characters of symbols kept in file names besides letters, digits, `_`, `.`, `-` and `~`."""


def file_symbol(symbol: str) -> str:
    """The symbol as part of a file name: unsafe characters and a leading dot are percent-encoded (`A/B` → `A%2FB`, `.DJI` → `%2EDJI`)."""
    name = quote(symbol, safe=SAFE)
    return f"%2E{name[1:]}" if name.startswith(".") else name


def file_name(symbol: str, kind: str, session_date: int) -> str:
    """`AAPL_l2_20250725.jsonl`."""
    return f"{file_symbol(symbol)}_{kind}_{session_date}.jsonl"


def parse_file_name(name: str) -> tuple[str, str, int]:
    """(symbol, kind, session date) of a name that `file_name` made; ValueError for any other name."""
    symbol, kind, date = name.removesuffix(".jsonl").rsplit("_", 2)
    return unquote(symbol), kind, int(date)


def folder_of(root: Path, stream: str, session_date: int) -> Path:
    """Where the files of a stream and date are: `live/<date>`, `import/<stream>/<date>`, `history/<stream>/<date>`."""
    if "-import-" in stream:
        return root / "import" / stream / str(session_date)
    if stream.endswith("-history"):
        return root / "history" / stream / str(session_date)
    return root / "live" / str(session_date)
