"""Seals closed segments: packs them into independent zstd blocks, proves the copy, writes it down in a hash chain, removes the raw file.

Each step leaves something that running again completes: temporary file → fsync → read back → rename → fsync of the folder → manifest
line → unlink. `python -m l2_platform.journal.sealer` is the low-priority worker that does it for every stream.
"""

import errno
import hashlib
import mmap
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import zstandard

from l2_platform.clock import Clock, SystemClock
from l2_platform.errors import JournalCorrupt, JournalUnwritable, L2Error
from l2_platform.journal.frame import FRAME_BYTES, Frame, FrameKind, decode_segment_header, find_frame, frames_from
from l2_platform.journal.headers import segment_header
from l2_platform.journal.importing import sweep_staging
from l2_platform.journal.layout import (
    TEMPORARY_SUFFIX,
    SegmentFile,
    date_folder,
    list_dates,
    list_segments,
    list_streams,
    sealed_path,
    source_of,
)
from l2_platform.journal.manifest import Entry, append_entry, read_manifest
from l2_platform.journal.recovery import is_stop
from l2_platform.journal.sealed import (
    BLOCK,
    PREFIX_BYTES,
    Block,
    Footer,
    encode_block,
    encode_footer,
    encode_index,
    encode_prefix,
    unpack_block,
)
from l2_platform.journal.syscalls import Syscalls
from l2_platform.journal.verify import Finding, verify
from l2_platform.monitoring.heartbeat import Heartbeat, Lease
from l2_platform.monitoring.logs import configure_logging, get_logger
from l2_platform.settings import JournalSettings, Settings, load_settings

__all__ = ["Finding", "main", "run_sealer", "seal_closed", "verify"]

WORKER = "sealer"
NICENESS = 10
TABLE_LOG = 17
"""log2 of the places that the compressor remembers: 512 KB, less than the second-level cache of a server."""


class _Stopped(Exception):
    """The worker is asked to end in the middle of a segment."""


@dataclass(slots=True)
class _Facts:
    """What the footer says of the frames."""

    frames: int = 0
    first_seq: int | None = None
    last_seq: int = 0
    first_ts: int | None = None
    last_ts: int | None = None
    clean: bool = False


def seal_closed(
    root: Path, stream: str, settings: JournalSettings, *, calls: Syscalls | None = None, on_block: Callable[[], None] | None = None,
    room: Callable[[], int] | None = None,
) -> list[Entry]:  # fmt: skip
    """Seal every closed segment of a stream; what was sealed now. Running it again after a crash completes what was begun.

    Closed is a segment with a later one in its date, or in a date that is not the stream's newest, or of an import.
    `room` tells the bytes that sealing may take: the copy needs space before the raw file gives it back, and the recording comes first.
    JournalUnwritable when the disk refuses or has no room; nothing is lost then.
    """
    calls = calls or Syscalls()
    done: list[Entry] = []
    dates = list_dates(root, stream)
    for session_date in dates:
        folder = date_folder(root, stream, session_date)
        files = list_segments(folder)
        for index, file in enumerate(files):
            last = index + 1 == len(files)
            if file.raw is None or (last and session_date == dates[-1] and source_of(stream) == "live"):
                continue
            later = None if last else files[index + 1]
            if room is not None:
                _refuse_without_room(file.raw, stream, room())
            try:
                entry = _seal(folder, stream, session_date, file, later, settings, calls, on_block or (lambda: None))
            except OSError as error:
                raise JournalUnwritable(
                    f"{file.raw}: not sealed: {error.strerror or error}; it is read as it is, and sealed later",
                    stream=stream, errno=error.errno,
                ) from error  # fmt: skip
            if entry is not None:
                done.append(entry)
    return done


def _refuse_without_room(raw: Path, stream: str, room: int) -> None:
    with suppress(FileNotFoundError):  # sealed this moment by another
        size = raw.stat().st_size
        if size > room:
            raise JournalUnwritable(
                f"{raw}: not sealed: its copy may take {size >> 20} MiB, {max(room, 0) >> 20} are to spare; it is sealed later",
                stream=stream, errno=errno.ENOSPC,
            )  # fmt: skip


def _seal(
    folder: Path, stream: str, session_date: int, file: SegmentFile, later: SegmentFile | None, settings: JournalSettings,
    calls: Syscalls, on_block: Callable[[], None],
) -> Entry | None:  # fmt: skip
    """Seal one segment; None when its writer still has it or another sealer was faster."""
    assert file.raw is not None
    try:
        fd = calls.open(file.raw, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        try:
            calls.lock(fd)
        except BlockingIOError:
            return None
        size = _end_of(fd, file, later)
        entry = read_manifest(folder).entries.get(file.number)
        if entry is None or not _is_sealed(folder, entry, fd, size):
            entry = _pack(folder, stream, session_date, file, fd, size, settings, calls, on_block)
            append_entry(folder, entry, calls)
        calls.unlink(file.raw)
        calls.sync_folder(folder)
        return entry
    finally:
        calls.close(fd)


def _end_of(fd: int, file: SegmentFile, later: SegmentFile | None) -> int:
    """The raw length, without the tail that was written again in the next segment."""
    size = os.fstat(fd).st_size
    header = segment_header(later) if later is not None else None
    if header is not None and header.supersedes is not None and header.supersedes[0] == file.number:
        return min(size, header.supersedes[1])
    return size


def _is_sealed(folder: Path, entry: Entry, raw_fd: int, raw_bytes: int) -> bool:
    """A crash came between manifest line and unlink: file, line and raw segment agree."""
    try:
        with (folder / entry.file).open("rb") as packed:
            packed_hash = hashlib.file_digest(packed, "sha256").hexdigest()
    except OSError:
        return False
    raw = hashlib.sha256()
    for offset in range(0, raw_bytes, 1 << 20):
        raw.update(os.pread(raw_fd, min(1 << 20, raw_bytes - offset), offset))
    return (packed_hash, raw.hexdigest(), raw_bytes) == (entry.sha256, entry.raw_sha256, entry.raw_bytes)


def _pack(
    folder: Path, stream: str, session_date: int, file: SegmentFile, raw_fd: int, size: int, settings: JournalSettings,
    calls: Syscalls, on_block: Callable[[], None],
) -> Entry:  # fmt: skip
    """Write the sealed file, read it back, and give it its name."""
    target = sealed_path(folder, file.number)
    temporary = target.with_suffix(target.suffix + TEMPORARY_SUFFIX)
    fd = calls.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        facts = _facts_of(raw_fd, size)
        footer, total, digest = _write_sealed(fd, session_date, file.number, raw_fd, size, facts, settings, calls, on_block)
        calls.fdatasync(fd)
        calls.rename(temporary, target)
        calls.sync_folder(folder)
    except BaseException:
        with suppress(OSError):
            calls.unlink(temporary)
        raise
    finally:
        calls.close(fd)
    return Entry(
        stream, session_date, file.number, target.name, total, digest, size, footer.raw_sha256.hex(), facts.frames,
        footer.first_seq, footer.last_seq, footer.first_ts, footer.last_ts,
    )  # fmt: skip


def _write_sealed(
    fd: int, session_date: int, segment: int, raw_fd: int, size: int, facts: _Facts, settings: JournalSettings, calls: Syscalls,
    on_block: Callable[[], None],
) -> tuple[Footer, int, str]:  # fmt: skip
    """Prefix, blocks, index, footer; each block is unpacked again and compared. (footer, file length, SHA-256 of the file)."""
    whole, raw_hash = hashlib.sha256(), hashlib.sha256()
    packer = compressor(settings)

    def write(data: bytes, offset: int) -> int:
        whole.update(data)
        return calls.write_all(fd, [data], offset)

    at = write(encode_prefix(session_date, segment, settings.block_bytes), 0)
    assert at == PREFIX_BYTES
    blocks: list[Block] = []
    for offset in range(0, size, settings.block_bytes):
        raw = os.pread(raw_fd, min(settings.block_bytes, size - offset), offset)
        if len(raw) != min(settings.block_bytes, size - offset):
            raise OSError(5, "the raw segment became shorter while it was read")
        raw_hash.update(raw)
        packed = packer.compress(raw)
        head = encode_block(len(blocks), offset, raw, packed)
        _, _, _, _, _, raw_crc, packed_crc, _ = BLOCK.unpack(head)
        block = Block(at + BLOCK.size, offset, len(raw), len(packed), raw_crc, packed_crc)
        at = write(head + packed, at)
        if unpack_block(fd, block) != raw:
            raise OSError(5, "the sealed block does not read back as it was written")
        blocks.append(block)
        on_block()
    footer = Footer(
        at, len(blocks), size, (facts.last_seq + 1) if facts.first_seq is None else facts.first_seq, facts.last_seq,
        facts.first_ts, facts.last_ts, facts.frames, raw_hash.digest(), facts.clean,
    )  # fmt: skip
    at = write(encode_index(blocks), at)
    at = write(encode_footer(footer), at)
    return footer, at, whole.hexdigest()


def compressor(settings: JournalSettings) -> zstandard.ZstdCompressor:
    """Packs blocks at the configured level, where that level's search fits the lines of a feed.

    Lines share long texts with those just before them: with levels that search lazily, matches of six bytes and more in a table that
    stays in the processor's cache are found a fifth faster, and pack as well or better than the level's own table of four times the size.
    """
    own = zstandard.ZstdCompressionParameters.from_level(settings.compression_level, source_size=settings.block_bytes)
    if own.strategy != zstandard.STRATEGY_LAZY2:
        return zstandard.ZstdCompressor(compression_params=own)
    table = min(TABLE_LOG, own.hash_log)
    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            settings.compression_level, source_size=settings.block_bytes, hash_log=table, chain_log=table, min_match=6
        )
    )


def _facts_of(fd: int, size: int) -> _Facts:
    """Walk the frames of a raw segment, over damage."""
    facts = _Facts()
    if size == 0:
        return facts
    with mmap.mmap(fd, size, prot=mmap.PROT_READ) as data, memoryview(data) as view:
        at = 0
        try:
            header, at = decode_segment_header(view, "segment")
            facts.last_seq, facts.last_ts, facts.clean = header.last_seq, header.last_ts, header.clean
        except JournalCorrupt:
            pass  # the frames are found without it
        found: Frame | None = find_frame(data, view, at, size)
        while found is not None:
            for frame in frames_from(view, found.start, size):
                _note(facts, frame, view)
                at = frame.end
            found = find_frame(data, view, at, size)
    return facts


def _note(facts: _Facts, frame: Frame, view: memoryview) -> None:
    facts.frames += 1
    facts.first_ts = frame.ts_recv if facts.first_ts is None else facts.first_ts
    facts.last_ts = frame.ts_recv
    facts.last_seq = max(facts.last_seq, frame.seq_last)
    facts.clean = frame.kind == FrameKind.CONTROL and is_stop(view[frame.start + FRAME_BYTES : frame.end])
    if frame.kind == FrameKind.DATA and facts.first_seq is None:
        facts.first_seq = frame.seq_first


def _room(settings: Settings) -> int:
    """Bytes that sealing may take without taking them from the recording."""
    state = os.statvfs(settings.journal_dir)
    return state.f_bavail * state.f_frsize - settings.disk.recording_bytes


def run_sealer(settings: Settings, stop_event: threading.Event, clock: Clock) -> None:
    """Seal every stream until `stop_event`; waits for the lease when another sealer runs."""
    log = get_logger(WORKER)
    lease = Lease(settings.run_dir / "leases" / WORKER)
    heartbeat = Heartbeat(settings.run_dir / "heartbeats" / f"{WORKER}.json", WORKER, clock)
    sealed = raw_bytes = packed_bytes = failures = 0
    beat_at = 0
    error = ""

    def beat(*, force: bool = False, state: str = "live") -> None:
        nonlocal beat_at
        now = clock.monotonic_ns()
        if force or now >= beat_at:
            beat_at = now + int(settings.supervision.heartbeat_s * 1e9)
            heartbeat.beat(
                state, segments=sealed, raw_bytes=raw_bytes, packed_bytes=packed_bytes, failures=failures, error=error
            )

    def on_block() -> None:
        if stop_event.is_set():
            raise _Stopped
        beat()

    if not lease.acquire(wait=True, stop=stop_event):
        return
    try:
        os.nice(NICENESS)
        sweep_staging(settings.journal_dir)
        look_at = 0
        while not stop_event.is_set():
            if clock.monotonic_ns() >= look_at:
                look_at = clock.monotonic_ns() + int(settings.journal.seal_s * 1e9)
                error = ""
                for stream in list_streams(settings.journal_dir):
                    try:
                        for entry in seal_closed(
                            settings.journal_dir, stream, settings.journal, on_block=on_block, room=partial(_room, settings)
                        ):
                            sealed, raw_bytes = sealed + 1, raw_bytes + entry.raw_bytes
                            packed_bytes += entry.bytes
                            log.info(
                                "segment_sealed", stream=stream, session_date=entry.session_date, segment=entry.segment,
                                raw_bytes=entry.raw_bytes, packed_bytes=entry.bytes,
                            )  # fmt: skip
                    except L2Error as failure:
                        failures += 1
                        error = failure.message
                        log.warning("sealing_failed", stream=stream, error=failure.message)
            beat(state="degraded" if error else "live")
            stop_event.wait(min(settings.supervision.heartbeat_s, settings.journal.seal_s))
    except _Stopped:
        log.info("sealing_interrupted")
    finally:
        beat(force=True, state="stopped")
        lease.release()


def main() -> int:
    """The worker's process."""
    try:
        settings = load_settings()
    except L2Error as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    configure_logging(WORKER, settings.log)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not from the handler itself: it may interrupt the wait for this very event, which holds the event's lock.
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    try:
        run_sealer(settings, stop, SystemClock())
    except L2Error as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
