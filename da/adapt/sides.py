"""What is known of one's own data: a side as it was read, and both sides as features.

`da.adapt.read_paths` reads sides from paths, `da.adapt.prepare_sides` makes features of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

Kind = Literal["photographs", "table", "features", "texts"]
Content: TypeAlias = tuple[Path, ...] | pd.DataFrame | np.ndarray | tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """One side as it was read; nothing is computed yet.

    Attributes:
        path: The path as the user gave it.
        kind: "photographs", "table", "features" or "texts".
        names: For each of n samples its file relative to the folder, or its row number from 0.
        labels: Class names (n,) as text, or numbers (n,) float64 for a regression. None: no labels.
        content: Image files, a DataFrame without the labels, rows (n, d), or texts, by kind.
        notes: What reading did or left out, in whole lines. Default ().
        text: The column of texts, if the texts come from a table. Default None.

    Example:
        >>> import numpy as np
        >>> from da.adapt.sides import Side
        >>> len(Side("old.npy", "features", ("0", "1"), None, np.zeros((2, 3))))
        2
    """

    path: str
    kind: Kind
    names: tuple[str, ...]
    labels: np.ndarray | None
    content: Content
    notes: tuple[str, ...] = ()
    text: str | None = None

    def __len__(self) -> int:
        return len(self.names)


class Featurizer(ABC):
    """What makes features of a side: fitted once, then applied to any further data of its kind.

    Attributes:
        kind: The kind of side that it takes.
        description: What it does, in one line.
        notes: What it leaves out or replaces, in whole lines.
        columns: The names of the d features, for tables; else None.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from da.adapt import Featurizer, Side
        >>> from da.adapt.features_array import ArrayFeatures
        >>> rows = np.array([[1.0, 5.0], [3.0, 5.0]])
        >>> side = Side("old.npy", "features", ("0", "1"), None, rows)
        >>> folder = Path(tempfile.mkdtemp())
        >>> ArrayFeatures.fit([side]).save(folder)
        >>> Featurizer.load(folder).transform(side).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """

    kind: Kind
    description: str
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None

    @abstractmethod
    def transform(self, side: Side) -> np.ndarray:
        """Make the features (n, d) float32 of a side.

        Raises:
            ValueError: The side is of another kind or has other columns.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write into `folder` all that `load` needs: features.json, and arrays. No pickles."""

    @staticmethod
    def load(folder: Path) -> Featurizer:
        """Read again what `save` wrote, whatever its kind.

        Raises:
            FileNotFoundError: There is no features.json in the folder.
            ValueError: It cannot be read.
        """
        # Here, because what makes features imports this file.
        from da.adapt.prepare_sides import load_features

        return load_features(folder)


@dataclass(frozen=True)
class Prepared:
    """Features of both sides: what every candidate method takes.

    Attributes:
        source_x: Features (n, d) float32.
        source_y: Numbers of the classes (n,) int64, or numbers (n,) float32 for a regression.
        source_domain: Number of the source (n,) int64, from 0.
        target_x: Features (m, d) float32.
        classes: Names of the classes; () for a regression.
        task: "classification" or "regression".
        sources: The sources as they were read.
        target: The target as it was read. Its labels, if any, are for the final report alone.
        features: What made the features.
        notes: What is worth knowing before anything is trained, in whole lines. Default ().

    Example:
        >>> import numpy as np
        >>> from da.adapt import Side, prepare
        >>> rows = np.random.default_rng(0).normal(size=(20, 3))
        >>> names = tuple(map(str, range(20)))
        >>> source = Side("a.npy", "features", names, np.repeat(["cup", "mug"], 10), rows)
        >>> prepare([source], Side("b.npy", "features", names, None, rows)).task
        'classification'
    """

    source_x: np.ndarray
    source_y: np.ndarray
    source_domain: np.ndarray
    target_x: np.ndarray
    classes: tuple[str, ...]
    task: Literal["classification", "regression"]
    sources: tuple[Side, ...]
    target: Side
    features: Featurizer
    notes: tuple[str, ...] = ()
