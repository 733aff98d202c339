"""Features that are numbers already: columns are standardised by the source.

A spectrum, whose neighbouring columns measure nearly the same, keeps its shape: each column less
its mean, and all columns over one deviation. Else columns that vary little, which are noise, would
count as much as the others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da.adapt.sides import Featurizer, Kind, Side

SMOOTH = 0.99  # correlation of neighbouring columns from which rows are taken for spectra
FEWEST_COLUMNS = 50  # of a spectrum


@dataclass(frozen=True)
class ArrayFeatures(Featurizer):
    """Rows of numbers, each column less its mean over its deviation in the source.

    Attributes:
        mean: Mean (d,) of each column in the source.
        scale: Standard deviation (d,); 1 for a column that is constant there. Of spectra one number
            for all columns: the root of the mean variance.
        notes: What is worth knowing, in whole lines.

    Example:
        >>> import numpy as np
        >>> from da.adapt.features_array import ArrayFeatures
        >>> from da.adapt.sides import Side
        >>> side = Side("old.npy", "features", ("0", "1"), None, np.array([[1.0, 5.0], [3.0, 5.0]]))
        >>> ArrayFeatures.fit([side]).transform(side).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """

    mean: np.ndarray
    scale: np.ndarray
    notes: tuple[str, ...] = ()

    kind: Kind = "features"

    @classmethod
    def fit(cls, sources: Sequence[Side], target: Side | None = None) -> ArrayFeatures:
        """Learn mean and deviation of each column from the sources.

        Args:
            sources: Sides of kind "features".
            target: For the width of svmlight files, whose last columns may be missing.
        """
        sides = [*sources, *([target] if target else [])]
        width = max(_rows(side).shape[1] for side in sides)
        x = np.concatenate([_widened(_rows(side), width) for side in sources]).astype(np.float64)
        constant = np.ptp(x, axis=0) == 0
        scale = np.where(constant, 1.0, x.std(axis=0))
        count = int(constant.sum())
        notes: tuple[str, ...] = ()
        if count:
            notes = (f"{count} of {width} columns are constant in the source.",)
        if are_spectra(x):
            scale = np.full(width, np.sqrt(x.var(axis=0).mean()))
            notes += (
                "Neighbouring columns are nearly alike, as in a spectrum: one scale for all.",
            )
        return cls(x.mean(axis=0), scale, notes)

    @property
    def description(self) -> str:  # type: ignore[override]
        """What is done, in a line."""
        one = len(self.mean) >= FEWEST_COLUMNS and np.ptp(self.scale) == 0
        how = "centred and on one scale" if one else "standardised"
        return f"{len(self.mean)} columns, {how} by the source"

    def transform(self, side: Side) -> np.ndarray:
        """Standardise the rows of a side, (n, d) float32."""
        if side.kind != "features" or _rows(side).shape[1] > len(self.mean):
            what = side.kind if side.kind != "features" else f"{_rows(side).shape[1]} columns"
            raise ValueError(
                f"{side.path} must hold features of {len(self.mean)} columns; got {what}"
            )
        x = _rows(side)
        if x.shape[1] < len(self.mean) and not _is_sparse(side):
            raise ValueError(f"{side.path} must have {len(self.mean)} columns; got {x.shape[1]}")
        return ((_widened(x, len(self.mean)) - self.mean) / self.scale).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write features.json and features.npz."""
        content = {"kind": self.kind, "notes": self.notes}
        (folder / "features.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        np.savez(folder / "features.npz", mean=self.mean, scale=self.scale)

    @classmethod
    def read(cls, folder: Path, content: dict) -> ArrayFeatures:
        """Read what `save` wrote; `content` is that of features.json."""
        with np.load(folder / "features.npz", allow_pickle=False) as arrays:
            return cls(arrays["mean"], arrays["scale"], tuple(content["notes"]))


def are_spectra(rows: np.ndarray) -> bool:
    """Whether neighbouring columns of rows (n, d) are nearly alike, as those of a spectrum are.

    Example:
        >>> import numpy as np
        >>> from da.adapt.features_array import are_spectra
        >>> curves = np.random.default_rng(0).normal(size=(20, 3)) @ np.sin(
        ...     np.outer([1, 2, 3], np.linspace(0.1, 3, 100))
        ... )
        >>> are_spectra(curves), are_spectra(np.random.default_rng(0).normal(size=(20, 100)))
        (True, False)
    """
    if rows.shape[1] < FEWEST_COLUMNS or len(rows) < 3:
        return False
    centred = rows - rows.mean(axis=0)
    deviation = centred.std(axis=0)
    both = deviation[1:] * deviation[:-1]
    if np.mean(both > 0) < 0.5:
        return False
    near = (centred[:, 1:] * centred[:, :-1]).mean(axis=0)[both > 0] / both[both > 0]
    return bool(np.median(near) >= SMOOTH)


def _is_sparse(side: Side) -> bool:
    return side.path.lower().endswith((".svmlight", ".libsvm"))


def _rows(side: Side) -> np.ndarray:
    assert isinstance(side.content, np.ndarray)
    return side.content


def _widened(x: np.ndarray, width: int) -> np.ndarray:
    """Rows with zeros for the columns that a sparse file does not mention."""
    return np.pad(x, ((0, 0), (0, width - x.shape[1])))
