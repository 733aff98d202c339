"""Calibrations of corn spectra on one instrument, used on another: what helps, without a label?

    python experiments/corn_spectra.py --data-root DATA

80 samples of corn, each measured on three near-infrared instruments (m5, mp5, mp6), with moisture,
oil, protein and starch from a laboratory. A partial least squares regression of 10 components is
fitted to 40 samples of the source instrument. It predicts the other 40 samples from the spectra of
the target instrument. A seed is one such split. The figure is the root mean square error of
prediction (RMSEP), in percent of the sample's mass.

Rows without pairs see the spectra of the 40 test samples on the target instrument, and no label of
them:

    none             nothing
    centred          each instrument centred by its own mean, `RecentreDomains`
    scaled           and each wavelength scaled
    combat           `ComBat`: as scaled, with the scales shrunk to each other
    coral ... ot     adapters of `da.shallow` with their defaults, on spectra as they are
    dipls            di-PLS, 10 components

Rows with pairs see the 40 training samples on the target instrument too, again without a label:

    ds               direct standardisation
    pds              piecewise direct standardisation
    sst              spectral space transformation
    epo              external parameter orthogonalisation

oracle is fitted to the 40 training samples on the target instrument, with their labels.

Time: about five minutes on one CPU core for ten seeds. The table is in
docs/results/corn_spectra.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from sklearn.cross_decomposition import PLSRegression

from da.data import data_root
from da.data.files import Spectra, read_corn
from da.data.files.spectra import CORN, CORN_PROPERTIES
from da.recipes import Cell, CommonFlags, main
from da.recipes.flags import Seeds
from da.recipes.tasks import choose_tasks
from da.records import Record, Run
from da.records.grids import aligned
from da.shallow import (
    CORAL,
    DIPLS,
    TCA,
    Adapter,
    ComBat,
    DirectStandardisation,
    DomainMap,
    ExternalParameterOrthogonalisation,
    LinearMongeMap,
    OTMap,
    PiecewiseDirectStandardisation,
    RecentreDomains,
    SpectralSpaceTransformation,
    SubspaceAlignment,
)
from da.train.config import NO_RESULT

COMPONENTS = 10  # of partial least squares


class Split(NamedTuple):
    """The spectra of one split of the samples, and the source's laboratory values."""

    train: np.ndarray  # (40, d), on the source instrument
    test: np.ndarray  # (40, d), other samples on the target instrument
    pairs: np.ndarray  # (40, d), the training samples on the target instrument


Rows = tuple[np.ndarray, np.ndarray]  # to fit to, and to predict from


def recentred(model: DomainMap) -> Callable[[Split], Rows]:
    """Both instruments brought to common ground, without pairs."""

    def rows(split: Split) -> Rows:
        both = np.concatenate([split.train, split.test])
        domain = np.repeat(["source", "target"], [len(split.train), len(split.test)])
        model.fit(both, domain)  # type: ignore[attr-defined]
        mapped = model.transform(both, domain=domain)
        return mapped[: len(split.train)], mapped[len(split.train) :]

    return rows


def adapted(model: Adapter) -> Callable[[Split], Rows]:
    """Both samples mapped by an adapter."""

    def rows(split: Split) -> Rows:
        model.fit(split.train, split.test)
        return model.transform(split.train), model.transform(split.test, domain="target")

    return rows


def paired(model: DomainMap) -> Callable[[Split], Rows]:
    """Both instruments mapped by what pairs of spectra teach."""

    def rows(split: Split) -> Rows:
        count = len(split.train)
        both = np.concatenate([split.train, split.pairs])
        domain = np.repeat(["source", "target"], count)
        model.fit(both, domain, np.tile(np.arange(count), 2))  # type: ignore[attr-defined]
        return (
            model.transform(split.train, domain="source"),
            model.transform(split.test, domain="target"),
        )

    return rows


ROWS: dict[str, Callable[[Split], Rows]] = {
    "none": lambda split: (split.train, split.test),
    "centred": recentred(RecentreDomains()),
    "scaled": recentred(RecentreDomains(scale=True)),
    "combat": recentred(ComBat()),
    "coral": adapted(CORAL()),
    "tca": adapted(TCA()),
    "sa": adapted(SubspaceAlignment()),
    "linear_monge": adapted(LinearMongeMap()),
    "ot": adapted(OTMap()),
    "ds": paired(DirectStandardisation("source")),
    "pds": paired(PiecewiseDirectStandardisation("source")),
    "sst": paired(SpectralSpaceTransformation("source")),
    "epo": paired(ExternalParameterOrthogonalisation()),
    "oracle": lambda split: (split.pairs, split.test),
}
Name = Literal["dipls", *ROWS]


@dataclass(frozen=True)
class Config(CommonFlags):
    """Carry a calibration of corn spectra from one instrument to another."""

    loss: tuple[Name, ...] = (*ROWS, "dipls")  # type: ignore[assignment]
    """What is compared. none: nothing is done. oracle: calibrated on the target instrument."""
    seeds: Seeds = tuple(range(10))
    """One split of the samples for each."""
    threads: int = field(default=1, metadata=NO_RESULT)
    """CPU threads."""

    def shortened(self) -> Config:
        """One direction of made-up spectra."""
        return replace(super().shortened(), source="m5", target="mp5")


@cache  # an instrument is read once, not once a cell
def read(config: Config, domain: str) -> Spectra:
    """The spectra of one instrument; made-up ones in a smoke test."""
    if not config.smoke_test:
        return read_corn(domain, data_root(config.data_root))
    generator = np.random.default_rng(0)
    values = generator.normal(size=(80, len(CORN_PROPERTIES)))
    x = values @ generator.normal(size=(len(CORN_PROPERTIES), 60)).cumsum(axis=1)
    x += 0.01 * generator.normal(size=x.shape)
    return Spectra(x if domain == "m5" else 1.1 * x + 0.5, values)


class Calibrated(NamedTuple):
    """One row on one split. Every row sees the same splits."""

    cell: Cell

    def carry_out(self, run: Run, flags: Config, fabric: object) -> None:
        """Map the spectra, fit a calibration for each property, and judge it."""
        source, target = (read(flags, name) for name in (self.cell.source, self.cell.target))
        order = np.random.default_rng(self.cell.seed).permutation(len(source.x))
        train, test = np.split(order, 2)
        split = Split(source.x[train], target.x[test], target.x[train])
        found = predicted(self.cell.method, split, source.values[train])
        errors = np.sqrt(np.square(found - target.values[test]).mean(axis=0))
        figures = {
            f"target_rmsep_{name}": float(error)
            for name, error in zip(CORN_PROPERTIES, errors, strict=True)
        }
        run.rewind(0)
        run.log(0, figures)
        run.finish({"selected": {"last": {"step": 0, **figures}}})


def predicted(name: str, split: Split, values: np.ndarray) -> np.ndarray:
    """The values (m, 4) that a row of the table predicts for the test samples."""
    if name == "dipls":
        model = DIPLS(n_components=COMPONENTS)
        columns = [model.fit(split.train, split.test, y).predict(split.test) for y in values.T]
        return np.stack(columns, axis=1)
    train, test = ROWS[name](split)
    regression = PLSRegression(min(COMPONENTS, train.shape[1]), scale=False)
    columns = [regression.fit(train, y).predict(test).ravel() for y in values.T]
    return np.stack(columns, axis=1)


def build(config: Config, cell: Cell) -> Calibrated:
    """One cell."""
    return Calibrated(cell)


def check(config: Config, cell: Cell) -> None:
    """Read the data of a cell, to see that it is there."""
    for name in (cell.source, cell.target):
        read(config, name)


def tasks(config: Config) -> tuple[tuple[str, str], ...]:
    """The directions between two instruments."""
    return choose_tasks(list(CORN.tasks), config.source, config.target)


def table(records: list[Record]) -> str:
    """A line for each row: means over directions and splits."""
    lines = []
    for name in dict.fromkeys(record.result["method"] for record in records):
        runs = [r.result["selected"]["last"] for r in records if r.result["method"] == name]
        means = [np.mean([run[f"target_rmsep_{p}"] for run in runs]) for p in CORN_PROPERTIES]
        lines.append([name, *(f"{mean:.3f}" for mean in means), str(len(runs))])
    return aligned([["row", *CORN_PROPERTIES, "runs"], *lines])


if __name__ == "__main__":
    main(
        Config,
        experiment="corn_spectra",
        benchmark=CORN,
        build=build,
        check=check,
        tasks=tasks,
        table=table,
    )
