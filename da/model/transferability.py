"""How well will a network transfer? All scores of labelled target samples, before any training.

| score | reads | file |
|---|---|---|
| `h_score`, `regularized_h_score` | features (n, d), labels (n,) | `da.model.h_scores` |
| `logme` | features (n, d), labels (n,) | `da.model.evidence` |
| `transrate` | features (n, d), labels (n,) | `da.model.coding_rate` |
| `sfda`, `gbc`, `lda_score` | features (n, d), labels (n,) | `da.model.discriminant_scores` |
| `parc`, `nleep` | features (n, d), labels (n,) | `da.model.neighbour_scores` |
| `energy_score` | features (n, d), no labels | `da.model.energy_scores` |
| `linear_fit_score` | features (n, d), numbers (n,) | `da.model.energy_scores` |
| `leep` | the source classifier's probabilities (n, S), labels | `da.model.source_predictions` |
| `nce` | the source classifier's decisions (n,), labels (n,) | `da.model.source_predictions` |

Higher means better transfer, within one score: different scores have different units. The output
of the source network is always the first argument, and the target's labels are the second.

The scores take tensors or NumPy arrays and give a float. They compute in float64 on the device of
the input, without gradients. The order of the rows does not matter.
"""

from __future__ import annotations

from torch import nn

from da.arrays.devices import widened
from da.data.batches import Transform
from da.data.domain import Labelled
from da.model.coding_rate import transrate
from da.model.discriminant_scores import gbc, lda_score, sfda
from da.model.energy_scores import energy_score
from da.model.evidence import logme
from da.model.h_scores import h_score, regularized_h_score
from da.model.neighbour_scores import nleep, parc
from da.model.source_predictions import leep, nce
from da.train.prediction import predict

OF_FEATURES = {
    "h_score": h_score,
    "regularized_h_score": regularized_h_score,
    "logme": logme,
    "transrate": transrate,
    "sfda": sfda,
    "gbc": gbc,
    "parc": parc,
    "nleep": nleep,
    "lda": lda_score,
}


def scores(
    network: nn.Module, labelled: Labelled, transform: Transform, *, classifier: bool = True
) -> dict[str, float]:
    """Compute every transferability score of a network on labelled target samples.

    Give it the samples that training sees, and none that the result is judged on.

    Args:
        network: x (b, ...) -> Outputs.
        labelled: Labelled samples of the target.
        transform: Raw rows -> network input.
        classifier: Whether the logits are those of the source's classes. False leaves out `leep`
            and `nce`. Default True.

    Returns:
        Name of the score -> value.
    """
    features, logits = predict(
        network,  # type: ignore[arg-type]
        labelled,
        transform,
        statistics="source",
        batch_size=64,
    )
    found = {name: score(features, labelled.y) for name, score in OF_FEATURES.items()}
    found["energy"] = energy_score(features)
    if classifier:
        found |= {
            "leep": leep(widened(logits).softmax(1), labelled.y),
            "nce": nce(logits.argmax(1), labelled.y),
        }
    return found
