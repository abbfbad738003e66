"""How much a fault scenario does: `FAULTS=quick` (part of `make test`), `ci`, or `full` (`make faults`). Nothing else belongs here.

A scenario asks for its numbers with `scaled(quick, ci, full)` and states them in its docstring, so that a result says its N.
"""

import os
from typing import Final, Literal, TypeVar, get_args

Scale = Literal["quick", "ci", "full"]
Number = TypeVar("Number", int, float)


def chosen() -> Scale:
    """The scale of this run; a name that does not exist is an error, never silently the smallest."""
    name = os.environ.get("FAULTS", "quick")
    for known in get_args(Scale):
        if name == known:
            return known
    message = f"FAULTS={name!r}: use quick, ci or full"
    raise ValueError(message)


FAULTS: Final = chosen()
"""The scale of this run."""


def scaled(quick: Number, ci: Number, full: Number) -> Number:
    """The number for this run's scale."""
    return {"quick": quick, "ci": ci, "full": full}[FAULTS]
