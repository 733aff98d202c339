"""Make features of both sides, learned on the sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from da.adapt.features_array import ArrayFeatures
from da.adapt.features_network import choose_network
from da.adapt.features_photographs import PhotographFeatures
from da.adapt.features_table import TableFeatures
from da.adapt.features_text import TextFeatures
from da.adapt.read_checks import check_sides
from da.adapt.sides import Featurizer, Prepared, Side
from da.adapt.table_columns import some
from da.arrays.arguments import check_fields
from da.data.files.csv_layout import is_number
from da.data.files.folders import naming

FEATURIZERS: dict[str, Any] = {
    "table": TableFeatures,
    "features": ArrayFeatures,
    "texts": TextFeatures,
    "photographs": PhotographFeatures,
}


@dataclass(frozen=True)
class FeatureOptions:
    """How features are made.

    Attributes:
        backbone: The network for photographs. Default None: the largest at hand that fits the time.
        weights: Its file of weights. Default None: those in `data_root`/weights or torchvision's
            cache.
        data_root: The folder of the data. Default None: $DA_DATA, or data/.
        minutes: The time for everything; features take at most 40 % of it. Default 10.
        seed: Of what is drawn. Default 0.

    Example:
        >>> from da.adapt import FeatureOptions
        >>> FeatureOptions(backbone="resnet18").minutes
        10.0
    """

    backbone: str | None = None
    weights: Path | None = None
    data_root: Path | None = None
    minutes: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)


DEFAULTS = FeatureOptions()


def prepare(
    sources: Sequence[Side],
    target: Side,
    options: FeatureOptions = DEFAULTS,
) -> Prepared:
    """Make features of both sides and number the classes.

    Use it after `read_sides`. What the features need is learned on the sources; of texts also from
    the target's words. Target labels are not looked at.

    Args:
        sources: Labelled sides.
        target: The side to adapt to.
        options: Which network, and how long. Default: the largest network at hand that fits.

    Returns:
        Features, classes, and what was done, in whole lines.

    Raises:
        FileNotFoundError: Photographs, and no weights are at hand.
        ValueError: The sides do not fit together, or cannot be used.

    Example:
        >>> import numpy as np
        >>> from da.adapt.prepare_sides import prepare
        >>> from da.adapt.sides import Side
        >>> rows = np.random.default_rng(0).normal(size=(20, 3))
        >>> names = tuple(map(str, range(20)))
        >>> source = Side("a.npy", "features", names, np.repeat(["cup", "mug"], 10), rows)
        >>> made = prepare([source], Side("b.npy", "features", names, None, rows + 1))
        >>> made.classes, made.source_y[:2], made.target_x.shape
        (('cup', 'mug'), array([0, 0]), (20, 3))
    """
    check_sides(sources, target)
    features = fit_features(sources, target, options)
    labels = np.concatenate([side.labels for side in sources if side.labels is not None])
    classes: tuple[str, ...] = ()
    if labels.dtype.kind == "U":
        classes = in_order(labels)
        place = {name: number for number, name in enumerate(classes)}
        labels = np.array([place[name] for name in labels.tolist()], dtype=np.int64)
    else:
        labels = labels.astype(np.float32)
    domains = [np.full(len(side), number, np.int64) for number, side in enumerate(sources)]
    return Prepared(
        source_x=np.concatenate([features.transform(side) for side in sources]),
        source_y=labels,
        source_domain=np.concatenate(domains),
        target_x=features.transform(target),
        classes=classes,
        task="classification" if classes else "regression",
        sources=tuple(sources),
        target=target,
        features=features,
        notes=(*_told(labels, classes), *features.notes),
    )


def fit_features(
    sources: Sequence[Side],
    target: Side,
    options: FeatureOptions = DEFAULTS,
) -> Featurizer:
    """Learn what makes features of these sides. Arguments and errors are those of `prepare`.

    Labels play no part, so the sources may have none.
    """
    if target.kind != "photographs" and (options.backbone or options.weights):
        raise ValueError(f"backbone and weights are for photographs; got {target.kind}")
    if target.kind == "table":
        return TableFeatures.fit(sources, target)
    if target.kind == "features":
        return ArrayFeatures.fit(sources, target)
    if target.kind == "texts":
        return TextFeatures.fit(sources, target, seed=options.seed)
    images = sum(len(side) for side in (*sources, target))
    choice = choose_network(
        images,
        network=options.backbone,
        weights=options.weights,
        data_root=options.data_root,
        minutes=options.minutes,
    )
    return PhotographFeatures.of(choice)


def in_order(labels: np.ndarray) -> tuple[str, ...]:
    """The classes among labels (n,) of text, by number if all are numbers, else by name.

    Example:
        >>> import numpy as np
        >>> from da.adapt.prepare_sides import in_order
        >>> in_order(np.array(["10", "9", "10"]))
        ('9', '10')
    """
    names = np.unique(labels).tolist()
    return tuple(sorted(names, key=float) if all(map(is_number, names)) else names)


def load_features(folder: Path) -> Featurizer:
    """Read again what a featurizer has saved. See `Featurizer.load`.

    Args:
        folder: The folder that it was saved in.

    Raises:
        FileNotFoundError: There is no features.json.
        ValueError: It cannot be read.
    """
    path = Path(folder) / "features.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the folder holds no saved features")
    with naming(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        return FEATURIZERS[content["kind"]].read(Path(folder), content)


def _told(labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    """A line on classes of one sample."""
    if not classes:
        return []
    single = [name for name, n in zip(classes, np.bincount(labels), strict=True) if n == 1]
    if not single:
        return []
    return [f"Classes with one sample in the source, which cannot be checked: {some(single)}."]
