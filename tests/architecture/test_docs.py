"""The documents tell what is: commands, make targets, settings, tables, columns and links that they name exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from l2_platform.cli import app
from l2_platform.settings import field_paths, variable_of

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MIGRATIONS = sorted((ROOT / "l2_platform" / "warehouse" / "migrations").glob("*.sql"))
PLACEHOLDERS = {"STREAM", "SINK", "NAME", "FILE", "SYMBOL", "up`"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands() -> dict[str, object]:
    """`name` or `group name` → the command, as typer builds them."""
    found = {}
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        found[name] = command
        for sub_name, sub in getattr(command, "commands", {}).items():
            found[f"{name} {sub_name}"] = sub
    return found


def code_of(text: str) -> Iterator[str]:
    """Lines of code blocks, and inline code."""
    outside = []
    for number, part in enumerate(text.split("```")):
        if number % 2:
            yield from (line.strip() for line in part.splitlines())
        else:
            outside.append(part)
    yield from re.findall(r"`([^`\n]+)`", "".join(outside))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_commands_exist(path: Path):
    known = commands()
    for code in code_of(path.read_text(encoding="utf-8")):
        for match in re.finditer(r"(?:^|\s|&& )l2 ([a-z]+)(?: ([a-z]+))?", code):
            first, second = match.groups()
            assert first in known, code
            if second and hasattr(known[first], "commands") and not hasattr(known[first], "show_first"):
                named = f"{first} {second}"
                assert named in known or second.upper() in PLACEHOLDERS, code


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_make_targets_exist(path: Path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for code in code_of(path.read_text(encoding="utf-8")):
        match = re.match(r"make ([a-z]+)", code)
        assert match is None or match.group(1) in targets, code


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / ".env.example"], ids=name_of)
def test_named_settings_exist(path: Path):
    known = {variable_of(field) for field in field_paths()}
    for name in re.findall(r"\bL2_[A-Z0-9_]+\b", path.read_text(encoding="utf-8")):
        assert name in known or name.removesuffix("_FILE") in known, name


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_inside_the_repository_lead_somewhere(path: Path):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_every_table_and_column_is_described():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    sql = "".join(path.read_text(encoding="utf-8") for path in MIGRATIONS)
    tables = re.findall(r"CREATE TABLE IF NOT EXISTS \{database\}\.(\w+)\n\((.*?)\n\)", sql, re.DOTALL)
    assert tables
    for table, body in tables:
        columns = set(re.findall(r"^    (\w+) (?!\()", body, re.MULTILINE)) - {"PROJECTION", "INDEX", "CONSTRAINT"}
        columns |= set(re.findall(rf"ALTER TABLE \{{database\}}\.{table}\s+ADD COLUMN IF NOT EXISTS (\w+)", sql))
        described = set(re.findall(r"^\| `(\w+)` \|", sections[table], re.MULTILINE))
        assert columns == described, table
    for view in re.findall(r"CREATE VIEW IF NOT EXISTS \{database\}\.(\w+)", sql):
        assert view in sections


def test_every_command_has_help_with_an_example():
    for name, command in commands().items():
        if hasattr(command, "commands"):
            continue
        assert command.help, name
        assert "l2 " in command.help, f"{name}: no example"


def test_first_screen_of_the_readme_runs_in_four_commands():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("```"))
    assert start <= 15
    block = lines[start + 1 : lines.index("```", start + 1)]
    assert len(block) <= 4
    assert block[0].startswith("make up")
