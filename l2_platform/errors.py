"""The exception tree; what the *data* shows (a gap, a crossed book, a bad line) is a value, never an exception.

L2Error
├── ConfigError         settings, symbols file, desired state
├── InputError          a file, a line or an argument given by a person; names file, line, field, and what to do
├── FeedError
│   ├── FeedDisconnected
│   ├── FeedProtocolError
│   └── FeedUnauthorized
├── JournalError
│   ├── JournalCorrupt      damage that is named by range
│   ├── JournalUnwritable   write or fsync failed (disk full, I/O error)
│   └── JournalTooNew       a format version this program does not know
├── BookError
├── SinkError
│   ├── SinkUnavailable     try again later
│   │   ├── SinkBlocked         no room, no quota, read-only: rarely
│   │   └── SinkMisconfigured   login, rights, tables: a person has to act
│   ├── SinkBackpressure    try again after `retry_after_s`
│   └── SinkRejected        these rows will never be accepted
├── WarehouseError
├── ArchiveError            an archived file is missing or damaged, or could not be written
├── LeaseHeld               another process owns this worker
└── DateBusy                somebody else changes what is stored of this session date
"""

from typing import Any


class L2Error(Exception):
    """Base of all errors of the platform: `message` says what was tried and what to do, `facts` are the details."""

    retryable = False
    exit_code = 1

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class ConfigError(L2Error):
    """A setting, the symbols file or the desired state cannot be used."""

    exit_code = 2


class InputError(L2Error):
    """What a person gave (file, date, symbol, time) cannot be used; nothing was changed."""

    exit_code = 2


class FeedError(L2Error):
    """A feed could not be used."""

    retryable = True


class FeedDisconnected(FeedError):
    """The TCP link is gone or silent."""


class FeedProtocolError(FeedError):
    """The peer does not speak the protocol that we asked for."""


class FeedUnauthorized(FeedError):
    """Login refused or subscription expired."""

    retryable = False


class JournalError(L2Error):
    """The journal could not be read or written."""


class JournalCorrupt(JournalError):
    """Damage inside a segment, named by range."""


class JournalUnwritable(JournalError):
    """write or fsync failed: disk full, I/O error, read-only file system."""

    retryable = True


class JournalTooNew(JournalError):
    """A segment of a later format version; update the platform to read it."""


class BookError(L2Error):
    """The book engine was used wrongly (bad data is never an exception)."""


class BookIndexUnusable(BookError):
    """A book index is damaged, of another version, or does not fit the journal: the books are rebuilt from the journal instead."""


class SinkError(L2Error):
    """A sink did not take what it was given."""


class SinkUnavailable(SinkError):
    """The sink cannot be reached or answers with a passing error."""

    retryable = True


class SinkBlocked(SinkUnavailable):
    """The sink has no room, no quota, or may only be read: tried again rarely, until time or a person frees it."""


class SinkMisconfigured(SinkUnavailable):
    """Login, rights, tables or settings of the sink are wrong: tried again rarely, a person has to act."""


class SinkBackpressure(SinkError):
    """The sink asks for time; try again after `retry_after_s`."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float, **facts: Any) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **facts)
        self.retry_after_s = retry_after_s


class SinkRejected(SinkError):
    """These rows will never be accepted as they are."""


class WarehouseError(L2Error):
    """The warehouse could not be started, reached or asked."""


class ArchiveError(L2Error):
    """Archived rows could not be written or read, or are not what their manifest says."""

    retryable = True


class LeaseHeld(L2Error):
    """Another process owns this worker."""

    exit_code = 75


class DateBusy(L2Error):
    """Somebody else changes what is stored of this session date; nothing was changed, try again when it has ended."""

    exit_code = 75
