"""Features before and after adaptation in the plane, by t-SNE, from records of finished runs.

    python paper_figures/tsne.py
    python paper_figures/tsne.py --runs-dir experiments/records --target noisy

A column is the network of one run. The upper row is coloured by domain, the lower row by class.
Each column is an embedding of its own: positions and distances between clusters cannot be compared
across columns, and the axes have no unit (van der Maaten and Hinton, JMLR 2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import style
from matplotlib import colormaps, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE

from da.records import Record, display_name
from da.records.checksums import check_file

DOMAINS = {"source": (style.METHODS[0], "o"), "target": (style.METHODS[1], "^")}
ARRAYS = ("source_features", "source_labels", "target_features", "target_labels")
STRETCH = 50  # points that are drawn at once


@dataclass(frozen=True)
class Options(style.TaskOptions):
    """Draw t-SNE embeddings of the features of some runs side by side."""

    seed: int = 0
    """Seed of the runs."""
    perplexity: float = 30.0
    """Effective number of neighbours of a point."""
    random_state: int = 0
    """Seed of the embedding, not of the runs."""


class Embedding(NamedTuple):
    """The features of one network in the plane, source rows first.

    The features are those of the last step, and so is the accuracy.
    """

    method: str
    accuracy: float  # on the target, in percent
    points: np.ndarray  # (n, 2)
    domains: np.ndarray  # (n,) "source" or "target"
    labels: np.ndarray  # (n,)


def find(runs: list[Record], method: str, options: Options) -> Record:
    """The one run of a method with the seed. Raises ValueError for none or several."""
    found = [run for run in runs if run.result["seed"] == options.seed]
    wanted = f"{options.experiment} {method} with seed {options.seed}"
    if not found:
        seeds = sorted({run.result["seed"] for run in runs})
        raise ValueError(f"no finished run of {wanted}; it has seeds {', '.join(map(str, seeds))}")
    if len(found) > 1:
        folders = ", ".join(str(record.directory) for record in found)
        raise ValueError(
            f"{len(found)} configurations of {wanted}: {folders}; keep one with --where key=value"
        )
    return found[0]


def read_features(path: Path) -> tuple[np.ndarray, ...]:
    """The ARRAYS of a run. Raises FileNotFoundError or ValueError if they are missing."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: this record was kept without features; "
            "train the run again with --force"
        )
    check_file(path)
    with np.load(path) as stored:
        missing = [name for name in ARRAYS if name not in stored]
        if missing:
            raise ValueError(
                f"{path} has no {', '.join(missing)}: the run was trained without a source domain "
                "to compare with"
            )
        return tuple(stored[name] for name in ARRAYS)


def embed(record: Record, *, perplexity: float, random_state: int) -> Embedding:
    """Embed the stored features of a run. Raises the errors of `read_features`.

    Raises ValueError, too, if there are too few rows for the perplexity.
    """
    path = record.features
    source, source_labels, target, target_labels = read_features(path)
    features = np.concatenate([source, target]).astype(np.float32)  # (n + m, d)
    if not 0 < perplexity < len(features):
        raise ValueError(
            "perplexity must be positive and less than the number of rows "
            f"({len(features)} in {path}); got {perplexity}"
        )
    tsne = TSNE(init="pca", perplexity=perplexity, random_state=random_state)
    return Embedding(
        record.result["method"],
        100 * record.result["selected"]["last"]["target_accuracy"],
        tsne.fit_transform(features),
        np.repeat(["source", "target"], [len(source), len(target)]),
        np.concatenate([source_labels, target_labels]).astype(int),
    )


def draw(embeddings: list[Embedding], options: Options) -> Figure:
    """Draw a column for each embedding."""
    inches = style.INCHES[options.width]
    size = 2.2 if options.width == "column" else 6.0
    size *= min(1.0, (1000 / len(embeddings[0].points)) ** 0.5)
    shape = {"figsize": (inches, min(inches * 1.04, 5.2)), "layout": "constrained"}
    figure, grid = pyplot.subplots(2, len(embeddings), squeeze=False, **shape)
    classes = np.unique(np.concatenate([embedding.labels for embedding in embeddings]))
    for (upper, lower), embedding in zip(grid.T, embeddings, strict=True):
        # In the stored order the whole target would lie on the source.
        order = np.random.default_rng(0).permutation(len(embedding.points))
        arrays = ("points", "domains", "labels")
        mixed = embedding._replace(**{name: getattr(embedding, name)[order] for name in arrays})
        _scatter(upper, mixed, [DOMAINS[domain][0] for domain in mixed.domains], size)
        _scatter(lower, mixed, [class_colour(label, classes) for label in mixed.labels], size)
        upper.set_title(f"{display_name(embedding.method)}\n{embedding.accuracy:.1f} % on target")
    grid[0, 0].set_ylabel("by domain")
    grid[1, 0].set_ylabel("by class")
    _legends(figure, options, classes)
    return figure


def _scatter(axes: Axes, embedding: Embedding, colours: list, size: float) -> None:
    """Draw the points in their order. The marker tells the domain."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    # All points of one call have one marker. Short stretches keep either domain from covering the
    # other.
    for start in range(0, len(colours), STRETCH):
        part = slice(start, start + STRETCH)
        for domain, (_, marker) in DOMAINS.items():
            mask = embedding.domains[part] == domain
            own = [colour for colour, kept in zip(colours[part], mask, strict=True) if kept]
            places = embedding.points[part][mask].T
            axes.scatter(*places, s=size, c=own, marker=marker, linewidths=0)


def class_colour(label: int, classes: np.ndarray) -> str | tuple:
    """The colour of a class. More than ten classes share a rainbow."""
    place = int(np.searchsorted(classes, label))
    if len(classes) <= len(style.CLASSES):
        return style.CLASSES[place]
    return colormaps["turbo"](place / (len(classes) - 1))


def _legends(figure: Figure, options: Options, classes: np.ndarray) -> None:
    """A line for the domains. Up to ten classes have a line, too."""

    def handle(colour: str | tuple, marker: str, label: str) -> Line2D:
        look = {"linestyle": "", "marker": marker, "markersize": 4, "markeredgewidth": 0}
        return Line2D([], [], color=colour, label=label, **look)

    domains = [handle(*DOMAINS[name], f"{name}: {getattr(options, name)}") for name in DOMAINS]
    figure.legend(handles=domains, loc="outside upper center", ncols=2, handletextpad=0.2)
    if len(classes) <= len(style.CLASSES):
        handles = [handle(class_colour(label, classes), "s", str(label)) for label in classes]
        close = {"handletextpad": -0.2, "columnspacing": 0.5}
        place = {"loc": "outside lower center", "ncols": len(classes)}
        figure.legend(handles=handles, **place, **close)


def numbers(embeddings: list[Embedding]) -> str:
    """The CSV: a line for each point."""
    rows = [
        (*(f"{value:.4f}" for value in point), domain, label, each.method)
        for each in embeddings
        for point, domain, label in zip(each.points, each.domains, each.labels, strict=True)
    ]
    return style.csv_text(["x", "y", "domain", "label", "method"], rows)


def make(options: Options) -> style.Drawing:
    """The figure of the runs that the flags name."""
    runs = [find(runs, method, options) for method, runs in options.runs().items()]
    settings = {"perplexity": options.perplexity, "random_state": options.random_state}
    embeddings = [embed(run, **settings) for run in runs]
    name = f"{options.experiment}_tsne_{options.source}-{options.target}"
    return style.Drawing(draw(embeddings, options), name, numbers(embeddings))


if __name__ == "__main__":
    style.main(Options, make)
