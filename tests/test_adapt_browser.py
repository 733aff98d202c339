"""The report of `python -m da adapt` in a real browser, on a screen and on a telephone.

Oracle: Chromium, which lays the page out and says what its console holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, browser, missing

from da.adapt.command import AdaptOptions, run_adapt
from da.adapt.report_parts import Section
from da.adapt.report_text import as_html
from da.data import read_digits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"needs Chromium: {missing()}"),
]
ROWS = ("source_only", "centring", "coral", "importance_weights")
# Elements that stick out of the page, unless a box around them scrolls.
STICKING_OUT = """
const scrolls = e => e && (getComputedStyle(e).overflowX === "auto" || scrolls(e.parentElement));
return [...document.querySelectorAll("body *")]
    .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .filter(e => !scrolls(e)).map(e => e.outerHTML.slice(0, 80));
"""
LOADED = """
return performance.getEntriesByType("resource").map(e => e.name)
    .filter(name => !name.startsWith("data:"));
"""
PICTURES = "return [...document.images].map(i => [i.naturalWidth, i.width, i.height]);"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as session:
        yield session


def report(place: Path, classes: int) -> Path:
    """A report of moved rows: of so many classes with long names, or of numbers."""
    generator = np.random.default_rng(0)
    old, new = (place / f"{name}.npz" for name in ("last_year_of_the_north", "this_year"))
    for file, move in ((old, 0.0), (new, 3.0)):
        x = generator.normal(size=(280, 6)) + move
        number = np.arange(280) % max(classes, 1)
        x[:, 0] += number
        words = np.array([f"class number {k} with a long_name" for k in range(max(classes, 1))])
        y = words[number] if classes else x[:, 0] - move
        np.savez(file, x=x, y=y)
    options = AdaptOptions((old,), new, place / "out", rows=ROWS, trials=2)
    run_adapt(options)
    return place / "out/report.html"


def samples(place: Path) -> Path:
    """A page with photographs side by side."""
    from PIL import Image

    from da.adapt.pictures import picture_of_samples

    files = [place / f"{i}.png" for i in range(6)]
    for i, file in enumerate(files):
        Image.fromarray(read_digits("clean").x[i, 0].numpy()).save(file)
    picture = picture_of_samples(files, ["a long name of a class 97 %"] * 6)
    page = place / "report.html"
    page.write_text(as_html("Samples", [Section("Samples", [], None, [("Six.", picture)] * 3)]))
    return page


@pytest.mark.parametrize("classes", [3, 31, 0, None])
def test_the_page_fits_the_screen_and_its_console_is_empty(
    chromium: Browser, tmp_path: Path, classes: int | None
) -> None:
    page = samples(tmp_path) if classes is None else report(tmp_path, classes)
    for width in (1280, 400):
        chromium.device(width)
        chromium.open(page)
        assert chromium.run("return window.innerWidth") == width
        assert chromium.console() == []
        assert chromium.run(STICKING_OUT) == []
        assert chromium.run(LOADED) == []
        pictures = chromium.run(PICTURES)
        assert len(pictures) >= 3
        for natural, shown, height in pictures:
            assert natural > 0 and height > 100
            assert shown >= min(natural, 0.9 * min(width, 600) - 40)


def test_a_page_that_is_too_wide_and_has_errors_is_found(chromium: Browser, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text('<img src="gone.png" style="width: 900px"><script>throw Error("x")</script>')
    chromium.device(400)
    chromium.open(page)
    assert any("gone.png" in line for line in chromium.console())
    assert len(chromium.run(STICKING_OUT)) == 1
    assert chromium.run(PICTURES)[0][0] == 0
