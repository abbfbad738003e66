"""Settings: what a person mistypes is named, with the nearest valid name; secrets come from files and never show."""

from pathlib import Path
from typing import Any

import pytest

from l2_platform.errors import ConfigError
from l2_platform.settings import field_paths, load_settings, variable_of


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("L2_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("L2_JSONL__LEVLES", "5", ["L2_JSONL__LEVLES", "L2_JSONL__LEVELS"]),
        ("L2_KAFFKA__PORT", "5", ["L2_KAFFKA__PORT"]),
        ("L2_JSONLX", "5", ["L2_JSONLX"]),
        ("L2_JSONL__LEVELS", "0", ["jsonl.levels", "greater than or equal to 1"]),
        ("L2_JSONL__LEVELS", "many", ["jsonl.levels", "integer"]),
        ("L2_FEED__SILENCE_S", "2", ["feed", "silence_s", "suspect_s"]),
        ("L2_PORTS__BASE", "80", ["ports.base", "1024"]),
        ("L2_STREAMS", "iqfeed-depth", ["streams", "feed-channel-number"]),
    ],
)
def test_wrong_variable_stops_with_its_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: list[str]) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert all(word in caught.value.message for word in words), caught.value.message


def test_dotenv_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("L2_JSONL__LEVELS=7\nL2_SIMULATOR__SEED=3\n")
    monkeypatch.setenv("L2_SIMULATOR__SEED", "4")
    settings = load_settings()
    assert (settings.jsonl.levels, settings.simulator.seed) == (7, 4)
    Path(".env").write_text("L2_JSONL__LEVLES=7\n")
    with pytest.raises(ConfigError, match="L2_JSONL__LEVELS"):
        load_settings()


def test_secret_file_is_read_masked_and_leaves_the_environment_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    file = tmp_path / "secret"
    file.write_text("hunter2 hunter2\n")
    monkeypatch.setenv("L2_FEED__PASSWORD_FILE", str(file))
    monkeypatch.setenv("L2_FEED__SILENCE_S", "20")
    settings = load_settings()
    assert settings.feed.password.get_secret_value() == "hunter2 hunter2"
    assert settings.feed.silence_s == 20
    assert "hunter2" not in repr(settings)
    assert "L2_FEED__PASSWORD" not in os.environ
    monkeypatch.setenv("L2_FEED__PASSWORD", "other")
    with pytest.raises(ConfigError, match="L2_FEED__PASSWORD_FILE"):
        load_settings()
    monkeypatch.delenv("L2_FEED__PASSWORD")
    monkeypatch.setenv("L2_FEED__PASSWORD_FILE", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="missing"):
        load_settings()


def test_one_base_moves_every_port_apart() -> None:
    ports = load_settings(ports={"base": 30_000}).ports
    names = ("dagster", "code_server", "warehouse", "level1", "lookup", "level2", "admin", "simulator_control")
    numbers = [getattr(ports, name) for name in names]
    assert len(set(numbers)) == len(numbers)
    assert all(30_000 <= number <= 30_040 for number in numbers)


def test_every_setting_has_a_variable_and_a_description() -> None:
    from l2_platform.settings import Settings

    assert variable_of("jsonl.levels") == "L2_JSONL__LEVELS"
    for path in field_paths():
        model: Any = Settings
        *sections, name = path.split(".")
        for section in sections:
            model = model.model_fields[section].annotation
        assert model.model_fields[name].description, path
