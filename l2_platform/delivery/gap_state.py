"""The state of the search for gaps of single symbols, as a checkpoint holds it: arrays copied at once, packed later.

What does not belong here: files (checkpoint), what the arrays mean.
"""

import base64
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from l2_platform.delivery.gap_rows import Gap


@dataclass(frozen=True, slots=True)
class SymbolGapsImage:
    """Copies of everything that goes on; nobody changes them any more."""

    look: int
    open: dict[int, Gap]
    """Slot of a silent symbol → its gap."""
    silence: dict[str, Any]
    counters: dict[str, Any]
    """Both with `arrays`: name → array, and else plain values."""

    def pack(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "look": self.look, "open": [[slot, asdict(gap)] for slot, gap in sorted(self.open.items())],
            "silence": _packed(self.silence), "counters": _packed(self.counters),
        }  # fmt: skip

    @classmethod
    def unpack(cls, state: dict[str, Any]) -> "SymbolGapsImage":
        """Undo `pack`; KeyError, TypeError or ValueError for what is none."""
        opened = {int(slot): Gap(**gap) for slot, gap in state["open"]}
        return cls(int(state["look"]), opened, _unpacked(state["silence"]), _unpacked(state["counters"]))


def _packed(state: dict[str, Any]) -> dict[str, Any]:
    arrays = {
        name: [array.dtype.str, base64.b64encode(zlib.compress(array.tobytes(), 1)).decode("ascii")]
        for name, array in state["arrays"].items()
    }
    return state | {"arrays": arrays}


def _unpacked(state: dict[str, Any]) -> dict[str, Any]:
    try:
        arrays = {
            name: np.frombuffer(zlib.decompress(base64.b64decode(text)), np.dtype(kind)).copy()
            for name, (kind, text) in state["arrays"].items()
        }
    except zlib.error as error:
        raise ValueError(str(error)) from None
    return state | {"arrays": arrays}
