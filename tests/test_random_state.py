"""Every function and class with `n_...` or `random_state` takes what scikit-learn takes.

Oracles: an int gives what the equal NumPy integer gives; two sources in one state give one result;
each call takes exactly one number from its source.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from da.data import LabelledBatches, PairedBatches, TargetBatches, identity
from da.data.domain import Labelled
from da.data.toy import mean_shifted_axis, moved_sensor
from da.feature import sliced_wasserstein
from da.instance import (
    TwoStageTrAdaBoostR2,
    discriminator_weights,
    kliep,
    kmm,
    rulsif,
    ulsif,
)
from da.records import Run
from da.select import conformal_classifier
from da.shallow import BDA, JDA, SSTCA, TCA, TJM, SourceFolds
from da.shift import (
    MeanEmbedding,
    block_mmd_test,
    block_sums,
    mmd_fuse,
    mmd_test,
    moved_classes,
    random_feature_mmd2,
)

RNG = np.random.default_rng(0)
S, T, Y = RNG.normal(size=(40, 3)), RNG.normal(size=(30, 3)) + 0.5, np.arange(40) % 2
SHARES = RNG.dirichlet(np.ones(3), size=40)


def adapter(kind: type) -> Callable[[Any], np.ndarray]:
    def use(random_state: Any) -> np.ndarray:
        model = kind(kernel="rbf", n_landmarks=8, random_state=random_state)
        return model.fit(S, T, Y).transform(T, domain="target")

    return use


def folds(random_state: Any) -> np.ndarray:
    cut = SourceFolds(3, random_state=random_state).split(S, sample_domain=np.ones(40, int))
    return np.concatenate([test for _, test in cut])


def embedding(random_state: Any) -> np.ndarray:
    found = MeanEmbedding(3, bandwidth=1.0, features=8, random_state=random_state)
    found.update(S)
    return found.total.numpy()


USES: dict[str, Callable[[Any], Any]] = {
    **{kind.__name__: adapter(kind) for kind in (TCA, SSTCA, JDA, BDA, TJM)},
    "SourceFolds": folds,
    "kmm": lambda r: kmm(S, T, n_landmarks=6, random_state=r),
    "kliep": lambda r: kliep(S, T, n_centres=6, random_state=r),
    "ulsif": lambda r: ulsif(S, T, n_centres=6, random_state=r),
    "rulsif": lambda r: rulsif(S, T, n_centres=6, random_state=r),
    "discriminator_weights": lambda r: discriminator_weights(S, T, random_state=r),
    "TwoStageTrAdaBoostR2": lambda r: (
        TwoStageTrAdaBoostR2(n_steps=2, n_estimators=2, random_state=r)
        .fit(S, S[:, 0], T, T[:, 0] + T[:, 1])
        .cross_validation_errors_
    ),
    "mmd_test": lambda r: mmd_test(S, T, permutations=20, random_state=r).null,
    "block_mmd_test": lambda r: block_mmd_test(S, T, permutations=20, random_state=r).null,
    "block_sums": lambda r: block_sums(
        S, T, bandwidth=6.0, block_rows=2, random_state=r
    ).source.numpy(),
    "conformal_classifier": lambda r: conformal_classifier(
        SHARES, Y, score="aps", least_effective_size=1, random_state=r
    )(SHARES),
    "mmd_fuse": lambda r: mmd_fuse(S, T, permutations=20, random_state=r).null,
    "moved_classes": lambda r: [
        line.p_value for line in moved_classes(S, T, Y, Y[:30], permutations=20, random_state=r)
    ],
    "random_feature_mmd2": lambda r: random_feature_mmd2(S, T, features=8, random_state=r),
    "MeanEmbedding": embedding,
    "sliced_wasserstein": lambda r: sliced_wasserstein(S, T, projections=4, random_state=r),
}
every_use = pytest.mark.parametrize("name", USES)


@every_use
def test_a_numpy_integer_is_the_int(name: str) -> None:
    np.testing.assert_array_equal(USES[name](np.int64(3)), USES[name](3))


@every_use
@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_sources_in_one_state_give_one_result(name: str, make: Callable[[int], Any]) -> None:
    first, second, reference = make(7), make(7), make(7)
    np.testing.assert_array_equal(USES[name](first), USES[name](second))
    draw = "integers" if isinstance(reference, np.random.Generator) else "randint"
    seed = getattr(reference, draw)(2**31 - 1)
    np.testing.assert_array_equal(USES[name](int(seed)), USES[name](make(7)))
    # One number was taken, and the sources go on alike.
    assert getattr(first, draw)(2**20) == getattr(reference, draw)(2**20)


@every_use
def test_none_is_the_global_state(name: str) -> None:
    state = np.random.get_state()
    try:
        np.random.seed(11)
        first = USES[name](None)
        np.random.seed(11)
        np.testing.assert_array_equal(first, USES[name](None))
    finally:
        np.random.set_state(state)


@every_use
@pytest.mark.parametrize("source", [-1, 2.0, "0", torch.Generator()])
def test_another_source_is_refused_by_name(name: str, source: object) -> None:
    with pytest.raises(ValueError, match="random_state must be None, a whole number from 0"):
        USES[name](source)


X, LABELS = torch.zeros(6, 2), torch.arange(6) % 2
STREAMS: dict[str, Callable[[Any], Any]] = {
    "PairedBatches": lambda seed: PairedBatches(
        Labelled(X, LABELS), Labelled(X, LABELS).unlabelled(), batch_size=2, seed=seed,
        transform=identity,
    ).batch(1).source_index,
    "LabelledBatches": lambda seed: LabelledBatches(
        Labelled(X, LABELS), batch_size=2, seed=seed, transform=identity
    ).batch(1).index,
    "TargetBatches": lambda seed: TargetBatches(
        Labelled(X, LABELS).unlabelled(), batch_size=2, seed=seed, transform=identity
    ).batch(1).target_index,
    "mean_shifted_axis": lambda seed: mean_shifted_axis(20, seed).source.x,
    "moved_sensor": lambda seed: moved_sensor(20, seed).source.x,
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_seeds_of_streams_are_whole_numbers(name: str) -> None:
    for kind in (np.int64, np.uint8, np.int32):
        assert torch.equal(STREAMS[name](kind(3)), STREAMS[name](3))
    for seed in (-1, 1.5, True, None):
        with pytest.raises(ValueError, match="seed must be a whole number"):
            STREAMS[name](seed)


def test_a_run_of_numpy_integers_is_that_of_ints() -> None:
    names = {"experiment": "e", "method": "m", "source": "s", "target": "t", "wandb": "disabled"}
    config = {"steps": np.int64(5), "rate": np.float32(0.5), "sizes": (np.int8(1), 2)}
    plain = {"steps": 5, "rate": 0.5, "sizes": (1, 2)}
    folder = tempfile.mkdtemp()
    found = Run.start(folder, config, seed=np.int64(3), **names)  # type: ignore[arg-type]
    assert found.directory == Run.start(folder, plain, seed=3, **names).directory  # type: ignore[arg-type]
