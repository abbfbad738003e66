import signal
import subprocess
import sys

import pytest

from l2_platform.errors import DateBusy, L2Error
from l2_platform.monitoring.leases import ALL_STREAMS, date_holders, date_lease

DATE = 20250725
HOLD = """
import sys
from pathlib import Path
from l2_platform.monitoring.leases import date_lease
with date_lease(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), "rebuild"):
    print("held", flush=True)
    sys.stdin.read()
"""


def held_elsewhere(run_dir, stream):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run_dir), stream, str(DATE)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_another_process_is_named_and_its_death_frees_the_date(tmp_path):
    other = held_elsewhere(tmp_path, ALL_STREAMS)
    message = rf"2025-07-25 is being changed by rebuild \(process {other.pid}\), all streams"
    with pytest.raises(DateBusy, match=message) as error, date_lease(tmp_path, "iqfeed-depth-0", DATE, "close"):
        pass
    assert not error.value.retryable
    assert date_holders(tmp_path, DATE) == {ALL_STREAMS: f"rebuild (process {other.pid})"}
    end(other)
    assert date_holders(tmp_path, DATE) == {}
    with date_lease(tmp_path, ALL_STREAMS, DATE, "close"):
        pass


def test_streams_of_a_date_go_together_and_exclude_the_whole_date(tmp_path):
    other = held_elsewhere(tmp_path, "iqfeed-depth-0")
    with date_lease(tmp_path, "iqfeed-level1-0", DATE, "rebuild"):
        with pytest.raises(DateBusy, match="iqfeed-depth-0"), date_lease(tmp_path, ALL_STREAMS, DATE, "close"):
            pass
        with pytest.raises(DateBusy, match=str(other.pid)), date_lease(tmp_path, "iqfeed-depth-0", DATE, "rebuild"):
            pass
    with date_lease(tmp_path, "iqfeed-depth-0", DATE + 3, "rebuild"):
        pass
    end(other)


def test_within_one_process_the_second_is_refused_and_the_end_frees_it(tmp_path):
    closing = date_lease(tmp_path, ALL_STREAMS, DATE, "close")
    archiving = date_lease(tmp_path, ALL_STREAMS, DATE, "archive")
    with closing, pytest.raises(DateBusy, match="close"), archiving:
        pass
    assert date_holders(tmp_path, DATE) == {}
    with pytest.raises(ZeroDivisionError), date_lease(tmp_path, ALL_STREAMS, DATE, "close"):
        raise ZeroDivisionError
    with date_lease(tmp_path, ALL_STREAMS, DATE, "archive"):
        assert list(date_holders(tmp_path, DATE)) == [ALL_STREAMS]


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "leases").write_text("in the way")
    with pytest.raises(L2Error, match="cannot take the lease"), date_lease(tmp_path, ALL_STREAMS, DATE, "close"):
        pass
