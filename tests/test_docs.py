"""The pages of docs/: links lead somewhere, nothing is missing, made parts are fresh, and the page
that adds a loss works word by word."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from problems import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
EVERY_PAGE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
FACES = sorted(path.parent.name for path in (ROOT / "da").glob("*/__init__.py"))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|<img src=\"([^\"]+)\"")


def names_of(face: str) -> list[str]:
    """The names of a face."""
    return list(importlib.import_module(f"da.{face}").__all__)


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    linked = [a or b for a, b in LINK.findall(text)]
    missing = [
        link for link in linked if "://" not in link and not (page.parent / link).resolve().exists()
    ]
    named = re.findall(r"\b(?:experiments|paper_figures|docs|da|tests)/[\w/]+\.(?:py|csv)\b", text)
    invented = ("experiments/pets_mmd.py", "da/feature/ddc.py")  # the pages' own examples
    missing += [name for name in named if name not in invented and not (ROOT / name).is_file()]
    assert not missing


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert not [page for page in PAGES if f" {page.relative_to(DOCS)}\n" not in navigation]


def test_every_script_is_in_the_table_of_scripts() -> None:
    table = text_of("experiments.md")
    scripts = [path.name for path in (ROOT / "experiments").glob("*.py")]
    assert not [script for script in scripts if f"| `{script}` |" not in table]


def test_every_experiment_with_records_has_a_page_and_is_in_the_list_of_results() -> None:
    listed = text_of("results/index.md")
    packed = (ROOT / "experiments/records").glob("*.jsonl")
    experiments = {path.name.split(".")[0] for path in packed}
    assert experiments
    for experiment in sorted(experiments):
        assert (DOCS / f"results/{experiment}.md").is_file()
        assert f"]({experiment}.md)" in listed


def test_every_command_of_the_package_that_pages_name_exists() -> None:
    from da.__main__ import COMMANDS as commands

    named = {
        command
        for page in EVERY_PAGE
        for command in re.findall(r"python -m da (\w+)", page.read_text(encoding="utf-8"))
    }
    assert named <= commands.keys()


@pytest.mark.parametrize("face", FACES)
def test_every_name_of_a_face_is_shown_on_its_page(face: str) -> None:
    """Griffe reads the package as it does for the site. A public name with a docstring is shown."""
    assert f"::: da.{face}\n" in text_of(f"api/{face}.md")
    package = _read_by_griffe()
    for name in names_of(face):
        member = package[f"{face}.{name}"]
        assert not member.is_module, f"the module da.{face}.{name} hides what it is named for"
        assert member.is_public, name
        assert member.docstring is not None, f"da.{face}.{name} has no docstring to be shown"
        assert "\nExample:\n" not in member.docstring.value


def test_every_link_of_the_paper_index_leads_to_an_entry() -> None:
    links = re.findall(r"\]\(api/(\w+)\.md#(da\.[\w.]+)\)", text_of("methods.md"))
    assert len(links) > 100
    for face, name in links:
        on_face = name.removeprefix(f"da.{face}.") in names_of(face)
        assert on_face or f"::: {name}\n" in text_of(f"api/{face}.md"), name


@pytest.mark.parametrize("tool", ["make_index.py", "make_tables.py"])
def test_made_parts_of_pages_are_fresh(tool: str) -> None:
    command = [sys.executable, str(DOCS / tool), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_sections_of_a_docstring_are_read() -> None:
    tool = _docstring_sections()
    docstring = inspect.cleandoc(
        """Do something.

        Example:
            >>> 1
            1

        Paper:
            Doe, Roe: This vs. That: A Study. ICML 2012
            (section 6).
            Poe, Moe et al.: Another. NIPS 2013.

        Differences:
            One thing. And
            another.
        """
    )
    assert tool.papers(docstring) == [
        "Doe, Roe: This vs. That: A Study. ICML 2012 (section 6).",
        "Poe, Moe et al.: Another. NIPS 2013.",
    ]
    assert tool.differences(docstring) == "One thing. And another."
    assert tool.readable(docstring).count("\n- ") == 2
    assert tool.readable(tool.readable(docstring)) == tool.readable(docstring)


def copy_of_the_project(folder: Path) -> Path:
    """The tracked files as they are now, in another folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def python_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text_of(page), flags=re.DOTALL)


def insert(path: Path, text: str, *, before: str) -> None:
    """Put `text` before the first place that holds `before`."""
    content = path.read_text(encoding="utf-8")
    assert before in content
    path.write_text(content.replace(before, text + before, 1), encoding="utf-8")


@pytest.fixture(scope="module")
def with_the_loss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which exactly the page's blocks were carried out: a new file, an import, a line."""
    copy = copy_of_the_project(tmp_path_factory.mktemp("loss") / "project")
    new_file, imported, line, *_ = python_of("add_a_loss.md")
    (place,) = re.findall(r"Create `([\w/]+\.py)`", text_of("add_a_loss.md"))
    (copy / place).write_text(new_file, encoding="utf-8")
    methods = copy / "da/recipes/methods.py"
    insert(methods, imported, before="from da.feature.energy import")
    insert(methods, line, before='    "none": partial(')
    return copy


def in_the_copy(copy: Path, *words: str) -> str:
    """What a command says that runs in the copy, with the copy's package."""
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "disabled",
    }
    done = subprocess.run(
        [sys.executable, *words], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "script",
    [
        "digits_mmd",
        pytest.param("mnist_usps_mmd", marks=pytest.mark.slow),
        pytest.param("office_caltech_mmd", marks=pytest.mark.slow),
    ],
)
def test_a_loss_added_by_the_page_alone_runs(with_the_loss: Path, script: str) -> None:
    words = ("--smoke-test", "--loss", "none", "ddc")
    assert "\nddc " in in_the_copy(with_the_loss, f"experiments/{script}.py", *words)


@pytest.mark.slow
def test_a_loss_added_by_the_page_alone_passes_the_property_tests(with_the_loss: Path) -> None:
    quiet = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    said = in_the_copy(with_the_loss, *quiet, "tests/test_discrepancies.py", "-k", "ddc")
    assert int(re.findall(r"(\d+) passed", said)[-1]) > 10
    said = in_the_copy(with_the_loss, *quiet, "tests/test_method_properties.py", "-k", "ddc")
    assert int(re.findall(r"(\d+) passed", said)[-1]) > 10
    assert "1 passed" in in_the_copy(with_the_loss, *quiet, "da/feature/ddc.py")


def test_a_loss_added_by_the_page_alone_keeps_the_style(with_the_loss: Path) -> None:
    files = ("da/feature/ddc.py", "da/recipes/methods.py")
    in_the_copy(with_the_loss, "-m", "ruff", "check", *files)
    in_the_copy(with_the_loss, "-m", "ruff", "format", "--check", *files)


@pytest.mark.slow
def test_a_benchmark_added_by_the_page_alone_runs(tmp_path: Path) -> None:
    copy = copy_of_the_project(tmp_path / "project")
    described, script, *_ = python_of("add_a_benchmark.md")
    benchmarks = copy / "da/data/benchmarks.py"
    benchmarks.write_text(f"{benchmarks.read_text(encoding='utf-8')}\n\n{described}")
    insert(copy / "da/data/__init__.py", "    PETS,\n", before="    Benchmark,\n")
    insert(copy / "da/data/__init__.py", '    "PETS",\n', before='    "PairedBatches",\n')
    (place,) = re.findall(r"`(experiments/\w+\.py)`:\n", text_of("add_a_benchmark.md"))
    (copy / place).write_text(script, encoding="utf-8")
    assert "\nmmd " in in_the_copy(copy, place, "--smoke-test")
    in_the_copy(copy, "-m", "ruff", "check", place, "da/data")


def _docstring_sections():
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("docstring_sections")
    finally:
        sys.path.remove(str(DOCS))


def _read_by_griffe(remembered: list = []):  # noqa: B006
    griffe = pytest.importorskip("griffe", reason="needs the extra docs")
    if not remembered:
        extensions = griffe.load_extensions(str(DOCS / "griffe_face.py"))
        remembered.append(griffe.load("da", search_paths=[ROOT], extensions=extensions))
    return remembered[0]
