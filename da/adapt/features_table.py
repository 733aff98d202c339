"""Features of tables, as a scikit-learn pipeline that is learned on the sources.

numbers      standardised; a missing value becomes the mean, and a column says it was missing
categories   one-hot, the 30 most frequent ones; the others are one column
left out     dates, free text, columns that name or number the rows, constant and empty columns
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from da.adapt.read_checks import common_columns
from da.adapt.sides import Featurizer, Kind, Side
from da.adapt.table_columns import Roles, roles_of, some

CATEGORIES = 31  # of a column: thirty, and one for the others
GAP = "(missing)"  # the category of a missing value


@dataclass(frozen=True)
class TableFeatures(Featurizer):
    """The numbers and categories of a table as features.

    Attributes:
        roles: What each column is taken for.
        pipeline: scikit-learn's ColumnTransformer, fitted.
        notes: What is left out or replaced, in whole lines.

    Example:
        >>> import pandas as pd
        >>> from da.adapt.features_table import TableFeatures
        >>> from da.adapt.sides import Side
        >>> table = pd.DataFrame({"height": [1.0, 3.0], "colour": ["red", "blue"]})
        >>> side = Side("old.csv", "table", ("0", "1"), None, table)
        >>> made = TableFeatures.fit([side], side)
        >>> made.columns
        ('height', 'colour = blue', 'colour = red')
        >>> made.transform(side).tolist()
        [[-1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    """

    roles: Roles
    pipeline: ColumnTransformer
    notes: tuple[str, ...] = ()

    kind: Kind = "table"

    @classmethod
    def fit(cls, sources: Sequence[Side], target: Side) -> TableFeatures:
        """Learn the pipeline from the sources.

        Args:
            sources: Sides of kind "table".
            target: Another one. It decides only which columns are there and not empty.

        Raises:
            ValueError: No column can be used.
        """
        common = common_columns(sources, target)
        source = pd.concat([_table(side)[common] for side in sources], ignore_index=True)
        roles, notes = roles_of(source, _table(target)[common])
        sides = (*sources, target)
        alone = {name: None for side in sides for name in _table(side) if name not in common}
        if alone:
            notes.append(f"Columns that only some sides have are left out: {some(list(alone))}.")
        if not roles.used:
            raise ValueError(f"{sources[0].path}: no column can be used. {' '.join(notes)}")
        pipeline = pipeline_of(roles).fit(frame(source, roles))
        return cls(roles, pipeline, (*notes, *_rare_categories(pipeline, roles)))

    @property
    def description(self) -> str:  # type: ignore[override]
        """What is done, in a line."""
        numbers, categories = len(self.roles.numbers), len(self.roles.categories)
        return (
            f"{numbers} columns of numbers, standardised by the source, and {categories} of "
            f"categories, one-hot: {len(self.columns)} features"
        )

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the features."""
        names = [*self.roles.numbers, *(f"{name} is missing" for name in self.roles.gaps)]
        for name, frequent, rare in learned_categories(self.pipeline, self.roles):
            names += [f"{name} = {value}" for value in frequent]
            names += [f"{name} = (others)"] * bool(rare)
        return tuple(names)

    def transform(self, side: Side) -> np.ndarray:
        """Make the features (n, d) float32 of a table.

        Raises:
            ValueError: The side is no table, lacks a column, or has text among numbers.
        """
        if side.kind != "table":
            raise ValueError(f"{side.path} must be a table; it holds {side.kind}")
        table = _table(side)
        missing = [name for name in self.roles.used if name not in table.columns]
        if missing:
            raise ValueError(f"{side.path} lacks the columns {some(missing)}")
        for name in self.roles.numbers:
            if not pd.api.types.is_numeric_dtype(table[name]) and table[name].notna().any():
                word = table[name].dropna().iloc[0]
                raise ValueError(f"{side.path}: column {name!r} must hold numbers; got {word!r}")
        return self.pipeline.transform(frame(table, self.roles)).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write features.json: what scikit-learn has learned, as numbers and names."""
        content: dict[str, object] = {"kind": self.kind, "notes": self.notes}
        content |= {"gaps": self.roles.gaps, "numbers": []}
        if self.roles.numbers:
            scaler = self.pipeline.named_transformers_["numbers"].named_steps["standardscaler"]
            columns = zip(self.roles.numbers, scaler.mean_, scaler.scale_, strict=True)
            content["numbers"] = [
                [name, float(mean), float(scale)] for name, mean, scale in columns
            ]
        content["categories"] = learned_categories(self.pipeline, self.roles)
        whole = json.dumps(content, ensure_ascii=False, indent=1)
        (folder / "features.json").write_text(whole, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path, content: dict) -> TableFeatures:
        """Read what `save` wrote; `content` is that of features.json."""
        roles = Roles(
            tuple(name for name, _, _ in content["numbers"]),
            tuple(content["gaps"]),
            tuple(name for name, _, _ in content["categories"]),
        )
        table = equivalent_table(content["numbers"], content["categories"])
        return cls(roles, pipeline_of(roles).fit(table), tuple(content["notes"]))


def pipeline_of(roles: Roles) -> ColumnTransformer:
    """The pipeline for columns of these roles, not fitted."""
    # The scaler ignores missing values, and 0 is then the mean.
    numbers = make_pipeline(StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0))
    encoder = OneHotEncoder(
        max_categories=CATEGORIES, handle_unknown="infrequent_if_exist", sparse_output=False
    )
    parts = [
        ("numbers", numbers, list(roles.numbers)),
        ("gaps", MissingIndicator(features="all"), list(roles.gaps)),
        ("categories", encoder, list(roles.categories)),
    ]
    return ColumnTransformer([part for part in parts if part[2]])


def frame(table: pd.DataFrame, roles: Roles) -> pd.DataFrame:
    """The used columns as the pipeline takes them: floats, and text without gaps."""
    columns = {name: table[name].astype(np.float64) for name in roles.numbers}
    for name in roles.categories:
        text = table[name].astype(object)
        columns[name] = text.where(text.notna(), GAP).astype(str).astype(object)
    return pd.DataFrame(columns)


def learned_categories(
    pipeline: ColumnTransformer, roles: Roles
) -> list[tuple[str, list[str], list[str]]]:
    """Each column of categories with its frequent and its rare ones."""
    if not roles.categories:
        return []
    encoder = pipeline.named_transformers_["categories"]
    found = []
    for name, every, few in zip(
        roles.categories, encoder.categories_, encoder.infrequent_categories_, strict=True
    ):
        rare = [] if few is None else few.tolist()
        gone = set(rare)
        found.append((name, [value for value in every.tolist() if value not in gone], rare))
    return found


def equivalent_table(
    numbers: Sequence[tuple[str, float, float]],
    categories: Sequence[tuple[str, list[str], list[str]]],
) -> pd.DataFrame:
    """A small table from which the pipeline learns the same as it has from the sources.

    scikit-learn's pipelines are stored as pickles, which can run code. This table stands for one.
    A column of numbers has the rows mean - scale and mean + scale. A column of categories has each
    frequent one twice and each rare one once.

    Args:
        numbers: Name, mean and scale of columns of numbers.
        categories: Name, frequent and rare categories of columns of categories.
    """
    lists = {name: [*frequent, *frequent, *rare] for name, frequent, rare in categories}
    rows = max([2, *map(len, lists.values())])
    columns: dict[str, list] = {
        name: [mean - scale, mean + scale] + [np.nan] * (rows - 2) for name, mean, scale in numbers
    }
    for name, values in lists.items():
        columns[name] = values + values[:1] * (rows - len(values))
    return pd.DataFrame(columns)


def _rare_categories(pipeline: ColumnTransformer, roles: Roles) -> list[str]:
    return [
        f"Column {name} has {len(frequent) + len(rare)} categories; the {len(rare)} rarest are one."
        for name, frequent, rare in learned_categories(pipeline, roles)
        if rare
    ]


def _table(side: Side) -> pd.DataFrame:
    assert isinstance(side.content, pd.DataFrame)
    return side.content
