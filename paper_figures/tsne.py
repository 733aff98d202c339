"""Source and target features before and after adaptation, each network's embedded in the plane by t-SNE, from finished run records.

    python paper_figures/tsne.py
    python paper_figures/tsne.py --runs-dir runs --experiment digits_mmd --source clean --target noisy

Upper row: coloured by domain. Lower row: by class. The two columns are two embeddings: positions and distances between clusters
mean nothing across them, nor do axes have a unit (van der Maaten and Hinton, JMLR 2008).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import style
import tyro
from matplotlib import colormaps, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE

from da.records import Record, read_runs
from da.records.commands import matching

DOMAINS = {"source": (style.METHODS[0], "o"), "target": (style.METHODS[1], "^")}
ARRAYS = ("source_features", "source_labels", "target_features", "target_labels")


@dataclass(frozen=True)
class Options:
    """Draw t-SNE embeddings of two runs' features side by side."""

    experiment: str = "digits_mmd"
    """Experiment the runs belong to."""
    source: str = "clean"
    """Source domain."""
    target: str = "rotated30"
    """Target domain."""
    seed: int = 0
    """Seed of both runs."""
    before: str = "none"
    """Method on the left."""
    after: str = "mmd"
    """Method on the right."""
    where: tuple[str, ...] = ()
    """Keep the runs whose configuration has these values: key=value."""
    runs_dir: Path = Path("experiments/records")
    """Folder of run records."""
    perplexity: float = 30.0
    """Effective number of neighbours of a point."""
    random_state: int = 0
    """Seed of the embedding, not of the runs."""
    width: style.Width = "column"
    """Printed width: one column (3.3 inches) or two (6.9)."""
    out: Path = style.OUT
    """Folder for EXPERIMENT_tsne_SOURCE-TARGET.pdf, .png and .csv."""


class Embedding(NamedTuple):
    """One network's features in the plane, source rows first."""

    method: str
    accuracy: (
        float  # on the target, in percent, after the last step: the features are the last network's
    )
    points: np.ndarray  # (n, 2)
    domains: np.ndarray  # (n,) "source" or "target"
    labels: np.ndarray  # (n,)


def find(records: list[Record], options: Options, method: str) -> Record:
    """The one run of `method` on the task and seed. Raises ValueError for none or several."""
    names = {
        "method": method,
        "source": options.source,
        "target": options.target,
        "seed": options.seed,
    }
    found = [
        record
        for record in records
        if all(record.result[key] == value for key, value in names.items())
    ]
    wanted = f"{options.experiment} {method} {options.source}>{options.target} seed {options.seed}"
    if not found:
        there = sorted(
            {"{method} {source}>{target} seed {seed}".format(**record.result) for record in records}
        )
        raise ValueError(
            f"no finished run of {wanted} under {options.runs_dir}; there are: {', '.join(there) or 'none'}"
        )
    if len(found) > 1:
        folders = ", ".join(str(record.directory) for record in found)
        raise ValueError(
            f"{len(found)} configurations of {wanted}: {folders}; keep one with --where key=value"
        )
    return found[0]


def embed(record: Record, *, perplexity: float, random_state: int) -> Embedding:
    """The stored features of a run in the plane. Raises FileNotFoundError or ValueError where they are missing or too few."""
    path = record.features
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: this record was kept without features; train the run again with --force"
        )
    with np.load(path) as stored:
        missing = [name for name in ARRAYS if name not in stored]
        if missing:
            raise ValueError(
                f"{path} has no {', '.join(missing)}: the run was trained without a source domain to compare with"
            )
        source, source_labels, target, target_labels = (stored[name] for name in ARRAYS)
    features = np.concatenate([source, target]).astype(np.float32)  # (n + m, d)
    if not 0 < perplexity < len(features):
        raise ValueError(
            f"perplexity must be positive and less than the number of rows ({len(features)} in {path}); got {perplexity}"
        )
    points = TSNE(init="pca", perplexity=perplexity, random_state=random_state).fit_transform(
        features
    )
    domains = np.repeat(["source", "target"], [len(source), len(target)])
    accuracy = 100 * record.result["selected"]["last"]["target_accuracy"]
    return Embedding(
        record.result["method"],
        accuracy,
        points,
        domains,
        np.concatenate([source_labels, target_labels]).astype(int),
    )


def draw(embeddings: list[Embedding], options: Options) -> Figure:
    """Two rows (domain, class) by one column for each embedding."""
    inches = style.INCHES[options.width]
    size = (2.2 if options.width == "column" else 6.0) * min(
        1.0, (1000 / len(embeddings[0].points)) ** 0.5
    )
    figure, grid = pyplot.subplots(
        2,
        len(embeddings),
        figsize=(inches, min(inches * 1.04, 5.2)),
        squeeze=False,
        layout="constrained",
    )
    classes = np.unique(np.concatenate([embedding.labels for embedding in embeddings]))
    for (upper, lower), embedding in zip(grid.T, embeddings, strict=True):
        order = np.random.default_rng(0).permutation(
            len(embedding.points)
        )  # else all of the target would lie on the source
        shuffled = embedding._replace(
            points=embedding.points[order],
            domains=embedding.domains[order],
            labels=embedding.labels[order],
        )
        _scatter(upper, shuffled, [DOMAINS[domain][0] for domain in shuffled.domains], size)
        _scatter(lower, shuffled, [class_colour(label, classes) for label in shuffled.labels], size)
        upper.set_title(f"{embedding.method}: {embedding.accuracy:.1f} % on target")
    grid[0, 0].set_ylabel("by domain")
    grid[1, 0].set_ylabel("by class")
    _legends(figure, options, classes)
    return figure


def _scatter(axes: Axes, embedding: Embedding, colours: list, size: float) -> None:
    """Points in the order given, the marker by domain."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    for start in range(
        0, len(colours), 50
    ):  # a marker is a whole collection's: short ones, so that neither domain covers the other
        part = slice(start, start + 50)
        for domain, (_, marker) in DOMAINS.items():
            mask = embedding.domains[part] == domain
            own = [colour for colour, kept in zip(colours[part], mask, strict=True) if kept]
            axes.scatter(
                *embedding.points[part][mask].T, s=size, c=own, marker=marker, linewidths=0
            )


def class_colour(label: int, classes: np.ndarray) -> str | tuple:
    """Up to ten classes have a colour made to be told apart; more share out a rainbow."""
    place = int(np.searchsorted(classes, label))
    return (
        style.CLASSES[place]
        if len(classes) <= len(style.CLASSES)
        else colormaps["turbo"](place / (len(classes) - 1))
    )


def _legends(figure: Figure, options: Options, classes: np.ndarray) -> None:
    """One line for the domains and, where they fit, one for the classes."""

    def handle(colour: str | tuple, marker: str, label: str) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="",
            marker=marker,
            markersize=4,
            markeredgewidth=0,
            color=colour,
            label=label,
        )

    domains = [handle(*DOMAINS[name], f"{name}: {getattr(options, name)}") for name in DOMAINS]
    figure.legend(handles=domains, loc="outside upper center", ncols=2, handletextpad=0.2)
    if len(classes) <= len(style.CLASSES):
        handles = [handle(class_colour(label, classes), "s", str(label)) for label in classes]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=len(classes),
            handletextpad=-0.2,
            columnspacing=0.5,
        )


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        records = matching(
            read_runs(options.runs_dir, experiment=options.experiment), options.where
        )
        runs = [find(records, options, method) for method in (options.before, options.after)]
        embeddings = [
            embed(run, perplexity=options.perplexity, random_state=options.random_state)
            for run in runs
        ]
        rows = [
            (*(f"{value:.4f}" for value in point), domain, label, each.method)
            for each in embeddings
            for point, domain, label in zip(each.points, each.domains, each.labels, strict=True)
        ]
        style.set_style()
        name = f"{options.experiment}_tsne_{options.source}-{options.target}"
        style.save(
            draw(embeddings, options),
            options.out / name,
            style.csv_text(["x", "y", "domain", "label", "method"], rows),
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
