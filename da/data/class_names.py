"""Names of classes, compared: exact names first, then letters and digits alone.

Real copies of a benchmark differ in case, spaces and underscores (`Real World`, `RealWorld`,
`Real_World`). A Mac writes é as e and an accent, other systems as one letter. Some classes differ
in signs alone (`C++` and `C#`, `-1` and `1`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from da.records.files import composed


def composed_labels(labels: np.ndarray) -> np.ndarray:
    """Labels (n,) with text in Unicode's form NFC; numbers stay as they are."""
    if labels.dtype.kind != "U":
        return labels
    return np.array([composed(label) for label in labels.tolist()], dtype=str)


def squeeze(name: str) -> str:
    """Reduce a name to its letters and digits in lower case.

    `Real World` and `real_world` both become `realworld`.
    """
    return "".join(letter for letter in composed(name).casefold() if letter.isalnum())


class ClassFinder:
    """Find the class that a folder's name means.

    A name that is exactly a class or an alias means that class. Otherwise it means the class with
    the same letters and digits, if there is only one.

    Args:
        classes: Names of the classes.
        aliases: Another name -> the class. Default: none.

    Example:
        >>> from da.data.class_names import ClassFinder
        >>> find = ClassFinder(["C++", "C#", "back_pack"])
        >>> find("C#"), find("Back Pack"), find("C")
        ('C#', 'back_pack', None)
    """

    def __init__(self, classes: Iterable[str], aliases: Mapping[str, str] | None = None) -> None:
        names = {composed(name): name for name in classes}
        self._exact = names | {composed(name): known for name, known in (aliases or {}).items()}
        meant: dict[str, set[str]] = {}
        for name, known in self._exact.items():
            meant.setdefault(squeeze(name), set()).add(known)
        self._loose = {
            letters: next(iter(known))
            for letters, known in meant.items()
            if letters and len(known) == 1
        }

    def __call__(self, name: str) -> str | None:
        """The class, or None."""
        exact = self._exact.get(composed(name))
        return exact if exact is not None else self._loose.get(squeeze(name))
