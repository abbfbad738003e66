"""What one SQL statement asks for, as far as the HTTP front must know: verb, format, and where the data of an INSERT begins.

A tokenizer, not a parser: the engine parses. It never looks at the data behind `INSERT … FORMAT X`. Pure.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from l2_platform.warehouse.errors import QueryFailed

TOKEN: Final = re.compile(
    rb"""(?P<skip>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<quoted>'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*")
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])
    |(?P<end>;)
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
READING: Final = frozenset({"SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS", "VALUES"})
"""First words of statements whose result may be streamed."""
PROCESS_ID: Final = b"if(Settings['log_comment'] = '', query_id, splitByChar(' ', Settings['log_comment'])[1])"
"""How the engine's process list knows a request's own query id (chDB numbers its queries itself)."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: what to run, and what the answer looks like."""

    verb: str
    """First word, upper case; empty for an empty statement."""
    sql: bytes
    """The statement; for an INSERT with data, the part before FORMAT."""
    format: str | None
    """Named by a FORMAT clause: of the answer, or of an INSERT's data."""
    data: bytes | memoryview | None = None
    """Data of an INSERT … FORMAT; None for every other statement."""

    @property
    def streams(self) -> bool:
        """The result is a table that can be handed over in pieces."""
        return self.verb in READING


def parse_statement(raw: bytes) -> Statement:
    """Look at one statement (UTF-8, an INSERT's data may follow in any bytes); raise QueryFailed for what a server refuses over HTTP."""
    words = _words(raw)
    first = next(words, None)
    if first is None:
        raise QueryFailed(62, "Empty query", name="SYNTAX_ERROR")
    verb = first[0]
    if verb == "INSERT":
        return _parse_insert(raw, words)
    if verb == "KILL":
        return Statement(verb, re.sub(rb"\bquery_id\b", lambda _: PROCESS_ID, raw), _trailing_format(raw))
    _refuse_files_and_batches(raw)
    return Statement(verb, raw.rstrip(b"; \t\r\n"), _trailing_format(raw))


def takes_body(query: bytes) -> bool:
    """It is an INSERT … FORMAT all of whose data comes behind it."""
    if query.lstrip()[:6].upper() != b"INSERT":
        return False
    try:
        statement = parse_statement(query)
    except QueryFailed:
        return False
    return statement.data is not None and not len(statement.data)


def settings_place(sql: bytes) -> int:
    """Where the SETTINGS clause of an INSERT begins; its length when it has none."""
    words = [(word, start) for word, start, _, depth in _words(sql) if not depth]
    # a table may be called so too
    return next((start for word, start in words[3:] if word == "SETTINGS"), len(sql))


def _tokens(raw: bytes) -> Iterator[tuple[str, bytes, int, int, int]]:
    """(kind, text, start, end, depth) of everything but space and comments."""
    depth = 0
    for match in TOKEN.finditer(raw):
        kind = match.lastgroup or "other"
        if kind == "skip":
            continue
        if kind == "close":
            depth -= 1
        yield kind, match.group(), match.start(), match.end(), depth
        if kind == "open":
            depth += 1


def _words(raw: bytes) -> Iterator[tuple[str, int, int, int]]:
    """(WORD, start, end, depth); opening brackets before the first word do not count as depth."""
    lead: int | None = None
    for kind, text, start, end, depth in _tokens(raw):
        if kind == "word":
            lead = depth if lead is None else lead
            yield text.decode().upper(), start, end, depth - lead


def _parse_insert(raw: bytes, words: Iterator[tuple[str, int, int, int]]) -> Statement:
    for word, start, end, depth in words:
        if depth:
            continue
        if word == "INFILE":
            raise QueryFailed(48, "FROM INFILE is not possible over HTTP: send the data in the body", name="NOT_IMPLEMENTED")
        if word in {"SELECT", "WITH", "VALUES", "WATCH"}:
            break
        if word == "FORMAT":
            name = re.compile(rb"\s*([A-Za-z][A-Za-z0-9_]*)").match(raw, end)
            if name is None:
                raise QueryFailed(62, "Syntax error: a format name must follow FORMAT", name="SYNTAX_ERROR")
            if name.group(1).upper() == b"VALUES":
                return Statement("INSERT", raw, None)
            return Statement("INSERT", raw[:start], name.group(1).decode(), memoryview(raw)[_data_start(raw, name.end()) :])
    return Statement("INSERT", raw, None)


def _data_start(raw: bytes, offset: int) -> int:
    """Where data begins after the format's name: behind blanks, an optional `;`, and one line end."""
    match = re.compile(rb"[ \t\f]*;?[ \t\f]*(?:\r?\n)?").match(raw, offset)
    return match.end() if match else offset


def _trailing_format(raw: bytes) -> str | None:
    tokens = [(kind, text) for kind, text, _, _, depth in _tokens(raw) if depth <= 0 and kind != "end"]
    for index in range(len(tokens) - 2, -1, -1):
        if tokens[index][1].upper() != b"FORMAT" or tokens[index + 1][0] != "word":
            continue
        # `SELECT 1 AS format FROM t` has the word too: a clause ends the statement, or SETTINGS follow it
        if index + 2 == len(tokens) or tokens[index + 2][1].upper() == b"SETTINGS":
            return tokens[index + 1][1].decode()
    return None


def _refuse_files_and_batches(raw: bytes) -> None:
    before, ended = b"", False
    for kind, text, _, _, _ in _tokens(raw):
        if ended and kind != "end":
            raise QueryFailed(62, "Syntax error (Multi-statements are not allowed)", name="SYNTAX_ERROR")
        ended = ended or kind == "end"
        if kind == "word":
            if before == b"INTO" and text.upper() == b"OUTFILE":
                raise QueryFailed(48, "INTO OUTFILE is not allowed over HTTP: save the answer", name="NOT_IMPLEMENTED")
            before = text.upper()
        else:
            before = b""
