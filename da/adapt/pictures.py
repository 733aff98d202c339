"""The pictures of a report, as PNG in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from da.adapt.problem import Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 250  # points of each side in a picture
DPI = 110
WIDTH = 4.0  # inches: two pictures fit side by side on a page, and one on a telephone
SOURCE, TARGET = "#4477aa", "#ee6677"
THUMB = 128  # pixels


def picture_of_domains(
    source: np.ndarray, target: np.ndarray, title: str, *, seed: int = 0
) -> bytes:
    """Draw both sides as points in a plane, by t-SNE; by principal components if rows are few.

    Args:
        source: Rows (n, p).
        target: Rows (m, p).
        title: What stands above.
        seed: Of the rows that are drawn, and of t-SNE.

    Returns:
        A PNG.
    """
    generator = np.random.default_rng(seed)
    x, y = (rows[generator.permutation(len(rows))[:MOST]] for rows in (source, target))
    points, name = plane(np.concatenate([x, y]), seed)
    figure = _figure(WIDTH, 3.2)
    axes = figure.add_subplot()
    for part, colour, label in (
        (points[: len(x)], SOURCE, "source"),
        (points[len(x) :], TARGET, "target"),
    ):
        above = 3 if len(part) < len(points) / 2 else 2  # few points would be hidden by many
        size = 18 if above == 3 else 9
        axes.scatter(
            part[:, 0], part[:, 1], s=size, c=colour, label=label, alpha=0.7, linewidths=0,
            zorder=above,
        )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"{title} ({name})", fontsize=10)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    return _png(figure)


def plane(rows: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Rows (n, p) as points (n, 2), and the name of the projection."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows = rows.astype(np.float64)
    if rows.shape[1] == 1:
        return np.column_stack([rows[:, 0], np.zeros(len(rows))]), "one number"
    small = PCA(min(30, *rows.shape), random_state=seed).fit_transform(rows)
    if len(rows) < 40:
        return small[:, :2], "principal components"
    found = TSNE(perplexity=min(30, len(rows) / 4), random_state=seed, max_iter=400, init="pca")
    return found.fit_transform(small), "t-SNE"


def picture_of_bars(
    names: Sequence[str], series: dict[str, np.ndarray], title: str, axis: str
) -> bytes:
    """Draw horizontal bars, one group for each name.

    Args:
        names: Names (k,).
        series: Label -> values (k,).
        title: What stands above.
        axis: What the values are.
    """
    figure = _figure(WIDTH, 1.2 + 0.28 * len(names) * max(1, len(series) * 0.6))
    axes = figure.add_subplot()
    height = 0.8 / len(series)
    for number, (label, values) in enumerate(series.items()):
        colour = (SOURCE, TARGET, "#888888")[number % 3]
        places = np.arange(len(names)) + (number - (len(series) - 1) / 2) * height
        axes.barh(places, values, height=height, color=colour, label=label)
    axes.set_yticks(np.arange(len(names)), [short(name) for name in names], fontsize=8)
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(axis, fontsize=9)
    if len(series) > 1:
        figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    return _png(figure)


def picture_of_numbers(series: dict[str, np.ndarray], title: str, axis: str) -> bytes:
    """Draw how often numbers occur, one outline for each series."""
    figure = _figure(WIDTH, 2.8)
    axes = figure.add_subplot()
    bins = np.histogram_bin_edges(np.concatenate(list(series.values())), bins=30).tolist()
    for number, (label, values) in enumerate(series.items()):
        colour = (SOURCE, TARGET, "#888888")[number % 3]
        axes.hist(values, bins=bins, density=True, histtype="step", color=colour, label=label)
    axes.set_yticks([])
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(axis, fontsize=9)
    if len(series) > 1:
        figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    return _png(figure)


def picture_of_confusion(counts: np.ndarray, classes: Sequence[str]) -> bytes:
    """Draw a confusion matrix: a row for each true class, a column for each predicted one."""
    k = len(classes)
    side = min(max(WIDTH, 2.5 + 0.25 * k), 8.2)
    figure = _figure(side, side)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if k <= 15:
        for i, j in np.argwhere(counts > 0):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=7, color=colour)
    names = [short(name, 14) for name in classes]
    axes.set_xticks(range(k), names, rotation=90, fontsize=7)
    axes.set_yticks(range(k), names, fontsize=7)
    axes.set_title("Target, by its labels", fontsize=10)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("true class", fontsize=9)
    return _png(figure)


def picture_of_samples(files: Sequence[Path], captions: Sequence[str]) -> bytes:
    """Draw photographs, three in a row, with a line above each."""
    from PIL import Image, ImageOps

    columns = min(3, max(len(files), 1))
    rows = -(-len(files) // columns)
    figure = _figure(WIDTH / 3 * columns, 1.55 * rows)
    for number, (file, caption) in enumerate(zip(files, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
        image.thumbnail((THUMB, THUMB))
        axes.imshow(np.asarray(image))
        axes.set_axis_off()
        axes.set_title(short(caption, 20), fontsize=8)
    return _png(figure)


def before_and_after(
    problem: Problem, held: np.ndarray, target: np.ndarray
) -> list[tuple[str, bytes]]:
    """The two pictures of the domains: their features, and the chosen model's answers."""
    before = picture_of_domains(problem.x, problem.target, "Features", seed=problem.seed)
    first = ("Features as they are: source and target.", before)
    if problem.regression:
        series = {"held-out source": held[:, 0], "target": target[:, 0]}
        drawn = picture_of_numbers(series, "Answers of the model", "value")
        return [first, ("Answers of the chosen model.", drawn)]
    after = picture_of_domains(held, target, "Answers of the model", seed=problem.seed)
    return [
        first,
        ("Logits of the chosen model: held-out source rows and target rows.", after),
    ]


def short(name: str, most: int = 24) -> str:
    """A name of at most so many characters: its beginning and its end."""
    end = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - end]}…{name[-end:]}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _png(figure: Figure) -> bytes:
    found = io.BytesIO()
    figure.savefig(found, format="png")
    return found.getvalue()
