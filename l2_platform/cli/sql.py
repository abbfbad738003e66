"""`l2 sql`: one query against the tables, as a table, CSV, JSON or Parquet. Decimals and ns times come out exactly."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer

from l2_platform.cli import output
from l2_platform.errors import InputError, L2Error, WarehouseError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from l2_platform.warehouse.statement import Statement

ROWS_SHOWN: Final = 1000
"""A terminal gets this many rows; files and pipes get all."""
CHUNK_BYTES: Final = 1 << 20
EXACT: Final = {"output_format_json_quote_64bit_integers": 0, "output_format_json_quote_decimals": 1}
CODE: Final = re.compile(r"Code: (\d+)\. DB::Exception: (.*?)(?:\(version [^)]*\([^)]*\)\))?\s*(?:\(for url .*\))?$", re.DOTALL)


class Format(StrEnum):
    """How the answer is written."""

    table = "table"
    csv = "csv"
    json = "json"
    jsonl = "jsonl"
    parquet = "parquet"


def register(root: typer.Typer) -> None:
    """Add `l2 sql` to the command line."""
    root.command("sql")(sql)


def sql(
    query: Annotated[str, typer.Argument(help="A query; `-` reads it from stdin.", show_default=False)],
    form: Annotated[
        Format | None, typer.Option("--format", "-f", help="Default: table on a terminal, csv in a pipe, the ending of --out.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file; it appears when it is whole.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", metavar="K=V", help="Fills {K:Type}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Allow statements that change something.")] = False,
) -> None:
    """Ask the tables (ClickHouse SQL); starts the warehouse for the time of the query when it does not run.

    Examples: `l2 sql "SHOW TABLES"` · `l2 sql "SELECT * FROM trades WHERE symbol = {s:String} LIMIT 5" -p s=AAPL`
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from l2_platform.settings import load_settings
    from l2_platform.warehouse.client import connect
    from l2_platform.warehouse.errors import QueryFailed
    from l2_platform.warehouse.schema import migrate
    from l2_platform.warehouse.statement import parse_statement

    text = sys.stdin.read() if query == "-" else query
    if not text.strip():
        raise InputError('the query is empty; try `l2 sql "SHOW TABLES"`')
    if as_json and form not in {None, Format.json}:
        raise InputError(f"--json and --format {form}: say one of them")
    chosen = _format(Format.json if as_json else form, out)
    parameters = _parameters(param or [])
    settings = load_settings()
    database = settings.clickhouse.database
    try:
        statement = parse_statement(text.encode())
    except QueryFailed as error:
        raise InputError(_short(error.message)) from None
    client = connect(settings)
    try:
        migrate(client, database)
        client.database = database
        _answer(client, text.strip().rstrip(";"), statement, chosen, out, parameters, write=write)
    except ClickHouseError as error:
        raise _explained(error, client, database) from None
    finally:
        client.close()


def _answer(
    client: "Client", text: str, statement: "Statement", chosen: Format, out: Path | None, parameters: dict[str, str],
    *, write: bool,
) -> None:  # fmt: skip
    settings: dict[str, Any] = {} if write else {"readonly": 2}
    if not statement.streams:
        client.command(text, parameters=parameters, settings=settings)
        output.note("done")
        return
    if statement.format is not None:
        with _target(out) as target:
            _copy(client.raw_stream(text, parameters=parameters, settings=settings), target)
        return
    match chosen:
        case Format.table:
            _table(client, text, parameters, settings)
        case Format.parquet:
            _parquet(client, text, parameters, settings, out)
        case Format.csv:
            with _target(out) as target:
                _copy(client.raw_stream(text, parameters=parameters, settings=settings, fmt="CSVWithNames"), target)
        case _:
            stream = client.raw_stream(text, parameters=parameters, settings=settings | EXACT, fmt="JSONEachRow")
            with _target(out) as target:
                _json(stream, target, array=chosen is Format.json)


def _format(form: Format | None, out: Path | None) -> Format:
    if form is Format.table and out is not None:
        raise InputError("--format table goes to the terminal; for a file use csv, json, jsonl or parquet")
    if form is not None:
        return form
    if out is not None:
        ending = out.suffix.lstrip(".").lower()
        if ending not in {"csv", "json", "jsonl", "parquet"}:
            raise InputError(f"{out.name}: say --format, or let the file end in .csv, .json, .jsonl or .parquet")
        return Format(ending)
    return Format.table if sys.stdout.isatty() else Format.csv


def _parameters(pairs: list[str]) -> dict[str, str]:
    parsed = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    wrong = [pair for pair in pairs if "=" not in pair or not pair.split("=", 1)[0].isidentifier()]
    if wrong:
        raise InputError(f"--param {wrong[0]}: must be name=value, for {{name:Type}} in the query")
    return parsed


def _table(client: "Client", text: str, parameters: dict[str, str], settings: dict[str, Any]) -> None:
    stream = client.raw_stream(
        text, parameters=parameters, settings=settings | EXACT, fmt="JSONCompactEachRowWithNamesAndTypes"
    )
    lines = _lines(stream)
    names, kinds = json.loads(next(lines, b"[]")), json.loads(next(lines, b"[]"))
    rows: list[list[str]] = []
    more = False
    for line in lines:
        if len(rows) == ROWS_SHOWN:
            more = True
            break
        rows.append(["NULL" if cell is None else cell if isinstance(cell, str) else json.dumps(cell) for cell in json.loads(line)])
    numbers = [name for name, kind in zip(names, kinds, strict=True) if re.search(r"Int|Decimal|Float", kind)]
    output.table("", names, rows, numbers=numbers)
    if more:
        output.note(f"the first {ROWS_SHOWN} rows; all of them: --format csv --out FILE")


def _parquet(client: "Client", text: str, parameters: dict[str, str], settings: dict[str, Any], out: Path | None) -> None:
    import pyarrow.parquet as pq

    if out is None and sys.stdout.isatty():
        raise InputError("parquet is binary: name a file with --out")
    with client.query_arrow_stream(text, parameters=parameters, settings=settings) as stream, _target(out) as target:
        writer: Any = None
        for batch in stream:
            writer = writer or pq.ParquetWriter(target, batch.schema, compression="zstd")
            writer.write(batch)
        if writer is None:
            empty = client.query_arrow(text, parameters=parameters, settings=settings)
            writer = pq.ParquetWriter(target, empty.schema, compression="zstd")
        writer.close()


def _json(stream: Any, target: BinaryIO, *, array: bool) -> None:
    if not array:
        _copy(stream, target)
        return
    target.write(b"[")
    separator = b"\n"
    for line in _lines(stream):
        target.write(separator + line)
        separator = b",\n"
    target.write(b"\n]\n")


def _copy(stream: Any, target: BinaryIO) -> None:
    while chunk := stream.read(CHUNK_BYTES):
        _refuse_broken(chunk)
        target.write(chunk)


def _lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(CHUNK_BYTES):
        _refuse_broken(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _refuse_broken(chunk: bytes) -> None:
    """An answer that fails half-way carries its error at the end of the body."""
    place = chunk.rfind(b"__exception__\r\n")
    if place >= 0:
        raise WarehouseError(_short(chunk.decode("utf-8", "replace")))


@contextmanager
def _target(out: Path | None) -> Iterator[BinaryIO]:
    """Stdout, or a file that gets its name when it is whole."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = out.with_name(f".{out.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _explained(error: "ClickHouseError", client: "Client", database: str) -> L2Error:
    code = getattr(error, "code", None)
    message = _short(str(error))
    if code == 60:
        tables = [str(row[0]) for row in client.query(f"SHOW TABLES FROM {database}").result_rows]
        return InputError(f"{message} Tables: {', '.join(tables)}")
    if code == 164:
        return InputError("the statement changes something; add --write if you mean it")
    if code in {62, 47, 46, 43, 42, 53, 27, 36, 456, 457}:
        return InputError(message)
    return WarehouseError(message)


def _short(message: str) -> str:
    match = CODE.search(message)
    text = match.group(2) if match else message
    for end in (". Expected one of:", " In scope ", "\n"):
        text = text.split(end)[0]
    # the engine's name of the error, (UNKNOWN_TABLE), says nothing more
    text = re.sub(r"\s*\([A-Z_]+\)\.?\s*$", "", text.strip())
    return f"{text.rstrip('.')}."
