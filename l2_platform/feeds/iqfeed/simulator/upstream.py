"""The link behind the look-alike: logged in, connected, refused; shared by all services as IQConnect's own link to its servers is.

What does not belong here: telling clients (the services do).
"""

from dataclasses import dataclass, field
from typing import Final

VERSION: Final = "6.2.0.25"
PROTOCOLS: Final = {
    "4.9": (4, 9),
    "5.0": (5, 0),
    "5.1": (5, 1),
    "5.2": (5, 2),
    "6.0": (6, 0),
    "6.1": (6, 1),
    "6.2": (6, 2),
}
"""Protocols that a socket may ask for."""
OLDEST: Final = (4, 9)
"""What a socket speaks before it asks."""


@dataclass(slots=True)
class Upstream:
    """State of the simulated login and server link."""

    symbol_limit: int
    """Most watched symbols of the account, per service."""
    connected: bool = True
    refuse_login: bool = False
    """Every login is refused: the link stays down."""
    names_symbol_silently: bool = False
    """SELECT UPDATE FIELDS that names Symbol is ignored without an answer, as one build does."""
    reconnections: int = 0
    failures: int = 0
    started_ns: int = 0
    login: str = "simulated"
    last_update_ns: int = 0
    watched: dict[str, int] = field(default_factory=dict)
    """Distinct watched symbols per service."""

    @property
    def usable(self) -> bool:
        """Data flows."""
        return self.connected and not self.refuse_login
