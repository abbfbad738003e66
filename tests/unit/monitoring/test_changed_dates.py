"""Changes of closed dates are noted and forgotten one by one."""

from pathlib import Path

import pytest

from l2_platform.errors import L2Error
from l2_platform.monitoring.changed_dates import changed_dates, changes_of, forget, note_change


def test_a_change_that_came_while_the_date_was_archived_is_kept(tmp_path: Path) -> None:
    assert changed_dates(tmp_path) == {}
    for session_date, ts in ((20261118, 5), (20261118, 9), (20261119, 7)):
        note_change(tmp_path, session_date, ts)
    assert changed_dates(tmp_path) == {20261118: 9, 20261119: 7}
    archived = changes_of(tmp_path, 20261118)
    note_change(tmp_path, 20261118, 11)
    forget(archived)
    assert changed_dates(tmp_path) == {20261118: 11, 20261119: 7}
    forget([*archived, *changes_of(tmp_path, 20261118)])
    assert changed_dates(tmp_path) == {20261119: 7}


def test_files_of_others_are_no_changes(tmp_path: Path) -> None:
    note_change(tmp_path, 20261118, 5)
    (tmp_path / "changed" / "notes.of.somebody").touch()
    assert changed_dates(tmp_path) == {20261118: 5}


def test_nothing_is_changed_when_it_cannot_be_noted(tmp_path: Path) -> None:
    (tmp_path / "changed").write_text("no folder")
    with pytest.raises(L2Error, match="nothing was changed"):
        note_change(tmp_path, 20261118, 5)
