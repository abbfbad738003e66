"""Which processes run, in which order, on which ports."""

import configparser
import shlex
from pathlib import Path

import pytest

from l2_platform.errors import ConfigError
from l2_platform.operations.plan import STOP_ORDER, Phase, addresses, plan_parts
from l2_platform.operations.supervisord import render_config, socket_path
from l2_platform.settings import Settings


def settings_with(**changes) -> Settings:
    return Settings(**{"home": Path("/l2"), **changes})


def test_demo_runs_every_part_once():
    names = [part.name for part in plan_parts(settings_with())]
    assert len(names) == len(set(names))
    assert set(names) == {
        "warehouse", "deliver-clickhouse", "deliver-jsonl", "sealer", "simulator", "collector-iqfeed-depth-0",
        "collector-iqfeed-level1-0", "collector-iqfeed-admin-0", "dagster-code", "dagster-webserver", "dagster-daemon", "watchdog",
    }  # fmt: skip


def test_real_feed_starts_no_simulator():
    assert "simulator" not in {part.name for part in plan_parts(settings_with(feed={"kind": "iqfeed"}))}


def test_real_server_starts_no_warehouse_but_delivers():
    names = {part.name for part in plan_parts(settings_with(clickhouse={"embedded": False}))}
    assert "warehouse" not in names
    assert "deliver-clickhouse" in names


def test_what_is_switched_off_is_not_started():
    changes = {"jsonl": {"enabled": False}, "dagster": {"enabled": False}, "clickhouse": {"enabled": False}}
    names = {part.name for part in plan_parts(settings_with(**changes))}
    assert not {"deliver-jsonl", "deliver-clickhouse", "warehouse", "dagster-code"} & names


def test_sources_stop_before_sinks_and_the_warehouse_last():
    order = {phase: STOP_ORDER.index(phase) for phase in Phase}
    assert order[Phase.WATCH] == 0
    assert order[Phase.COLLECT] < order[Phase.DELIVER] < order[Phase.STORE]


def test_base_port_moves_every_port():
    usual = {port for part in plan_parts(settings_with()) for port in part.ports}
    moved = [port for part in plan_parts(settings_with(ports={"base": 20_000})) for port in part.ports]
    assert not usual & set(moved)
    assert all(20_000 <= port <= 20_040 for port in moved)
    assert len(moved) == len(set(moved))


def test_addresses_name_the_moved_ports():
    shown = addresses(settings_with(ports={"base": 20_000}))
    assert "20000" in shown["Dagster"]
    assert "20002" in shown["warehouse"]
    assert "20020" in shown["feed"]


def test_config_has_a_program_for_each_part_and_no_secret(monkeypatch):
    secret = "the-pass-word"
    settings = settings_with(feed={"kind": "iqfeed", "password": secret}, clickhouse={"password": secret})
    text = render_config(settings, plan_parts(settings), Path("/somewhere"))
    parsed = configparser.RawConfigParser()
    parsed.read_string(text)
    for part in plan_parts(settings):
        section = parsed[f"program:{part.name}"]
        assert shlex.split(section["command"]) == list(part.command)
        assert section["startsecs"] == "0"
        assert int(section["startretries"]) >= 1_000_000
        assert section["killasgroup"] == ("true" if part.whole_group else "false")
    assert secret not in text


def test_config_priorities_stop_in_the_order_of_the_phases():
    parts = plan_parts(settings_with())
    by_stop = sorted(parts, key=lambda part: -part.priority)
    assert [STOP_ORDER.index(part.phase) for part in by_stop] == sorted(STOP_ORDER.index(part.phase) for part in parts)


def test_percent_in_a_path_is_escaped():
    settings = settings_with(home=Path("/l2%x"))
    assert "/l2%%x/run" in render_config(settings, plan_parts(settings), Path("/"))


def test_home_that_is_too_long_for_a_socket_is_refused():
    with pytest.raises(ConfigError, match="too long for a unix socket"):
        socket_path(settings_with(home=Path("/" + "x" * 120)))
