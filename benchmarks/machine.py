"""What this machine is, and how fast it can copy memory and write its disk: what every figure is held against.

What does not belong here: anything of the platform.
"""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import psutil

from benchmarks.figure import Context, Result, Spread, figure

PACKAGES = ("numba", "numpy", "chdb", "clickhouse-connect", "pyarrow", "zstandard", "crc32c", "uvicorn")
COPY_BYTES = 256 << 20
"""Far beyond any cache."""
DISK_BLOCK_BYTES = 8 << 20
FSYNC_BYTES = 4096


def facts(folder: Path) -> dict[str, str]:
    """The machine in words; `folder` tells which filesystem is measured."""
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "caches": caches(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem(folder),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name))),
    }


def caches() -> str:
    """Caches of the first core: "L1d 48K, L2 2048K, L3 36864K"; empty where the kernel does not tell."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}{'d' if kind == 'Data' else ''}"] = size
    return ", ".join(f"{name} {size}" for name, size in found.items())


def filesystem(folder: Path) -> str:
    """Type of the filesystem that holds a folder: ext4, xfs, tmpfs …"""
    holding = [
        part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(Path(part.mountpoint))
    ]
    return max(holding, key=lambda part: len(part.mountpoint)).fstype if holding else "unknown"


@figure("machine", title="What the machine can do", unit="as named", order=1)
def machine(ctx: Context) -> Result:
    """Copy of 256 MiB between two arrays by one thread (bytes copied; memory moves twice as many); a sequential file of 1 GiB in
    8 MiB writes, then fdatasync; single appends of 4 KiB, each with fdatasync; all bytes of an array added up by one thread. Other
    figures state how far from these they are.
    """
    copy = copy_speed(ctx)
    scan = scan_speed(ctx)
    write = disk_speed(ctx, ctx.pick(16 << 20, 1 << 30), passes=3)
    single = fsync_time(ctx, ctx.pick(5, 200))
    return Result(
        rows=[
            {"what": "memory copy, one thread, GB/s", "measured": copy},
            {"what": "memory read (sum of bytes), one thread, GB/s", "measured": scan},
            {"what": "disk, sequential write + fdatasync, MB/s", "measured": write},
            {"what": "append 4 KiB + fdatasync, ms", "measured": single},
        ],
        limit="these are the limits",
    )


def measure_limits(ctx: Context) -> dict[str, float]:
    """The medians that other figures compare with: `copy_gb_s`, `disk_mb_s`, `fsync_ms`; some seconds."""
    return {
        "copy_gb_s": copy_speed(ctx).median,
        "disk_mb_s": disk_speed(ctx, ctx.pick(8 << 20, 256 << 20), passes=3).median,
        "fsync_ms": fsync_time(ctx, ctx.pick(3, 50)).median,
    }


def copy_speed(ctx: Context) -> Spread:
    """GB copied a second by one thread."""
    source = np.ones(ctx.pick(8 << 20, COPY_BYTES), np.uint8)
    target = np.empty_like(source)
    return ctx.repeat(lambda: np.copyto(target, source)).rate(len(source) / 1e9)


def scan_speed(ctx: Context) -> Spread:
    """GB read a second by one thread."""
    source = np.ones(ctx.pick(8 << 20, COPY_BYTES) // 8, np.uint64)
    return ctx.repeat(lambda: int(source.sum())).rate(source.nbytes / 1e9)


def disk_speed(ctx: Context, size: int, passes: int) -> Spread:
    """MB a second, sequential, until fdatasync has returned; bytes that do not compress."""
    block = np.random.default_rng(1).integers(0, 256, DISK_BLOCK_BYTES, np.uint8).tobytes()
    path = ctx.scratch / "sequential"

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(max(1, size // len(block))):
                file.write(block)
            os.fdatasync(file.fileno())

    seconds = ctx.repeat(write, passes=passes, prepare=lambda: path.unlink(missing_ok=True), warm=0)
    path.unlink()
    return seconds.rate(max(1, size // len(block)) * len(block) / 1e6)


def fsync_time(ctx: Context, passes: int) -> Spread:
    """Ms of one append of 4 KiB with its fdatasync."""
    with (ctx.scratch / "appended").open("wb", buffering=0) as file:

        def append() -> None:
            file.write(bytes(FSYNC_BYTES))
            os.fdatasync(file.fileno())

        return ctx.repeat(append, passes=passes).times(1e3)


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
