"""Weights of held-out source rows, from features of both domains."""

from __future__ import annotations

import numpy as np
import torch

from da.arrays.arguments import checked
from da.arrays.matrices import Array, check_two_samples, like
from da.arrays.naming import naming

SMALLEST_PROBABILITY = 1e-6


@checked
def density_ratio(source: Array, target: Array, rows: Array) -> Array:
    """Estimate how much likelier other source rows are in the target, by a logistic regression.

    It learns to tell target features from source features, and is then asked about rows that it
    has not seen, as DEV wants it. If the rows are themselves the source sample, take
    `da.instance.discriminator_weights`, which is cross-fitted.

        w(x) = p(target | x) / p(source | x) * n / m

    Args:
        source: Features (n, d) of source rows, floats.
        target: Features (m, d) of target rows.
        rows: Features (v, d) of the source rows that want weights.

    Returns:
        The density ratio target / source at the rows, (v,), of the kind of `rows`. Its mean is
        about 1, and not exactly.

    Raises:
        TypeError: An input does not hold floats, or tensors and arrays are mixed.
        ValueError: Widths differ, or a value is not finite.

    Example:
        Half of the source lies at 0, three quarters of the target do:

        >>> import numpy as np
        >>> from da.select import density_ratio
        >>> source = np.repeat([[0.0], [5.0]], [500, 500], axis=0)
        >>> target = np.repeat([[0.0], [5.0]], [750, 250], axis=0)
        >>> density_ratio(source, target, np.array([[0.0], [5.0]])).round(1)
        array([1.5, 0.5])

    Paper:
        You, Wang, Long, Jordan: Towards Accurate Model Selection in Deep Unsupervised Domain
        Adaptation. ICML 2019, section 4.2.

    Differences:
        The classifier is a logistic regression on standardised features, with scikit-learn's
        default penalty. The paper has a network with one hidden layer, and chooses its penalty by
        validation. Probabilities are kept 1e-6 away from 0 and 1, so no weight is infinite.
    """
    from sklearn.linear_model import LogisticRegression  # here: scikit-learn is slow to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = check_two_samples(source, target)
    asked = check_two_samples(source, rows, names=("source", "rows"))[1]
    pooled = torch.cat([x, y]).detach().cpu().double().numpy()
    is_target = np.arange(len(pooled)) >= len(x)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with naming("source, target and rows"):
        model.fit(pooled, is_target.astype(int))
    p = model.predict_proba(asked.detach().cpu().double().numpy())[:, 1]
    p = p.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    ratio = torch.from_numpy(p / (1 - p) * len(x) / len(y))
    return like(ratio.to(asked), rows)
