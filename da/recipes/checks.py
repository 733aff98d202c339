"""What a table needs, checked before its first cell: weights and all domains of all its tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from da.data.benchmarks import Benchmark
from da.data.checking import check_domain
from da.data.provenance import data_digest
from da.data.readers import data_root
from da.networks.backbones import backbone, input_settings
from da.networks.inputs import check_size
from da.recipes.class_selection import ClassFlags, select
from da.recipes.job import Cell
from da.recipes.tasks import FlagsType

Check = Callable[[FlagsType, Cell], object]
FROM_RANDOM_WEIGHTS = ("scratch",)  # rows that need no file of weights


def check_inputs(
    flags: FlagsType,
    benchmark: Benchmark | None,
    check: Check | None,
    cells: Sequence[Cell],
) -> None:
    """Check what the cells need, so that nothing is found missing after hours.

    Args:
        flags: The flags of the script. Nothing is checked in a smoke test.
        benchmark: Where the data come from; None if `check` knows.
        check: Reads or checks the data of one cell, in place of the files of the benchmark.
        cells: The cells that have no result.

    Raises:
        ValueError: Several things are missing or wrong. The message lists all of them.
        FileNotFoundError: One thing is missing.
    """
    if flags.smoke_test or not cells:
        return
    found: dict[str, Exception] = {}
    for attempt in (*_of_weights(flags, cells), *_of_data(flags, benchmark, check, cells)):
        try:
            attempt()
        except (ValueError, OSError) as error:
            found.setdefault(str(error), error)
    if len(found) == 1:
        raise next(iter(found.values()))
    if found:
        told = "\n".join(f"  {reason}" for reason in found)
        raise ValueError(f"{len(found)} things are missing or wrong; nothing was trained:\n{told}")


def domains_of(benchmark: Benchmark, cells: Iterable[Cell]) -> list[str]:
    """The domains of a benchmark that the columns of a table name.

    Behind _ or - stands what is taken of one: amazon_05 is 5 % of amazon, amazon-3 has 3 labels.

    Example:
        >>> from da.data import OFFICE31
        >>> from da.recipes import Cell
        >>> from da.recipes.checks import domains_of
        >>> domains_of(OFFICE31, [Cell("full", "imagenet", "amazon_05", 0)])
        ['amazon']
    """
    names = [name for cell in cells for name in (cell.source, cell.target)]
    domains = benchmark.domains
    whole = [n if n in domains else re.sub(r"[_-][^_-]+$", "", n) for n in names]
    return list(dict.fromkeys(name for name in whole if name in domains))


def with_data(flags: FlagsType, benchmark: Benchmark | None, cells: Iterable[Cell]) -> list[Cell]:
    """The cells, each with what identifies the data of its domains, as far as they are there."""
    if benchmark is None or not benchmark.folder or flags.smoke_test:
        return list(cells)
    try:
        root = data_root(flags.data_root)
    except FileNotFoundError:
        return list(cells)
    found = []
    for cell in cells:
        known = [data_digest(benchmark, name, root) for name in domains_of(benchmark, [cell])]
        found.append(cell._replace(data=" ".join(each for each in known if each) or None))
    return found


def _of_weights(flags: FlagsType, cells: Sequence[Cell]) -> Iterator[Callable[[], object]]:
    """Load the backbone once, if the flags name one."""
    name, weights = getattr(flags, "backbone", None), getattr(flags, "weights", None)
    needed = {cell.method for cell in cells}.difference(FROM_RANDOM_WEIGHTS)
    if name is not None and needed and (weights is None or isinstance(weights, Path)):
        frozen = getattr(flags, "frozen_blocks", 0)
        yield partial(backbone, name, weights=weights, frozen_blocks=frozen)
    if name is not None and getattr(flags, "image_size", None) is not None:
        yield partial(_take_images, name, flags.image_size)  # type: ignore[attr-defined]


def _take_images(name: str, size: int) -> None:
    """Raise a ValueError if a backbone does not take images of a size."""
    body, _ = backbone(name, pretrained=False)
    check_size(body, size, name=name, own=input_settings(name).size)


def _of_data(
    flags: FlagsType, benchmark: Benchmark | None, check: Check | None, cells: Sequence[Cell]
) -> Iterator[Callable[[], object]]:
    """Look for the data of each column, or for each domain of the benchmark."""
    if check is not None:
        columns = {(cell.source, cell.target): cell for cell in cells}
        yield from (partial(check, flags, cell) for cell in columns.values())
        return
    if benchmark is None or not benchmark.folder:
        return
    if isinstance(flags, ClassFlags):
        yield partial(select, flags, benchmark.classes)
    domains = domains_of(benchmark, cells)
    if not domains:
        return
    try:
        root = data_root(flags.data_root)
    except FileNotFoundError as error:
        missing = error
        yield partial(_raise, missing)
        return
    yield from (partial(check_domain, benchmark, domain, root) for domain in domains)


def _raise(error: Exception) -> None:
    raise error
