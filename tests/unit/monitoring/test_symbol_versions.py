"""Versions of the symbols file: each is kept once, a bounded number of them, and a disk that refuses harms nothing."""

import os
from pathlib import Path

from l2_platform.monitoring.symbol_versions import keep_version, versions_between, versions_folder
from l2_platform.monitoring.symbols_file import demo_symbols, edit_symbols, parse_symbols, with_added, write_symbols


def written(path: Path, at_ns: int) -> None:
    path.write_text(f"version = {at_ns}\n", encoding="utf-8")
    os.utime(path, ns=(at_ns, at_ns))


def test_every_edit_is_kept_with_its_time(tmp_path: Path) -> None:
    path = tmp_path / "symbols.toml"
    write_symbols(path, demo_symbols(1))
    stamps = [path.stat().st_mtime_ns]
    for name in ("AAPL", "MSFT"):
        edit_symbols(path, lambda file, symbol=name: with_added(file, "demo", [symbol]))  # type: ignore[misc]
        stamps.append(path.stat().st_mtime_ns)
    found = versions_between(path, 0, 1 << 62)
    assert [at for at, _ in found] == stamps
    assert [parse_symbols(text, "x").symbols for _, text in found] == [("SYM000",), ("SYM000", "AAPL"), ("SYM000", "AAPL", "MSFT")]
    assert versions_between(path, stamps[0], stamps[2]) == found[1:2]


def test_the_newest_are_kept_and_one_time_is_one_version(tmp_path: Path) -> None:
    path = tmp_path / "symbols.toml"
    for at_ns in range(1, 8):
        written(path, at_ns)
        keep_version(path, 3)
        keep_version(path, 3)
    assert [at for at, _ in versions_between(path, 0, 100)] == [5, 6, 7]
    assert len(list(versions_folder(path).iterdir())) == 3


def test_no_file_and_no_room_are_no_errors(tmp_path: Path) -> None:
    path = tmp_path / "symbols.toml"
    keep_version(path)
    assert versions_between(path, 0, 100) == []
    versions_folder(path).write_text("in the way", encoding="utf-8")
    write_symbols(path, demo_symbols(1))
    assert path.exists()
