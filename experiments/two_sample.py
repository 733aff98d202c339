"""Has my data drifted? A two-sample test between two files or folders of features or photographs, what moved most, and a picture.

    python experiments/two_sample.py --source january.csv --target june.csv --standardise
    python experiments/two_sample.py --source runs/.../features.npz --target runs/.../features.npz       # both domains of a run
    python experiments/two_sample.py --source photographs/january --target photographs/june --backbone squeezenet1_1

Files: .npz, .npy, .pt, .csv, .svmlight, or a folder of them (see da/data/features.py); photographs lie in a folder, or in one sub-folder
for each class. Printed are the test's p-value; the columns whose distributions differ (Kolmogorov and Smirnov); with labels on both
sides, their proportions (chi-square) and a test for each class that both have; the rows of the target that are least like the source.
p-values over columns and over classes are corrected by Holm's method.

The rows of each sample must be exchangeable if nothing has changed: frames of one film, or several views of one thing, are not, and the
test then finds "drift" between two films of one scene. 2,000 rows a side (64 columns, nothing to be found) take about two minutes of one
core with mmd_fuse, under one with mmd_test; the memory grows with the square of the rows.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from two_sample_input import InputOptions, Sample, column_names, read_pair, sample_name
from two_sample_picture import BARS, Projection, draw

from da.backbones import fingerprint
from da.feature.drift import ClassTest, Columns, Proportions, moved_classes, moved_columns, moved_proportions, witness
from da.feature.fuse import mmd_fuse
from da.feature.mmd import MMDTest, mmd_test
from da.feature.random_features import random_feature_mmd2
from da.grids import aligned
from da.kernels import median_bandwidth
from da.records import Run
from da.tracking import Mode

TESTS: dict[str, Callable[..., MMDTest]] = {"mmd_fuse": mmd_fuse, "mmd_test": mmd_test}
SHIFTS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # in standard deviations, tried where nothing was found
COMPONENTS = 10  # principal ones, of which the picture shows two


@dataclass(frozen=True)
class Options(InputOptions):
    """Test whether two samples differ."""

    test: Literal["mmd_fuse", "mmd_test"] = "mmd_fuse"
    """mmd_fuse: Gaussian and Laplacian kernels of many bandwidths; mmd_test: one Gaussian kernel, faster."""
    permutations: int = 1000
    """Relabellings; the least p-value is 1 / (1 + permutations). Single classes get more where Holm's correction needs them."""
    alpha: float = 0.05
    """Level: samples differ where p is at most this, which happens to samples that do not differ in this share of cases."""
    threads: int = 1
    """CPU threads."""
    runs_dir: Path = Path("runs")
    """Where the record and the picture go."""
    wandb: Mode = "auto"
    """auto: online where a key exists, else offline. $WANDB_MODE overrides."""

    def __post_init__(self) -> None:
        for name, least in {"permutations": 1, "max_rows": 2, "image_size": 32, "seed": 0, "threads": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if not 1 / (1 + self.permutations) <= self.alpha < 1:
            raise ValueError(f"alpha must lie between the least p-value, 1 / (1 + permutations), and 1; got {self.alpha}")


class Findings(NamedTuple):
    """Everything that is reported."""

    test: MMDTest
    differs: bool
    found_shift: float | None  # where nothing was found: the shift, in standard deviations, that would have been
    monitor: float | None  # the random-feature MMD^2 of all rows, where not all were tested
    columns: Columns
    classes: list[ClassTest]
    proportions: Proportions | None
    strangers: list[str]


def find(options: Options, source: Sample, target: Sample) -> Findings:
    """All tests."""
    words: dict[str, Any] = {"permutations": options.permutations, "random_state": options.seed}
    test = TESTS[options.test](source.x, target.x, **words)
    differs = test.p_value <= options.alpha
    classes, proportions = [], None
    if source.labels is not None and target.labels is not None:
        words |= {"test": TESTS[options.test], "alpha": options.alpha}
        classes = moved_classes(source.x, target.x, source.labels, target.labels, **words)
        proportions = moved_proportions(source.every_label, target.every_label)  # type: ignore[arg-type]
    order = np.argsort(-witness(source.x, target.x), kind="stable")
    return Findings(
        test, differs, None if differs else found_shift(options, source, target), monitor(source, target),
        moved_columns(source.x, target.x), classes, proportions, [target.rows[row] for row in order[:5]],
    )  # fmt: skip


def found_shift(options: Options, source: Sample, target: Sample) -> float | None:
    """The least of SHIFTS by which the target's rows must be moved along the first principal component for the test to reject."""
    centre, axes, deviation = principal_components(source, target)
    permutations = min(options.permutations, max(199, int(np.ceil(5 / options.alpha))))
    for shift in SHIFTS:
        moved = target.x + shift * deviation[0] * axes[0]
        if TESTS[options.test](source.x, moved, permutations=permutations, random_state=options.seed).p_value <= options.alpha:
            return shift
    return None


def monitor(source: Sample, target: Sample) -> float | None:
    """The random-feature MMD^2 of all rows, of which a monitor would watch the course; None where all rows were tested."""
    if len(source.every) == len(source.x) and len(target.every) == len(target.x):
        return None
    centre = source.every.mean(axis=0)  # the features are rough for rows far from 0
    bandwidth = float(median_bandwidth(np.concatenate([source.x, target.x]).astype(np.float64))) or 1.0
    return float(random_feature_mmd2(source.every - centre, target.every - centre, bandwidth=bandwidth))


def principal_components(source: Sample, target: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the rows of both: their mean (d,), the first k directions (k, d), and the deviations along them (k,)."""
    pooled = np.concatenate([source.x, target.x]).astype(np.float64)
    centre = pooled.mean(axis=0)
    _, singular, axes = np.linalg.svd(pooled - centre, full_matrices=False)
    return centre, axes[:COMPONENTS], singular[:COMPONENTS] / np.sqrt(len(pooled))


def report(options: Options, source: Sample, target: Sample, found: Findings) -> str:
    """What is printed."""
    test, p = found.test, f"p = {found.test.p_value:.4g}"
    lines = [f"{options.test}: statistic {test.statistic:.4g}, {p}, {len(test.null)} relabellings"]
    if found.differs:
        lines.append(f"The two samples differ ({p} <= {options.alpha:g}).")
    else:
        lines.append(f"No difference was found ({p} > {options.alpha:g}); that is no proof that there is none.")
        lines.append(_sensitivity(source, target, found))
        if (found.columns.p_value <= options.alpha).any():
            lines.append(
                "Single columns do differ, though (below): beside many others, or columns of larger numbers, the test does not see them."
            )
    if found.monitor is not None:
        lines.append(f"All {len(source.every)} and {len(target.every)} rows, random features, no p-value: squared MMD {found.monitor:.4g}")
    names, columns = column_names(source, target), found.columns
    order = np.argsort(-columns.distance, kind="stable")[:BARS]
    cells = [[names[i], f"{columns.distance[i]:.3f}", f"{columns.p_value[i]:.2g}", f"{columns.shift[i]:+.2f}"] for i in order]
    moved = int((columns.p_value <= options.alpha).sum())
    lines += ["", f"{moved} of {len(names)} columns differ (Kolmogorov-Smirnov, p by Holm). The furthest apart:"]
    lines += [aligned([["column", "distance", "p", "mean's shift in deviations"], *cells])]
    if found.differs:
        lines += ["", f"Rows of the target least like the source: {', '.join(found.strangers)}"]
    return "\n".join(lines + (_class_lines(options, found) if found.proportions else []))


def _sensitivity(source: Sample, target: Sample, found: Findings) -> str:
    """How large a shift of the same rows the test would have found."""
    rows = f"With these {len(source.x)} and {len(target.x)} rows"
    axis = "standard deviations along the direction of largest variance"
    if found.found_shift is None:
        return f"{rows}, a target that is moved by {SHIFTS[-1]:g} {axis} is not found either."
    below = [shift for shift in SHIFTS if shift < found.found_shift]
    missed = f", by {below[-1]:g} it is not" if below else ""
    return f"{rows}, a target that is moved by {found.found_shift:g} {axis} is found{missed}."


def _class_lines(options: Options, found: Findings) -> list[str]:
    assert found.proportions is not None
    shares, moved = found.proportions, [line for line in found.classes if line.p_value <= options.alpha]
    verdict = "differ" if shares.p_value <= options.alpha else "do not differ noticeably"
    rough = f"; rough, expected counts go down to {shares.least_expected:.1f}" if shares.least_expected < 5 else ""
    lines = ["", f"The shares of the classes {verdict} (chi-square, p = {shares.p_value:.2g}{rough})."]
    for side, other in (("source", shares.counts[1]), ("target", shares.counts[0])):
        if (other == 0).any():
            lines.append(f"Only the {side} has: {', '.join(shares.classes[other == 0])}")
    lines.append(f"Within their class the rows differ in {len(moved)} of {len(found.classes)} common classes (p by Holm).")
    order = sorted(found.classes, key=lambda line: -line.statistic)
    cells = [[c.label, str(c.source_rows), str(c.target_rows), f"{c.statistic:.4g}", f"{c.p_value:.2g}"] for c in order]
    return [*lines, aligned([["class", "source rows", "target rows", "statistic", "p"], *cells])] if cells else lines


def described(options: Options, source: Sample, target: Sample) -> str:
    """What is compared: rows, columns, and a warning where one column rules the distances."""
    lines = []
    for name, sample in (("source", source), ("target", target)):
        labels = "no labels" if sample.every_label is None else f"{len(np.unique(sample.every_label))} classes"
        rows = (
            f"{len(sample.x)} of {sample.total} rows, chosen at random (--max-rows)"
            if len(sample.x) < sample.total
            else f"{sample.total} rows"
        )
        lines.append(f"{name}: {sample_name(options, name)}, {rows}, {sample.x.shape[1]} columns, {labels}")
    variance = np.concatenate([source.x, target.x]).astype(np.float64).var(axis=0)
    lines.append("columns: divided by their standard deviation over both samples" if options.standardise else "columns: as they are")
    if len(variance) > 2 and variance.max() > 0.5 * variance.sum():
        name, share = column_names(source, target)[int(variance.argmax())], variance.max() / variance.sum()
        lines.append(
            f"warning: {name} makes {100 * share:.0f} % of the variance, so that the distances see little else; consider --standardise"
        )
    return "\n".join(lines)


def record(options: Options, source: Sample, target: Sample, found: Findings) -> Path:
    """Writes the record and the picture; returns their folder. The same content gives the same folder, which is then written anew."""
    left_out = ("source", "target", "runs_dir", "wandb", "threads", "seed")
    config = {key: value for key, value in asdict(options).items() if key not in left_out}
    config |= {"weights": options.weights and fingerprint(options.weights), "source_rows": digest(source), "target_rows": digest(target)}
    names = {"source": sample_name(options, "source"), "target": sample_name(options, "target"), "seed": options.seed}
    run = Run.start(options.runs_dir, config, experiment="two_sample", method=options.test, **names, wandb=options.wandb, force=True)
    centre, axes, deviation = principal_components(source, target)
    points = {name: (sample.x - centre) @ axes.T for name, sample in (("source", source), ("target", target))}
    total = float(np.concatenate([source.x, target.x]).astype(np.float64).var(axis=0).sum()) or 1.0
    projection = Projection(points, deviation**2 / total, moved_columns(points["source"], points["target"]).distance)
    figure = draw(found.test, options.alpha, projection, found.columns, column_names(source, target), found.classes)
    figure.savefig(run.directory / "two_sample.png", dpi=300)
    figure.savefig(run.directory / "two_sample.pdf", metadata={"CreationDate": None})
    numbers = {"null": found.test.null, **{f"{name}_points": p for name, p in points.items()}, **found.columns._asdict()}
    np.savez_compressed(run.directory / "two_sample.npz", names=np.array(column_names(source, target)), **numbers)
    run.log(0, {"statistic": found.test.statistic, "p_value": found.test.p_value})
    run.finish(result(options, found))
    return run.directory


def result(options: Options, found: Findings) -> dict[str, Any]:
    """What result.json says."""
    whole: dict[str, Any] = {"statistic": found.test.statistic, "p_value": found.test.p_value, "alpha": options.alpha}
    whole |= {"differs": found.differs, "found_shift": found.found_shift, "monitor": found.monitor, "strangers": found.strangers}
    whole["columns_that_differ"] = int((found.columns.p_value <= options.alpha).sum())
    whole["classes"] = [line._asdict() for line in found.classes]
    if found.proportions is not None:
        shares = found.proportions
        whole["proportions"] = {"p_value": shares.p_value, "classes": shares.classes.tolist(), "counts": shares.counts.tolist()}
    return whole


def digest(sample: Sample) -> str:
    """First twelve digits of the SHA-256 of the rows that are tested and their labels."""
    labels = b"" if sample.labels is None else "\n".join(sample.labels).encode()
    return hashlib.sha256(np.ascontiguousarray(sample.x).tobytes() + labels).hexdigest()[:12]


def main() -> None:
    """The command line: see --help."""
    try:
        options = tyro.cli(Options, description=__doc__)
        if options.smoke_test:
            options = replace(options, permutations=199, max_rows=100, runs_dir=options.runs_dir / "smoke")
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
