"""The pages "Your data" and "In your own loop": their code runs, word by word.

Oracles: the labels that the examples were made with.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import da._torchvision  # noqa: F401  before timm, which imports torchvision
from da.__main__ import COMMANDS
from da.adapt import deep_candidates
from da.adapt.command import adapt
from da.adapt.predict_command import predict
from problems import ROOT

BLOCK = re.compile(r"```(python|bash)\n(.*?)```", re.DOTALL)
RUN = {"adapt": adapt, "predict": predict}


def sections(page: str) -> dict[str, list[tuple[str, str]]]:
    """Heading -> its blocks as (language, code)."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {name: BLOCK.findall(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def run(blocks: list[tuple[str, str]], names: dict) -> None:
    for language, code in blocks:
        if language == "python":
            exec(compile(code, "page", "exec"), names)
            continue
        for line in code.strip().splitlines():
            command, *words = line.removeprefix("python -m da ").split()
            assert command in COMMANDS
            RUN[command](words)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and training that is over soon."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deep_candidates, "STEPS", 15)
    return tmp_path


def predicted(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [line["predicted"] for line in csv.DictReader(file)]


def test_the_loops_of_the_page_run() -> None:
    pytest.importorskip("timm")
    found = sections("own_loop.md")
    names: dict = {}
    generator = torch.random.get_rng_state()
    for title in found:
        run(found[title], names)
    torch.random.set_rng_state(generator)
    assert torch.isfinite(names["loss"]) and names["predicted"].shape == (8,)


def test_mmd_in_the_page_s_loop_pulls_domains_together() -> None:
    """A hundred steps of the page's loss, on features that can ignore the shift."""
    (block, *_) = sections("own_loop.md")["MMD or CORAL: one line"]
    code = block[1].replace("range(5)", "range(100)")
    gaps = []
    for line in (code, code.replace(" + mmd2(z, w)", " + 0 * mmd2(z, w)")):
        names: dict = {}
        exec(compile(line, "page", "exec"), names)
        x, t = torch.randn(500, 8), torch.randn(500, 8) + 1
        gaps.append(names["mmd2"](names["features"](x), names["features"](t)).item())
    assert gaps[0] < 0.5 * gaps[1]


@pytest.mark.slow
def test_a_table_by_the_page(place: Path) -> None:
    found, names = sections("your_data.md"), {}
    run(found["A table"], names)
    assert len(predicted(place / "adapted_table/predictions.csv")) == 200
    run(found["Use the model later"], names)
    assert names["found"].probabilities.shape == (200, 2)


@pytest.mark.slow
def test_texts_by_the_page(place: Path) -> None:
    found, names = sections("your_data.md"), {}
    exec(found["A table"][0][1], names)
    run(found["Texts"], names)
    truth = ["good", "bad"] * 60
    right = np.mean(np.array(predicted(place / "adapted_texts/predictions.csv")) == truth)
    assert right > 0.9


@pytest.mark.slow
def test_photographs_by_the_page(place: Path) -> None:
    data = Path(os.environ.get("DA_DATA", ROOT.parent / "shared/data"))
    if not (data / "weights").is_dir():
        pytest.skip("no weights in $DA_DATA/weights")
    run(sections("your_data.md")["Photographs"], {})
    assert len(predicted(place / "adapted_photographs/predictions.csv")) == 100
