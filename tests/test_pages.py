"""Marked tables in pages. Oracles: pages written by hand, and a real command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from stored_runs import store

from da.records import commands
from da.records.pages import pages_of, refresh

PAGE = """# Title

<!-- table: toy -->
old

`python -m da table runs --experiment toy`
<!-- /table -->

between <!-- no table -->

<!-- table: more -->
`python -m da rank runs --experiment more`
<!-- /table -->
end
"""
MADE = {
    "table runs --experiment toy": "the toy's table",
    "rank runs --experiment more": "the ranks",
}


def test_every_marked_table_is_made_by_its_own_command(tmp_path: Path) -> None:
    page, other = tmp_path / "README.md", tmp_path / "other.md"
    page.write_text(PAGE)
    other.write_text("nothing marked\n")
    names = [f"{page}: toy", f"{page}: more"]
    assert refresh([page, other], MADE.__getitem__, check=True) == names
    assert page.read_text() == PAGE
    assert refresh([page, other], MADE.__getitem__) == names
    expected = PAGE.replace("old\n\n`", "the toy's table\n\n`").replace(
        "`python -m da rank", "the ranks\n\n`python -m da rank"
    )
    assert page.read_text() == expected and other.read_text() == "nothing marked\n"
    assert refresh([page, other], MADE.__getitem__, check=True) == []


@pytest.mark.parametrize("fence", ["```", "````markdown", "~~~", "    ```"])
def test_marks_in_a_fenced_block_stay_as_they_are(tmp_path: Path, fence: str) -> None:
    """The block holds a whole table, then an opening mark alone. Its last line closes it."""
    closing = fence.removesuffix("markdown")
    example = f"{fence}\n{PAGE}<!-- table: open -->\n{closing}\n"
    page = tmp_path / "page.md"
    page.write_text(example + PAGE + example)
    assert refresh([page], MADE.__getitem__) == [f"{page}: toy", f"{page}: more"]
    text = page.read_text()
    assert text.startswith(example) and text.endswith(example)
    assert "the toy's table" in text and "the ranks" in text


def test_a_table_may_hold_a_fenced_block(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("old", "```\nold\n```"))
    assert refresh([page], MADE.__getitem__) == [f"{page}: toy", f"{page}: more"]
    assert "```" not in page.read_text()


def test_a_mark_without_a_command_and_a_command_that_fails_are_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- table: toy -->\nold\n<!-- /table -->\n")
    with pytest.raises(ValueError, match="page.md: the table 'toy' must end in its command"):
        refresh([page], MADE.__getitem__)

    def fail(command: str) -> str:
        raise ValueError("no runs")

    page.write_text(PAGE)
    with pytest.raises(ValueError, match="page.md: the table 'toy': no runs"):
        refresh([page], fail)
    assert page.read_text() == PAGE


def test_pages_are_the_readme_and_the_documentation(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither README.md nor docs/"):
        pages_of(tmp_path)
    (tmp_path / "docs/results").mkdir(parents=True)
    for name in ("README.md", "docs/index.md", "docs/results/toy.md", "notes.md"):
        (tmp_path / name).write_text("")
    found = [path.relative_to(tmp_path).as_posix() for path in pages_of(tmp_path)]
    assert found == ["README.md", "docs/index.md", "docs/results/toy.md"]
    assert pages_of(tmp_path, [tmp_path / "notes.md"]) == [tmp_path / "notes.md"]
    with pytest.raises(FileNotFoundError, match="pages: no file .*absent.md"):
        pages_of(tmp_path, [tmp_path / "absent.md"])


def test_one_command_makes_all_tables_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"experiment": "toy", "method": "none", "source": "a", "target": "b", "seed": 0}
    store(tmp_path / "runs", names, {}, {"selected": {"last": {"step": 1, "target_accuracy": 0.5}}})
    mark = "<!-- table: toy -->\n`python -m da table runs --baseline none`\n<!-- /table -->\n"
    (tmp_path / "README.md").write_text(mark)
    words = [sys.executable, "-m", "da", "table"]
    checked = subprocess.run([*words, "--check"], cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 1 and "README.md: toy" in checked.stderr
    assert (tmp_path / "README.md").read_text() == mark
    monkeypatch.chdir(tmp_path)
    commands.table(["--refresh"])
    assert "| source only | 50.0 |" in (tmp_path / "README.md").read_text()
    commands.table(["--check"])
