"""The kernel cache: damaged files go, whole ones stay, and a folder that cannot be written is replaced."""

import pickle

import pytest

from l2_platform.monitoring import runtime


@pytest.fixture(autouse=True)
def keep_the_cache_of_this_run(monkeypatch, numba_cache):
    import numba

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(numba_cache))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(numba_cache))


def test_truncated_files_are_deleted_and_whole_ones_kept(tmp_path):
    whole = pickle.dumps({"code": b"x" * 1000})
    for name, data in {
        "a.nbc": whole, "a.nbi": whole + whole, "cut.nbc": whole[:500], "cut.nbi": whole + whole[:-1],
        "empty.nbi": b"", "more.nbc": whole + b"x",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
    assert [path.name for path in runtime.delete_damaged(tmp_path)] == ["cut.nbc", "cut.nbi", "empty.nbi", "more.nbc"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nbc", "a.nbi"]


def test_files_that_numba_wrote_are_whole(numba_cache):
    assert runtime.delete_damaged(numba_cache) == []


def test_the_folder_is_made_and_former_versions_go(tmp_path):
    for number in range(6):
        (tmp_path / f"{number:012d}").mkdir()
    folder = runtime.prepare_numba(tmp_path)
    assert folder.parent == tmp_path
    assert len(list(tmp_path.iterdir())) == runtime.CACHES_KEPT + 1


def test_a_folder_that_cannot_be_made_is_replaced(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    folder = runtime.prepare_numba(blocked)
    assert folder.is_dir()
    assert tmp_path not in folder.parents
