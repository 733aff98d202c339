"""Read one's own data from paths: photographs, tables, features or texts.

a folder            of images, of class folders, or (sources) of domains; or of files of one kind
.csv .tsv .parquet  a table, or texts if a column of texts is named
.npz .npy .mat .pt .svmlight .libsvm     rows of features
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from da.adapt.read_arrays import Domain, has_two_domains
from da.adapt.read_checks import check_sides
from da.adapt.read_files import ALL_SUFFIXES, files_in, read_array_files, read_tables
from da.adapt.read_folders import photograph_folders, read_photograph_folder
from da.adapt.read_labels import as_numbers, looks_like_numbers
from da.adapt.read_tables import SUFFIXES, read_table
from da.adapt.sides import Side
from da.adapt.table_sides import Columns, domains_of
from da.data.files.arrays import check_ordinary


def read_side(
    path: str | Path,
    *,
    label: str | None = None,
    text: str | None = None,
    drop: Sequence[str] = (),
    columns: Sequence[str] = (),
    categories: Sequence[str] = (),
    domain: Domain = "source",
) -> Side:
    """Read one side from a path.

    Use it for data that stands alone, such as new samples for a saved model.

    Args:
        path: A file, or a folder of one domain.
        label: The column or key of the labels. Default None: a column called label, y, class or
            target; the class folders of photographs.
        text: The column of texts, which makes the table a side of texts. Default None.
        drop: Columns of a table that are left out. Default ().
        columns: The columns of a table that are kept. Default (): all.
        categories: Columns of a table that hold categories though they look like numbers, such as
            postcodes. Default ().
        domain: Which to take if a file holds source_features and target_features.

    Returns:
        The side, with labels if it has any.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: It cannot be read, or has no column of a name that was given.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.adapt.read_paths import read_side
        >>> file = Path(tempfile.mkdtemp()) / "cups.csv"
        >>> _ = file.write_text("height,label\\n1.5,mug\\n2.5,cup\\n")
        >>> side = read_side(file)
        >>> side.kind, side.labels.tolist(), list(side.content)
        ('table', ['mug', 'cup'], ['height'])
    """
    names = Columns(label, text, tuple(drop), tuple(columns), tuple(categories))
    sides = _read(str(path), names, domain)
    if len(sides) > 1:
        found = ", ".join(Path(side.path).name for side in sides[:5])
        raise ValueError(f"{path} holds {len(sides)} domains ({found}); name one of them")
    labels = sides[0].labels
    regression = (
        labels is not None and sides[0].kind != "photographs" and looks_like_numbers(labels)
    )
    return _with_numbers(sides[0]) if regression else sides[0]


def read_sides(
    sources: Sequence[str | Path],
    target: str | Path | None,
    *,
    label: str | None = None,
    text: str | None = None,
    domain_column: str | None = None,
    source_value: str | None = None,
    target_value: str | None = None,
    regression: bool | None = None,
    drop: Sequence[str] = (),
    columns: Sequence[str] = (),
    categories: Sequence[str] = (),
    labelled: bool = True,
) -> tuple[tuple[Side, ...], Side]:
    """Read all sources and the target, and check that they fit together.

    Args:
        sources: Paths of the sources. A folder of domains gives one source for each.
        target: Path of the target; None if one table holds all domains.
        label: As in `read_side`.
        text: As in `read_side`.
        domain_column: The column that says which domain a row of the one table belongs to.
        source_value: Its value for the source. Default None: each other value is a source.
        target_value: Its value for the target.
        regression: Whether labels are numbers to be predicted. Default None: they are if one has
            a fraction, or if they are many different numbers.
        drop: As in `read_side`.
        columns: As in `read_side`.
        categories: As in `read_side`.
        labelled: Whether sources must have labels. Default True.

    Returns:
        The sources and the target. Labels of all sides are text, or numbers for a regression.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: A path cannot be read, or the sides do not fit together.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.adapt.read_paths import read_sides
        >>> file = Path(tempfile.mkdtemp()) / "cups.csv"
        >>> rows = [f"{year},{n},{'mug' if n % 2 else 'cup'}" for n in range(20) for year in (1, 2)]
        >>> _ = file.write_text("\\n".join(["year,height,kind", *rows]))
        >>> (source,), target = read_sides(
        ...     [file], None, label="kind", domain_column="year", source_value="1", target_value="2"
        ... )
        >>> len(source), len(target), list(target.content)
        (20, 20, ['height'])
    """
    names = Columns(label, text, tuple(drop), tuple(columns), tuple(categories))
    if not sources:
        raise ValueError("source: name a file or a folder")
    if domain_column is None:
        if source_value is not None or target_value is not None:
            raise ValueError("domain_column must be named with source_value and target_value")
        given, other = _read_paths([str(path) for path in sources], target, names)
    else:
        given, other = _read_one_table(
            sources, target, names, domain_column, source_value, target_value
        )
    numbers = _is_regression(given, regression)
    if numbers:
        given, other = tuple(map(_with_numbers, given)), _with_numbers(other)
    check_sides(given, other, labelled=labelled)
    return given, other


def _read_paths(
    sources: Sequence[str], target: str | Path | None, names: Columns
) -> tuple[tuple[Side, ...], Side]:
    if target is None:
        raise ValueError(
            "target: name a file or a folder, or divide one table with domain_column and "
            "target_value"
        )
    for path in sources:
        if Path(path).resolve() == Path(target).resolve() and not _two_domains(Path(path)):
            raise ValueError(
                f"source and target are the same ({path}); name two, or divide one table with "
                "--domain-column"
            )
    given = tuple(side for path in sources for side in _read(path, names, "source"))
    others = _read(str(target), names, "target")
    if len(others) > 1:
        found = ", ".join(Path(side.path).name for side in others[:5])
        raise ValueError(f"target: {target} holds {len(others)} domains ({found}); name one")
    given = _without_target(given, Path(target))
    return given, _without_dummy_labels(others[0])


def _without_target(sources: tuple[Side, ...], target: Path) -> tuple[Side, ...]:
    """A folder of domains may hold the target too, which is then no source."""
    kept = tuple(side for side in sources if Path(side.path).resolve() != target.resolve())
    return kept if len(sources) > 1 and kept else sources


def _read_one_table(
    sources: Sequence[str | Path],
    target: str | Path | None,
    names: Columns,
    column: str,
    source_value: str | None,
    target_value: str | None,
) -> tuple[tuple[Side, ...], Side]:
    """Both sides of one table, by the values of a column."""
    path = Path(sources[0])
    if len(sources) > 1 or target not in (None, str(path), path):
        raise ValueError("domain_column divides one table: name it once, as source")
    if target_value is None:
        raise ValueError(f"target_value must say which value of {column!r} is the target")
    if _existing(path).suffix.lower() not in SUFFIXES:
        raise ValueError(f"domain_column divides a table ({', '.join(SUFFIXES)}); got {path}")
    table, notes = read_table(path, as_text=(*names.as_text, column))
    return domains_of(table, notes, str(path), names, column, source_value, target_value)


def _read(path: str, names: Columns, domain: Domain) -> tuple[Side, ...]:
    """The sides that a path holds: one, or one for each domain of a folder of domains."""
    place = _existing(Path(path))
    files = [place]
    if place.is_dir():
        folders = photograph_folders(place)
        if folders:
            names.refuse(path, "photographs")
            one = len(folders) == 1
            return tuple(
                read_photograph_folder(each, path if one else str(_named(each, place)))
                for each in folders
            )
        files = files_in(place)
    if files[0].suffix.lower() in SUFFIXES:
        return (read_tables(files, path, names),)
    names.refuse(path, "arrays")
    return (read_array_files(files, path, names, domain),)


def _named(folder: Path, parent: Path) -> Path:
    """The domain's folder, without `images`."""
    return parent / folder.relative_to(parent).parts[0]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    check_ordinary(path)
    if path.is_file() and path.suffix.lower() not in ALL_SUFFIXES:
        raise ValueError(
            f"{path}: unknown suffix {path.suffix!r}; a folder of images is read, and files that "
            f"end in {', '.join(ALL_SUFFIXES)}"
        )
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    return path


def _two_domains(path: Path) -> bool:
    return path.is_file() and has_two_domains(path)


def _without_dummy_labels(side: Side) -> Side:
    """svmlight files have a label in every line; if all are equal they say nothing."""
    dummy = Path(side.path).suffix.lower() in (".svmlight", ".libsvm")
    if not dummy or side.labels is None or len(np.unique(side.labels)) > 1:
        return side
    note = f"{side.path}: all labels are {side.labels[0]}, so they are taken as no labels."
    return replace(side, labels=None, notes=(*side.notes, note))


def _is_regression(sources: Sequence[Side], regression: bool | None) -> bool:
    labels = [side.labels for side in sources if side.labels is not None]
    if regression is not None:
        return regression
    return (
        bool(labels)
        and sources[0].kind != "photographs"
        and (looks_like_numbers(np.concatenate(labels)))
    )


def _with_numbers(side: Side) -> Side:
    """The side with labels as numbers."""
    if side.labels is None:
        return side
    return replace(side, labels=as_numbers(side.labels, side.path))
