import json

import pytest

from l2_platform.cli import run
from tests.unit.journal.stream import DATE, NAME, NEXT, Stream


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    stream = Stream(tmp_path)
    writer = stream.opened(segment_bytes_max=1 << 16)
    writer.control("session", 1_704_200_000_000_000_000, 0, session_date=DATE, reset=True)
    for _ in range(3):
        writer.append(b"T,20240102 10:00:00\r\n" + b"x" * 29_000 + b"\r\n", 2, 1_704_200_000_123_456_789, 1)
    writer.roll(NEXT)
    writer.append(b"\xff,not text\r\n", 1, 1_704_300_000_000_000_000, 1)
    writer.sync()
    yield stream
    stream.end()


def test_ls_tells_state_lines_and_times(home, capsys):
    assert run(["journal", "ls", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["session_date"], row["segment"], row["state"], row["first_seq"], row["last_seq"]) for row in rows] == [
        (DATE, 1, "closed", 1, 4), (DATE, 2, "closed", 5, 6), (NEXT, 1, "open", 1, 1),
    ]  # fmt: skip
    assert rows[0]["last_ts"] == "2024-01-02T12:53:20.123456789Z"
    assert run(["journal", "seal"]) == 0
    capsys.readouterr()
    assert run(["journal", "ls", NAME, "--date", "2024-01-02"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split("\t")[:4] == ["stream", "session_date", "segment", "state"]
    assert [line.split("\t")[3] for line in out[1:]] == ["sealed", "sealed"]


def test_cat_prints_lines_and_controls(home, capfdbinary):
    assert run(["journal", "cat", NAME, "--date", "20240102", "--to-seq", "3", "--from-seq", "1", "--controls"]) == 0
    out = capfdbinary.readouterr().out.splitlines()
    assert out[0].startswith(b"0\t2024-01-02T12:53:20.000000000Z\t# session {")
    assert out[1] == b"1\t2024-01-02T12:53:20.123456789Z\tT,20240102 10:00:00"
    assert [line.split(b"\t")[0] for line in out[1:]] == [b"1", b"2", b"3"]


def test_cat_raw_gives_the_bytes_of_the_newest_date(home, capfdbinary):
    assert run(["journal", "cat", NAME, "--raw"]) == 0
    assert capfdbinary.readouterr().out == b"\xff,not text\r\n"


def test_cat_as_json_keeps_bytes_that_are_no_text(home, capfd):
    assert run(["journal", "cat", NAME, "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"seq": 1, "ts_recv": "2024-01-03T16:40:00.000000000Z", "line": "\\xff,not text"}


def test_cat_says_why_there_is_nothing(home, capfd):
    assert run(["journal", "cat", NAME, "--from-seq", "99"]) == 0
    assert "ends at seq 1" in capfd.readouterr().err
    assert run(["journal", "cat", NAME, "--from-seq", "9", "--to-seq", "3"]) == 2
    assert "--to-seq 3 is before --from-seq 9" in capfd.readouterr().err


def test_seal_as_json_names_each_segment(home, capsys):
    assert run(["journal", "seal", "--json"]) == 0
    assert [(row["session_date"], row["file"]) for row in json.loads(capsys.readouterr().out)] == [
        (DATE, "000001.l2z"), (DATE, "000002.l2z"),
    ]  # fmt: skip
    assert run(["journal", "seal"]) == 0
    assert "nothing to seal" in capsys.readouterr().out


def test_verify_exit_code_tells(home, capsys):
    assert run(["journal", "verify"]) == 0
    assert "all is well: 2 session dates" in capsys.readouterr().out
    path = home.folder() / "000001.l2j"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    assert run(["journal", "verify", NAME, "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert findings[0]["segment"] == 1
    assert (3, 4) in [(finding["seq_from"], finding["seq_to"]) for finding in findings]
    assert run(["journal", "cat", NAME, "--date", "20240102"]) == 1
    assert "damage at segment 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ls", "nope"], "no stream nope"),
        (["cat", "nope"], f"there are: {NAME}"),
        (["cat", NAME, "--date", "20200101"], "it has 20240102, 20240103"),
        (["verify", "--date", "20200101"], "no stream has the session date"),
        (["ls", "--date", "someday"], "--date"),
    ],
)
def test_unknown_stream_or_date_is_explained(home, capsys, arguments, said):
    assert run(["journal", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_empty_journal(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run(["journal", "ls"]) == 0
    assert capsys.readouterr().out == "the journal is empty\n"
