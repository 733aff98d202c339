"""Other libraries' MMDs. Oracle: what their own code returned on the arrays of peer_values.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from da.feature.presets import (
    deepda_local_mmd2,
    deepda_mmd2,
    pytorch_adapt_mmd2,
    tllib_joint_mmd2,
    tllib_mmd2,
)

PEERS = json.loads((Path(__file__).parent / "peer_values.json").read_text())
VALUES = PEERS["values"]
ARRAYS = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in PEERS["inputs"].items()}
SOURCE, TARGET = ARRAYS["source"], ARRAYS["target"]
LOCAL = "deepda.lmmd(source, target, source_labels, softmax(logits_target)), schedule factor 1"


def test_tllib():
    """TLlib's index matrix is in float32."""
    assert tllib_mmd2(SOURCE, TARGET).item() == pytest.approx(
        VALUES["tllib.dan.quadratic"], abs=1e-6
    )
    assert tllib_mmd2(SOURCE, TARGET, linear=True).item() == pytest.approx(
        VALUES["tllib.dan.linear"], abs=1e-6
    )
    sources = [SOURCE, ARRAYS["source2"].softmax(1)]
    targets = [TARGET, ARRAYS["target2"].softmax(1)]
    assert tllib_joint_mmd2(sources, targets).item() == pytest.approx(
        VALUES["tllib.jan.quadratic"], abs=1e-6
    )


def test_deepda():
    """DeepDA's local MMD is in float32."""
    assert deepda_mmd2(SOURCE, TARGET).item() == pytest.approx(VALUES["deepda.mmd"], abs=1e-12)
    probabilities = ARRAYS["logits_target"].softmax(1)
    value = deepda_local_mmd2(SOURCE, TARGET, ARRAYS["source_labels"].long(), probabilities)
    assert value.item() == pytest.approx(VALUES[LOCAL], abs=1e-6)


@pytest.mark.parametrize(
    ("mmd_type", "value"), [("linear", 0.042978623300159), ("quadratic", 0.10466922218403307)]
)
def test_pytorch_adapt(mmd_type, value):
    """MMDLoss of pytorch-adapt 0.0.83, with pytorch-metric-learning, returned the values."""
    assert pytorch_adapt_mmd2(SOURCE, TARGET, mmd_type=mmd_type).item() == pytest.approx(
        value, abs=1e-12
    )


def test_arrays_in_arrays_out():
    s, t = SOURCE.numpy(), TARGET.numpy()
    for value in (
        tllib_mmd2(s, t),
        deepda_mmd2(s, t),
        pytorch_adapt_mmd2(s, t),
        tllib_joint_mmd2([s, s], [t, t]),
    ):
        assert isinstance(value, np.ndarray | np.generic) and np.shape(value) == ()


def test_limits_of_the_originals_are_told():
    with pytest.raises(ValueError, match="equal numbers of rows.*got 16 and 15"):
        tllib_mmd2(SOURCE, TARGET[:-1])
    with pytest.raises(ValueError, match="two layers"):
        tllib_joint_mmd2([SOURCE], [TARGET])
    with pytest.raises(ValueError, match="mmd_type must be"):
        pytorch_adapt_mmd2(SOURCE, TARGET, mmd_type="u")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="median.*is 0"):
        pytorch_adapt_mmd2(torch.ones(4, 2), torch.rand(4, 2))
