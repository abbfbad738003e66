"""`l2 journal`: what is stored, line by line, and the proof that it is whole."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l2_platform.market.dates import date_text

if TYPE_CHECKING:
    from l2_platform.journal.reader import Block
    from l2_platform.settings import Settings

app = typer.Typer(
    help="The raw bytes of every stream: list, print, verify, seal.",
    epilog="l2 journal ls  ·  l2 journal cat iqfeed-depth-0 --from-seq 100 --to-seq 120  ·  l2 journal verify",
    no_args_is_help=True,
)

READ_BYTES = 4 << 20
Date = Annotated[str | None, typer.Option("--date", help="Session date, YYYY-MM-DD or YYYYMMDD.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def register(root: typer.Typer) -> None:
    """Add `l2 journal` to the command line."""
    root.add_typer(app, name="journal")


@app.command("ls")
def list_segments(
    stream: Annotated[str | None, typer.Argument(help="One stream; all when left out.")] = None,
    date: Date = None,
    as_json: AsJson = False,
) -> None:
    """List every segment: state, sizes, lines, first and last time (UTC). Example: `l2 journal ls iqfeed-depth-0 --json`"""
    from l2_platform.cli.output import records
    from l2_platform.journal.inventory import inventory
    from l2_platform.settings import load_settings

    settings = load_settings()
    rows = [
        row.as_dict()
        for name, dates in _chosen(settings, stream, date).items()
        for row in inventory(settings.journal_dir, name, dates, settings.run_dir / "durable" / name)
    ]
    records(rows, as_json=as_json, empty="the journal is empty")


@app.command("cat")
def cat(
    stream: Annotated[str, typer.Argument(help="Stream, as `l2 journal ls` names it.")],
    date: Date = None,
    from_seq: Annotated[int, typer.Option("--from-seq", min=1, help="First line.")] = 1,
    to_seq: Annotated[int | None, typer.Option("--to-seq", min=1, help="Last line.")] = None,
    controls: Annotated[bool, typer.Option("--controls", help="Show what the collector noted, too.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes as they were received, nothing else.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line: seq, ts_recv (UTC), line.")] = False,
) -> None:
    """Print the stored lines: seq, time of receipt (UTC), line; the newest session date unless --date is given.

    Damaged places are named on stderr, and the exit code is then 1. Example: `l2 journal cat iqfeed-depth-0 --to-seq 20 --controls`
    """
    from l2_platform.cli.output import note
    from l2_platform.journal.reader import Block, Control, JournalReader
    from l2_platform.settings import load_settings

    _check_wish(from_seq, to_seq, raw=raw, as_json=as_json)
    settings = load_settings()
    session_date = _chosen(settings, stream, date)[stream][-1]
    reader = JournalReader(
        settings.journal_dir, stream, session_date, durable_path=_durable_path(settings, stream)
    )
    out = sys.stdout.buffer
    damaged = False
    seen = 0
    last = to_seq if to_seq is not None else 1 << 62
    while items := reader.read(READ_BYTES):
        for item in items:
            if isinstance(item, Block):
                seen = int(item.frame_seq[-1]) + int(item.frame_count[-1]) - 1
                if seen >= from_seq:
                    out.write(_lines(item, from_seq, last, raw=raw, as_json=as_json))
            elif isinstance(item, Control):
                if controls and not raw and from_seq <= item.seq + 1 and item.seq <= last:
                    out.write(_control_line(item.seq, item.ts_recv, item.event, item.fields, as_json=as_json))
            elif item.seq_to == 0 or (item.seq_to >= from_seq and item.seq_from <= last):
                damaged = True
                note(f"damage at segment {item.position_from.segment}, offset {item.position_from.offset}: {item.reason}")
        if reader_is_past(items, last):
            break
    out.flush()
    if seen < from_seq:
        note(f"nothing from seq {from_seq} on: {stream} ends at seq {seen} on {date_text(session_date)}")
    if damaged:
        raise typer.Exit(1)


@app.command("verify")
def verify_dates(
    stream: Annotated[str | None, typer.Argument(help="One stream; all when left out.")] = None,
    date: Date = None,
    as_json: AsJson = False,
) -> None:
    """Check every byte: CRCs, hashes, chain, order, ends. Exit code 0 = all is well, 1 = damage, each piece named.

    Example: `l2 journal verify iqfeed-depth-0 --date 2026-11-20`
    """
    from dataclasses import asdict

    from l2_platform.cli.output import note, records
    from l2_platform.journal.verify import verify
    from l2_platform.settings import load_settings

    settings = load_settings()
    findings = []
    checked = 0
    for name, dates in _chosen(settings, stream, date).items():
        for session_date in dates:
            checked += 1
            findings += verify(settings.journal_dir, name, session_date, durable_path=_durable_path(settings, name))
    records([asdict(finding) for finding in findings], as_json=as_json, empty=f"all is well: {checked} session dates of streams checked")
    if findings:
        note(f"{len(findings)} findings in {checked} session dates of streams")
        raise typer.Exit(1)


@app.command("digest")
def digest(
    stream: Annotated[str, typer.Argument(help="Stream of depth or Level 1, as `l2 journal ls` names it.")],
    date: Date = None,
    symbols: Annotated[str, typer.Option("--symbols", help="Only these, comma separated.")] = "",
    as_json: AsJson = False,
) -> None:
    """SHA-256 of a stream's market lines: equal to that of a whole replay (`l2 replay`), and of a journal that recorded one.

    Clock lines, greetings, acknowledgements and the torn rest of a line are left out: every link has its own.
    Example: `l2 journal digest iqfeed-depth-0 --date 2026-11-20`
    """
    from l2_platform.cli.output import note, ready_kernels, records
    from l2_platform.errors import InputError
    from l2_platform.settings import load_settings

    settings = load_settings()
    session_date = _chosen(settings, stream, date)[stream][-1]
    ready_kernels(settings.cache_dir)
    from l2_platform.replay.choice import channel_of_name
    from l2_platform.replay.digest import digest_of
    from l2_platform.replay.lines import CHANNELS, Part

    if channel_of_name(stream) not in CHANNELS:
        raise InputError(f"{stream} holds no market lines of a streaming port: name a stream of depth or level1")
    chosen = tuple(name.strip() for name in symbols.split(",") if name.strip())
    found, damage = digest_of(settings, Part(stream, session_date), chosen)
    left_out = found.talk + found.torn
    row = {"stream": stream, "session_date": session_date, "lines": found.lines, "left_out": left_out, "sha256": found.text()}
    records([row], as_json=as_json)
    for reason in damage:
        note(f"damage: {reason}")
    if damage:
        raise typer.Exit(1)


@app.command("seal")
def seal(
    stream: Annotated[str | None, typer.Argument(help="One stream; all when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compress every closed segment now (the sealer of `l2 up` does it by itself). Example: `l2 journal seal`"""
    from l2_platform.cli.output import note, records
    from l2_platform.errors import LeaseHeld
    from l2_platform.journal.sealer import WORKER, seal_closed
    from l2_platform.monitoring.heartbeat import Lease
    from l2_platform.settings import load_settings

    settings = load_settings()
    names = _chosen(settings, stream, None)
    lease = Lease(settings.run_dir / "leases" / WORKER)
    try:
        lease.acquire(wait=False)
    except LeaseHeld as error:
        raise LeaseHeld(f"{error.message}: the sealer of `l2 up` is at work and seals by itself; nothing to do here") from None
    sealed = []
    try:
        for name in names:
            for entry in seal_closed(settings.journal_dir, name, settings.journal):
                sealed.append(
                    {
                        "stream": name, "session_date": entry.session_date, "file": entry.file,
                        "raw_bytes": entry.raw_bytes, "bytes": entry.bytes,
                    }
                )  # fmt: skip
                share = 100 * entry.bytes / max(entry.raw_bytes, 1)
                note(f"{name} {date_text(entry.session_date)} {entry.file}: {entry.raw_bytes} to {entry.bytes} bytes ({share:.1f} %)")
    finally:
        lease.release()
    records(sealed, as_json=as_json, empty="nothing to seal: no closed segment is unsealed")


def reader_is_past(items: list[Any], last: int) -> bool:
    """Everything that was asked for has been read."""
    from l2_platform.journal.reader import Block

    return any(isinstance(item, Block) and int(item.frame_seq[-1]) > last for item in items)


def _chosen(settings: "Settings", stream: str | None, date: str | None) -> dict[str, list[int]]:
    """Stream → its dates; InputError names what exists when the wanted one does not."""
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.errors import InputError
    from l2_platform.journal.layout import list_dates, list_streams

    names = list_streams(settings.journal_dir)
    if stream is not None and stream not in names:
        there = f"there are: {', '.join(names)}" if names else "the journal is empty; `l2 up` records, `l2 import` brings files"
        raise InputError(f"no stream {stream} in {settings.journal_dir}; {there}")
    wanted = session_date_from_text(date, "--date") if date is not None else None
    found = {}
    for name in [stream] if stream is not None else names:
        dates = list_dates(settings.journal_dir, name)
        if wanted is None:
            found[name] = dates
        elif wanted in dates:
            found[name] = [wanted]
        elif stream is not None:
            raise InputError(f"{name} has no session date {wanted}; it has {', '.join(str(day) for day in dates) or 'none'}")
    if wanted is not None and not found:
        raise InputError(f"no stream has the session date {wanted}")
    if stream is not None and not found[stream]:
        raise InputError(f"{stream} has no session date yet")
    return found


def _durable_path(settings: "Settings", stream: str) -> Any:
    """Where the durable position of a live stream is; None for a finished one."""
    from l2_platform.journal.layout import source_of

    return settings.run_dir / "durable" / stream if source_of(stream) == "live" else None


def _lines(block: "Block", first: int, last: int, *, raw: bool, as_json: bool) -> bytes:
    """The lines first..last of a block, each with its number and time, or the bytes alone."""
    from l2_platform.journal.frame import FrameFlag

    parts: list[bytes] = []
    data = block.buffer.tobytes()
    single = int(FrameFlag.FRAGMENT | FrameFlag.OVERSIZE)
    starts, seqs, times, flags = (column.tolist() for column in (block.frame_start, block.frame_seq, block.frame_ts, block.frame_flags))
    for index, seq_first in enumerate(seqs):
        payload = data[starts[index] : starts[index + 1]]
        lines = [payload] if flags[index] & single else payload.splitlines(keepends=True)
        time = b"" if raw else _time_text(times[index])
        for seq, text in enumerate(lines, seq_first):
            if first <= seq <= last and as_json:
                parts.append(_json_line({"seq": seq, "ts_recv": time.decode(), "line": _text(text)}))
            elif first <= seq <= last:
                parts.append(text if raw else b"%d\t%s\t%s\n" % (seq, time, text.rstrip(b"\r\n")))
    return b"".join(parts)


def _check_wish(from_seq: int, to_seq: int | None, *, raw: bool, as_json: bool) -> None:
    from l2_platform.errors import InputError

    if to_seq is not None and to_seq < from_seq:
        raise InputError(f"--to-seq {to_seq} is before --from-seq {from_seq}")
    if raw and as_json:
        raise InputError("--raw gives the bytes alone and --json wraps them: use one of them")


def _json_line(fields: dict[str, Any]) -> bytes:
    import json

    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def _text(line: bytes) -> str:
    """A line as text; bytes that are no UTF-8 come out escaped."""
    return line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")


def _control_line(seq: int, ts: int, event: str, fields: dict[str, Any], *, as_json: bool) -> bytes:
    import json

    if as_json:
        return _json_line({"seq": seq, "ts_recv": _time_text(ts).decode(), "event": event, "fields": fields})
    return b"%d\t%s\t# %s %s\n" % (seq, _time_text(ts), event.encode(), json.dumps(fields, ensure_ascii=False).encode())


def _time_text(ts: int) -> bytes:
    """ISO time in UTC with nanoseconds."""
    from l2_platform.journal.inventory import utc_text

    return utc_text(ts).encode()
