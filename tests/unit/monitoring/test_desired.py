from dataclasses import replace

import pytest

from l2_platform.errors import ConfigError
from l2_platform.monitoring.desired import DesiredState, read_desired, write_desired

STATE = DesiredState(
    "collector-iqfeed-depth-0", 3, True, ("iqfeed-depth-0",), ("A", "B.C"), ((20240102, 5), (20240103, 9)), "XNYS"
)


def test_desired_state_reads_back(tmp_path):
    path = tmp_path / "desired" / "w.json"
    assert read_desired(path) is None
    write_desired(path, STATE)
    assert read_desired(path) == STATE
    write_desired(path, replace(STATE, enabled=False))
    again = read_desired(path)
    assert again is not None
    assert again.enabled is False
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"worker": "w"}', '{"worker":"w","generation":1,"enabled":"no"}'])
def test_garbled_file_is_named(tmp_path, text):
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"w\.json: not a desired state"):
        read_desired(path)
