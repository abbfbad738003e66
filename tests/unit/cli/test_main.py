"""The edge of the command line: one line and an exit code for every end."""

import errno
import json
import os
import re
import subprocess
import sys

import pytest
import typer

from l2_platform import cli
from l2_platform.errors import InputError, L2Error, LeaseHeld


def run_with(monkeypatch, error: BaseException) -> int:
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    return cli.run(["anything"])


@pytest.mark.parametrize(("error", "code"), [(L2Error("a"), 1), (InputError("a"), 2), (LeaseHeld("a"), 75)])
def test_our_errors_are_one_line_with_their_exit_code(monkeypatch, capsys, error, code):
    assert run_with(monkeypatch, error) == code
    assert capsys.readouterr().err == "error: a\n"


def test_interrupt_ends_with_130(monkeypatch, capsys):
    assert run_with(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""


def test_defect_is_one_line_and_a_traceback_in_a_file(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    assert run_with(monkeypatch, ZeroDivisionError("x")) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    path = re.search(r"traceback: (.*)\)", said)[1]
    assert "ZeroDivisionError" in (tmp_path / "logs" / path).read_text()


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_refusal_of_the_machine_is_no_defect(monkeypatch, capsys, tmp_path, code):
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    assert run_with(monkeypatch, OSError(code, os.strerror(code), "/data/l2/run")) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: /data/l2/run: {os.strerror(code).lower()}; ")
    assert said.count("\n") == 1
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("command", [["up"], ["sql", "SELECT 1"], ["warehouse"], ["simulate"], ["collect", "iqfeed-depth-0"]])
def test_a_home_that_cannot_be_made_is_one_line(monkeypatch, capsys, tmp_path, command):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("L2_HOME", str(tmp_path / "file"))
    assert cli.run(command) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "choose another L2_HOME" in said


def test_wrong_option_points_to_the_help(capsys):
    assert cli.run(["status", "--nonsense"]) == 2
    assert capsys.readouterr().err == "error: No such option: --nonsense (see `l2 status --help`)\n"


def test_unknown_variable_names_the_nearest(monkeypatch, capsys):
    monkeypatch.setenv("L2_JSONL__LEVEL", "5")
    assert cli.run(["settings"]) == 2
    assert "did you mean L2_JSONL__LEVELS?" in capsys.readouterr().err


def test_exit_code_of_a_command_is_passed_on(monkeypatch, tmp_path):
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    assert cli.run(["status"]) == 3


def test_settings_mask_secrets(monkeypatch, capsys):
    monkeypatch.setenv("L2_FEED__PASSWORD", "the-pass-word")
    assert cli.run(["settings", "--changed"]) == 0
    said = capsys.readouterr().out
    assert "the-pass-word" not in said
    assert "feed.password\tL2_FEED__PASSWORD\t********" in said


def test_logs_show_the_end_of_one(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "sealer.log").write_text("".join(f"line {number}\n" for number in range(100)))
    assert cli.run(["logs", "sealer", "-n", "2"]) == 0
    assert capsys.readouterr().out == "line 98\nline 99\n"
    assert cli.run(["logs", "sealr"]) == 2
    assert "sealer" in capsys.readouterr().err


def test_logs_in_a_pipe_have_no_colour_and_can_be_json(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "daemon.log").write_text("\x1b[32m10:00\x1b[0m - \x1b[34mINFO\x1b[0m - ok\n")
    assert cli.run(["logs", "daemon"]) == 0
    assert capsys.readouterr().out == "10:00 - INFO - ok\n"
    assert cli.run(["logs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"log": "daemon", "text": "10:00 - INFO - ok"}


def test_status_of_nothing_says_how_to_start(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    assert cli.run(["status"]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == "not running: `l2 up` starts everything"


@pytest.mark.parametrize("query", ["SELECT 1; SELECT 2", "SELECT 1 INTO OUTFILE 'x'", "  "])
def test_a_query_that_cannot_be_is_refused_before_a_warehouse_starts(monkeypatch, capsys, tmp_path, query):
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    assert cli.run(["sql", query]) == 2
    assert "Code:" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_sql_takes_one_format(capsys):
    assert cli.run(["sql", "SELECT 1", "--json", "--format", "csv"]) == 2
    assert "one of them" in capsys.readouterr().err


def test_a_control_command_does_not_wait_for_kernels():
    code = "import sys, l2_platform.feeds.iqfeed.simulator.control; sys.exit('numba' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_module_registers_its_commands():
    names = set(typer.main.get_command(cli.app).commands)
    assert {"up", "down", "status", "logs", "doctor", "settings"} <= names
