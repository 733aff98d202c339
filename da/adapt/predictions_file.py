"""predictions.csv: a line for each sample."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from da.records.files import replacing


def write_predictions(
    path: Path,
    names: Sequence[str],
    predicted: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    unsure: np.ndarray,
) -> None:
    """Write predictions, whole or not at all.

    Columns: sample, predicted, probability, unsure, then one probability for each class. Of a
    regression: sample, predicted, unsure.

    Args:
        path: The file.
        names: Files or row numbers (n,).
        predicted: Names of classes (n,), or numbers (n,).
        probabilities: (n, k), or (n, 0) for a regression.
        classes: Names of the classes (k,).
        unsure: Which predictions are unsure, (n,).

    Raises:
        OSError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from da.adapt.predictions_file import write_predictions
        >>> path = Path(tempfile.mkdtemp()) / "predictions.csv"
        >>> p = np.array([[0.9, 0.1]])
        >>> write_predictions(path, ["a.jpg"], np.array(["cup"]), p, ["cup", "mug"], p[:, 0] < 0.5)
        >>> print(path.read_text().strip())
        sample,predicted,probability,unsure,p(cup),p(mug)
        a.jpg,cup,0.9000,no,0.9000,0.1000
    """
    head = ["sample", "predicted"]
    head += (
        ["probability", "unsure", *(f"p({name})" for name in classes)] if classes else ["unsure"]
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row, name in enumerate(names):
        doubt = "yes" if unsure[row] else "no"
        if classes:
            p = [f"{value:.4f}" for value in probabilities[row]]
            most = f"{probabilities[row].max():.4f}"
            writer.writerow([name, predicted[row], most, doubt, *p])
        else:
            writer.writerow([name, f"{predicted[row]:.6g}", doubt])
    with replacing(path) as file:
        file.write(text.getvalue().encode())
