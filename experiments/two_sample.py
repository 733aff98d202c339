"""Has my data drifted? Compare two files or folders of features, or two folders of photographs.

    python experiments/two_sample.py --source january.csv --target june.csv --standardise
    python experiments/two_sample.py --source runs/.../features.npz --target runs/.../features.npz
    python experiments/two_sample.py --source photographs/january --target photographs/june \\
        --backbone squeezenet1_1

The second line compares both domains of a run.

Input: .npz, .npy, .pt, .csv or .svmlight, or a folder of such files (see
da/data/files/features.py). Photographs lie in a folder, or in one sub-folder for each class.

Output: the p-value of a two-sample test; the columns whose distributions differ (Kolmogorov and
Smirnov); the columns of text or of --categories whose shares differ (chi-square); the rows of the
target that are least like the source; a picture. If both sides have
labels, also a chi-square test of the classes' proportions and a test for each common class. The
p-values over columns and over classes are corrected by Holm's method.

The rows of each sample must be exchangeable if nothing has changed. Frames of one film are not, nor
are several views of one thing: the test then finds "drift" between two films of one scene.

Time: 2,000 rows a side (64 columns, no difference) take about two minutes on one core with
mmd_fuse, and less than one minute with mmd_test. The memory grows with the square of the rows.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from da.networks.backbones import fingerprint
from da.records import Run
from da.records.command_line import parse
from da.shift import moved_columns
from da.shift.findings import Findings, Options, find, principal_components
from da.shift.inputs import Sample, column_names, read_pair, sample_name
from da.shift.picture import Projection, draw
from da.shift.report import described, report


def record(options: Options, source: Sample, target: Sample, found: Findings) -> Path:
    """Write the record, the picture and the numbers behind it, and return their folder.

    The same content gives the same folder; it is then written again.
    """
    run = Run.start(
        options.runs_dir,
        settings(options, source, target),
        experiment="two_sample",
        method=options.test,
        source=sample_name(options, "source"),
        target=sample_name(options, "target"),
        seed=options.seed,
        wandb=options.wandb,
        force=True,
    )
    write_picture(run.directory, options, source, target, found)
    run.log(0, {"statistic": found.test.statistic, "p_value": found.test.p_value})
    run.finish(result(options, found))
    return run.directory


def settings(options: Options, source: Sample, target: Sample) -> dict[str, Any]:
    """What the findings depend on: the options, and the content of the files."""
    left_out = ("source", "target", "runs_dir", "wandb", "threads", "seed")
    config = {key: value for key, value in asdict(options).items() if key not in left_out}
    if not options.categories:  # records of tables without such columns keep their configuration
        del config["categories"]
    weights = options.weights and fingerprint(options.weights)
    rows = {"source_rows": digest(source), "target_rows": digest(target)}
    return config | {"weights": weights} | rows


def write_picture(
    folder: Path, options: Options, source: Sample, target: Sample, found: Findings
) -> None:
    """Write two_sample.png and .pdf, and two_sample.npz with the numbers behind them."""
    names = column_names(source, target)
    projection = projected(source, target)
    figure = draw(found.test, options.alpha, projection, found.columns, names, found.classes)
    figure.savefig(folder / "two_sample.png", dpi=300)
    figure.savefig(folder / "two_sample.pdf", metadata={"CreationDate": None})
    points = {f"{name}_points": place for name, place in projection.points.items()}
    np.savez_compressed(
        folder / "two_sample.npz",
        names=np.array(names),
        null=found.test.null,
        **points,
        **found.columns._asdict(),
    )


def projected(source: Sample, target: Sample) -> Projection:
    """Both samples along their common principal components."""
    centre, axes, deviation = principal_components(source, target)
    points = {
        "source": (source.x - centre) @ axes.T,
        "target": (target.x - centre) @ axes.T,
    }
    pooled = np.concatenate([source.x, target.x]).astype(np.float64)
    total = float(pooled.var(axis=0).sum()) or 1.0
    distances = moved_columns(points["source"], points["target"]).distance
    return Projection(points, deviation**2 / total, distances)


def result(options: Options, found: Findings) -> dict[str, Any]:
    """What result.json says."""
    whole: dict[str, Any] = {
        "statistic": found.test.statistic,
        "p_value": found.test.p_value,
        "alpha": options.alpha,
        "differs": found.differs,
        "found_shift": found.found_shift,
        "monitor": found.monitor,
        "strangers": found.strangers,
        "columns_that_differ": int((found.columns.p_value <= options.alpha).sum()),
        "classes": [line._asdict() for line in found.classes],
    }
    if found.categories is not None:
        whole["categories_that_differ"] = int((found.categories.p_value <= options.alpha).sum())
    if found.proportions is not None:
        shares = found.proportions
        whole["proportions"] = {
            "p_value": shares.p_value,
            "classes": shares.classes.tolist(),
            "counts": shares.counts.tolist(),
        }
    return whole


def digest(sample: Sample) -> str:
    """The first twelve digits of the SHA-256 of the tested rows, their labels and categories."""
    labels = b"" if sample.labels is None else "\n".join(sample.labels).encode()
    words = "\n".join(sample.words.ravel()).encode() if sample.words is not None else b""
    content = np.ascontiguousarray(sample.x).tobytes() + labels + words
    return hashlib.sha256(content).hexdigest()[:12]


def main() -> None:
    """The command line: see --help."""
    try:
        options = parse(Options, description=__doc__)
        if options.smoke_test:
            options = replace(
                options, permutations=199, max_rows=100, runs_dir=options.runs_dir / "smoke"
            )
        torch.set_num_threads(options.threads)
        source, target = read_pair(options)
        print(described(options, source, target), flush=True)
        found = find(options, source, target)
        directory = record(options, source, target, found)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(report(options, source, target, found))
    print(f"\npicture: {directory / 'two_sample.png'}")
    if options.smoke_test:
        print("smoke test: a hundred digits a side", file=sys.stderr)


if __name__ == "__main__":
    main()
