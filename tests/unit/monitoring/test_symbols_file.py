"""The symbols file: what is in it, what is refused, how it is edited."""

import threading

import pytest

from l2_platform.errors import ConfigError
from l2_platform.monitoring.symbols_file import (
    SymbolGroup,
    SymbolsFile,
    demo_symbols,
    edit_symbols,
    format_symbols,
    load_symbols,
    parse_symbols,
    simulated_symbols,
    symbols_of_stream,
    with_added,
    with_group,
    with_removed,
    write_symbols,
)

TEXT = """
version = 3

[groups.demo]
symbols = ["SYM000", "@ESZ26"]
enabled = true

[groups.off]
symbols = ["AAPL"]
enabled = false
"""


def test_parse_symbols_of_enabled_groups():
    file = parse_symbols(TEXT, "x")
    assert file.version == 3
    assert file.symbols == ("SYM000", "@ESZ26")
    assert file.group("off") == SymbolGroup("off", ("AAPL",), False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = 0", "version is 0"),
        ("version = true", "version is True"),
        ("x = 1", "unknown entry 'x'"),
        ("[groups.a]\nsymbols = 'A'", "group a: symbols must be a list"),
        ("[groups.a]\nsymbols = [1]", "group a: symbols must be a list"),
        ("[groups.a]\nsymbol = ['A']", "group a: unknown entry 'symbol'"),
        ("[groups.a]\nenabled = 1", "group a: enabled is 1"),
        ("[groups.'a b']\nsymbols = []", "letters, digits"),
        ("groups = 3", "groups must be tables"),
        ("[groups.a]\nsymbols = ['A,B']", "group a: symbol 'A,B' has a character"),
        ("[groups.a]\nsymbols = ['A B']", "group a: symbol 'A B' has a character"),
        ("[groups.a]\nsymbols = ['']", "group a: symbol '' has a character"),
        ("[groups.a]\nsymbols = ['aapl']", "'AAPL'"),
        ("[groups.a]\nsymbols = ['" + "A" * 31 + "']", "longer than 30"),
        ("[groups.a]\nsymbols = ['A', 'A']", "group a: symbol 'A' is already in group a"),
        ("[groups.a]\nsymbols = ['A']\n[groups.b]\nsymbols = ['A']", "group b: symbol 'A' is already in group a"),
        ("[groups.a]\nsymbols = ['A', 'B', 'C', 'D']", "4 enabled symbols, the limit is 3"),
        ("[groups", "symbols file the-file: "),
    ],
)
def test_parse_refuses_naming_file_group_and_symbol(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_symbols(text, "the-file", limit=3)
    assert "the-file" in caught.value.message
    assert message in caught.value.message


def test_load_missing_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_symbols(tmp_path / "none.toml")


def test_write_then_load_is_the_same(tmp_path):
    file = SymbolsFile(
        7, (SymbolGroup("a", tuple(f"S{n}" for n in range(25))), SymbolGroup("q", ("A\\B", 'C"D'), False))
    )
    write_symbols(tmp_path / "s.toml", file)
    assert load_symbols(tmp_path / "s.toml") == file
    assert sorted(path.name for path in tmp_path.iterdir()) == [".s.toml.versions", "s.toml"]


def test_write_refused_keeps_the_old_file(tmp_path):
    path = tmp_path / "s.toml"
    write_symbols(path, demo_symbols(3))
    with pytest.raises(ConfigError):
        write_symbols(path, demo_symbols(30), limit=10)
    assert load_symbols(path) == demo_symbols(3)


def test_edit_raises_the_version_only_when_something_changed(tmp_path):
    path = tmp_path / "s.toml"
    write_symbols(path, demo_symbols(3))
    assert edit_symbols(path, lambda file: with_added(file, "demo", ["SYM000"])).version == 1
    assert edit_symbols(path, lambda file: with_added(file, "mine", ["AAPL", "AAPL"])).version == 2
    assert edit_symbols(path, lambda file: with_removed(file, ["SYM001"])).symbols == ("SYM000", "SYM002", "AAPL")
    after = edit_symbols(path, lambda file: with_group(file, "mine", ["IBM"], enabled=False))
    assert (after.version, after.symbols) == (4, ("SYM000", "SYM002"))
    assert load_symbols(path) == after


def test_edit_by_many_at_once_loses_nothing(tmp_path):
    path = tmp_path / "s.toml"
    write_symbols(path, demo_symbols(1))
    threads = [
        threading.Thread(target=edit_symbols, args=(path, lambda file, name=f"X{n}": with_added(file, "demo", [name])))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = load_symbols(path)
    assert after.version == 21
    assert len(after.symbols) == 21


def test_simulated_symbols_are_as_wide_as_the_market_names_them():
    assert simulated_symbols(2) == ("SYM000", "SYM001")
    assert simulated_symbols(1000)[-1] == "SYM999"
    assert simulated_symbols(1001)[0] == "SYM0000"
    assert simulated_symbols(10_000)[-1] == "SYM9999"


def test_symbols_of_stream_are_shared_out_completely_and_stay():
    names = simulated_symbols(500)
    streams = ("iqfeed-depth-0", "iqfeed-depth-1", "iqfeed-level1-0", "iqfeed-admin-0")
    first, second = (symbols_of_stream(names, stream, streams) for stream in streams[:2])
    assert sorted(first + second) == sorted(names)
    assert min(len(first), len(second)) > 150
    assert symbols_of_stream(names, "iqfeed-level1-0", streams) == names
    assert symbols_of_stream(names, "iqfeed-admin-0", streams) == ()
    assert set(symbols_of_stream(names[:100], "iqfeed-depth-0", streams)) <= set(first)


def test_format_symbols_reads_back():
    assert parse_symbols(format_symbols(demo_symbols(12)), "x") == demo_symbols(12)
