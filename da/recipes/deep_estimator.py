"""A small network with any loss of da.feature, as a scikit-learn classifier.

    model = DeepAdaptationClassifier(method="dann")
    model.fit(X, y, sample_domain=sample_domain).predict(X_target)

`sample_domain` is > 0 for source rows and < 0 for target rows, as in
`da.shallow.DomainAdaptationClassifier`.
"""

from __future__ import annotations

import tempfile
from typing import Any, Literal, Self, final

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from da.arrays.checked_classes import CheckedEstimator
from da.arrays.choices import check_choice
from da.arrays.integers import whole_number
from da.arrays.naming import naming
from da.arrays.random_states import RandomState, seed_of
from da.arrays.sample_domain import is_source, labels_of, pooled_rows
from da.data.batches import PairedBatches
from da.data.domain import Labelled, Unlabelled
from da.data.transforms import identity
from da.networks.network import Network
from da.networks.small import feature_network
from da.networks.statistics import DomainName
from da.recipes.methods import METHODS
from da.records.run import Run
from da.train.config import TrainConfig
from da.train.loop import fit
from da.train.prediction import predict

# FixMatch, AdaMatch, MIC and the mean teacher need two views of a photograph; a row of a table is
# one.
DeepMethod = Literal[
    "none", "adabn", "mmd", "coral", "energy", "frechet", "cmd", "homm", "sinkhorn", "sliced",
    "jan", "dsan", "deepjdot", "dann", "cdan", "cdan_e", "wdgrl", "bsp", "mcd", "mdd", "entropy",
    "mcc", "bnm", "afn", "pseudo_labels", "dann_els", "cdan_mcc", "cdan_mcc_sdat", "daln", "atdoc",
    "can", "gvb",
]  # fmt: skip
_ALONE = ("none", "adabn")  # rows that can be trained without target rows


@final
class DeepAdaptationClassifier(CheckedEstimator, ClassifierMixin, BaseEstimator):
    """Train a small network on source rows so that it answers unlabelled target rows as well.

    Use it on tables or stored features where a scikit-learn classifier would stand: in pipelines,
    searches and cross-validation. The network normalises its columns, has one hidden layer and a
    linear head, and is trained by the loop that trains everything here. After `fit` it has
    `classes_`, `n_features_in_`, `feature_names_in_` for data frames, and `network_`.

    Args:
        method: How the domains are brought together: a row of the tables, such as "mmd" (default),
            "dann", "cdan_e", "mcc" or "none". Its options are those of its paper.
        hidden: Units of the hidden layer, the features that are aligned; >= 1. Default 256.
        steps: Steps of training, >= 1. Default 300.
        batch_size: Rows of each domain a step, >= 2; no more than each domain has. Default 64.
        learning_rate: Of AdamW, > 0. Default 0.003.
        trade_off: Factor of the method's own weight beside the cross-entropy, >= 0. Default 1.
        random_state: Source of the initial weights and the order of the rows: None, an int, or a
            RandomState or Generator of NumPy. Default 0.

    Raises:
        ValueError: In `fit`, if an option is none, source rows or the target rows that the method
            needs are missing, there is one class, or a domain has one row.

    Example:
        >>> import numpy as np
        >>> from da.recipes import DeepAdaptationClassifier
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 2)) + np.repeat([[0, 0], [3, 0]], 100, axis=0)
        >>> y = np.r_[X[:100, 0] > 0, np.zeros(100)]  # the entries of target rows are not read
        >>> domain = np.repeat([1, -1], 100)
        >>> model = DeepAdaptationClassifier("dann", steps=50).fit(X, y, sample_domain=domain)
        >>> bool(np.mean(model.predict(X[100:]) == (X[100:, 0] > 3)) > 0.9)
        True
    """

    __metadata_request__fit = {"sample_domain": True}
    __metadata_request__predict = {"sample_domain": True}
    __metadata_request__predict_proba = {"sample_domain": True}
    __metadata_request__score = {"sample_domain": True}

    def __init__(
        self,
        method: DeepMethod = "mmd",
        *,
        hidden: int = 256,
        steps: int = 300,
        batch_size: int = 64,
        learning_rate: float = 0.003,
        trade_off: float = 1.0,
        random_state: RandomState = 0,
    ) -> None:
        self.method = method
        self.hidden = hidden
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.trade_off = trade_off
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_domain: Any = None) -> Self:
        """Train on labelled source rows and unlabelled target rows.

        Args:
            X: Rows (n, d) of both domains, in any order.
            y: Classes (n,); those of target rows are not read.
            sample_domain: Integers (n,), > 0 for source rows and < 0 for target rows. None: all
                are source rows, which "none" and "adabn" can do with.

        Returns:
            The classifier itself.

        Raises:
            ValueError: As above.
        """
        check_choice("method", self.method, DeepMethod)
        if not 0 <= self.trade_off < np.inf:
            raise ValueError(f"trade_off must be a number >= 0; got {self.trade_off!r}")
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        X = pooled_rows(self, X, y, dtype=np.float32)
        chosen = (
            np.ones(len(X), dtype=bool)
            if sample_domain is None
            else is_source(sample_domain, len(X))
        )
        self._check_domains(chosen)
        labels = labels_of(y, chosen)
        with naming("y"):
            check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must have at least two classes; got {len(self.classes_)} class")
        source = Labelled(torch.from_numpy(X[chosen]), torch.from_numpy(codes))
        target = Unlabelled(torch.from_numpy(X[chosen] if chosen.all() else X[~chosen]))
        self.network_ = self._trained(source, target)
        return self

    def _check_domains(self, chosen: np.ndarray) -> None:
        rows = int(chosen.sum()), int((~chosen).sum())
        if rows[0] < 2:
            raise ValueError(
                f"sample_domain must be > 0 for at least 2 source rows; got n_samples = {rows[0]}"
            )
        if rows[1] < 2 and not (rows[1] == 0 and self.method in _ALONE):
            raise ValueError(
                f"method {self.method!r} must see at least 2 target rows; got {rows[1]} of "
                f"n_samples = {len(chosen)}: pass fit(X, y, sample_domain=...), integers > 0 for "
                f"source rows and < 0 for target rows"
            )

    def _trained(self, source: Labelled, target: Unlabelled) -> Network:
        """A network trained on both domains, in evaluation mode."""
        hidden = whole_number(self.hidden, "hidden", least=1)
        wanted = whole_number(self.batch_size, "batch_size", least=2)
        seed = seed_of(self.random_state)
        stream = PairedBatches(
            source,
            target,
            batch_size=min(wanted, len(source), len(target)),
            seed=seed,
            transform=identity,
        )
        config = TrainConfig(
            steps=self.steps,
            batch_size=stream.batch_size,
            learning_rate=self.learning_rate,
            optimizer="adamw",
            evaluate_every=self.steps,
            log_every=self.steps,
            accelerator="cpu",
        )
        names: dict[str, Any] = {"method": self.method, "source": "here", "target": "there"}
        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(seed)
            network = feature_network(
                source.x.shape[1], len(self.classes_), hidden=hidden, normalised=True
            )
            made = METHODS[self.method](network)
            made.trade_off = self.trade_off * made.trade_off
            run = Run.start(
                folder, {}, experiment="estimator", seed=seed, **names, wandb="disabled"
            )
            fit(made, stream, config, run)
        return network.requires_grad_(False).eval()

    def predict_proba(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Return probabilities (k, classes), ordered as `classes_`; arguments as in `predict`."""
        check_is_fitted(self, "network_")
        X = pooled_rows(self, X, dtype=np.float32, reset=False)
        chosen = (
            np.zeros(len(X), dtype=bool)
            if sample_domain is None
            else is_source(sample_domain, len(X))
        )
        answers = np.empty((len(X), len(self.classes_)), dtype=np.float32)
        domains: list[tuple[DomainName, np.ndarray]] = [("source", chosen), ("target", ~chosen)]
        for domain, rows in domains:
            if rows.any():
                part = Unlabelled(torch.from_numpy(X[rows]))
                outputs = predict(self.network_, part, identity, statistics=domain)
                answers[rows] = outputs.logits.softmax(dim=1).numpy()
        return answers

    def predict(self, X: Any, sample_domain: Any = None) -> np.ndarray:
        """Predict classes.

        Args:
            X: Rows (k, d).
            sample_domain: Integers (k,), > 0 for source rows and < 0 for target rows, which matters
                to methods with statistics of each domain. None: every row is a target row.

        Returns:
            Classes (k,).
        """
        probabilities = self.predict_proba(X, sample_domain)
        return self.classes_[probabilities.argmax(axis=1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None, sample_domain: Any = None) -> float:
        """Compute the accuracy.

        Args:
            X: Rows (k, d).
            y: Classes (k,). Target labels are ignored if `sample_domain` is given.
            sample_weight: Weights (k,), or None for equal ones.
            sample_domain: Integers (k,): the accuracy is that of the source rows alone. None: all
                rows are target rows, and all count.

        Returns:
            The accuracy, a fraction in [0, 1].
        """
        answers = self.predict(X, sample_domain)
        check_consistent_length(answers, y, sample_weight)
        if sample_domain is None:
            chosen = np.ones(len(answers), dtype=bool)
        else:
            chosen = is_source(sample_domain, len(answers))
        right = labels_of(y, chosen) == answers[chosen]
        weights = None if sample_weight is None else np.asarray(sample_weight)[chosen]
        return float(np.average(right, weights=weights))
