"""SWAD: averages of weights over the valley of a held-out loss.

Oracles: the definition on the whole list of losses, what the authors' own class returned for the
same losses and weights, SciPy's cross-entropy, a run that is really interrupted.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from torch import nn

from da.data.batches import LabelledBatch
from da.data.domain import Labelled
from da.data.labelled_domains import DomainBatch, DomainBatches
from da.data.transforms import identity
from da.feature.across_domains import Risks
from da.networks.network import Network
from da.networks.small import mlp
from da.records.run import Run
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.loss_valley import SWAD
from da.train.method import Method
from da.train.saved_network import start_from
from da.train.weight_average import WeightAverage


class Told(nn.Module):
    """Logits (-log(e^l - 1), 0) whatever the input, whose cross-entropy at class 0 is l.

    `mark` has no part in it, and tells the networks of an average apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.mark = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logit = -torch.expm1(self.loss).log()
        return torch.stack([logit, torch.zeros_like(logit)]).expand(len(x), 2)


class Untrained(Method[LabelledBatch]):
    """Its network stays as it is."""

    def loss(self, batch: LabelledBatch, progress: float) -> dict[str, torch.Tensor]:
        return {"task": batch.x.sum()}


BATCH = LabelledBatch(torch.zeros(1, 1), torch.zeros(1).long(), torch.zeros(1).long())
HELD_OUT = Labelled(torch.zeros(3, 1), torch.zeros(3).long())


def run(losses: list[float], marks: list[list[float]], **options: float) -> tuple[float, SWAD]:
    """The mark of the average after segments with these marks, and these losses at their ends."""
    told = Told()
    network = Network(nn.Identity(), nn.Identity(), told)
    method = SWAD(Untrained(network), HELD_OUT, identity, every=len(marks[0]), **options)
    for loss, segment in zip(losses, marks, strict=False):
        for mark in segment:
            told.mark.data.fill_(mark), told.loss.data.fill_(loss)
            list(method.step(BATCH, 0.5))
    return method.network.head.mark.item(), method


def by_definition(
    losses: list[float], *, converged: int, patience: int, tolerance: float
) -> range | None:
    """Which segments the average has, by the whole list; None: there is no start."""
    n = len(losses)
    for s in range(n - converged + 1):
        window = losses[s : s + converged]
        if losses[s] == min(window):
            break
    else:
        return None
    bound = (1 + tolerance) * sum(window) / converged
    for e in range(s, n):
        if min(losses[e : e + patience]) > bound:  # at the end of the training a shorter row
            return range(s, e)
    return range(s, n)


MARKS = [[math.sin(3 * i * i), math.cos(i)] for i in range(30)]


def mean_mark(segments: range) -> float:
    return float(np.mean([MARKS[i] for i in segments]))


@settings(deadline=None, max_examples=100)
@given(
    losses=st.lists(st.sampled_from([1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0]), min_size=1, max_size=16),
    converged=st.integers(1, 4),
    patience=st.integers(1, 5),
    tolerance=st.sampled_from([0.0, 0.05, 0.3]),
)
@example(losses=[1.0, 4.0, 4.0, 1.0], converged=3, patience=1, tolerance=0.0)
def test_average_by_definition(
    losses: list[float], converged: int, patience: int, tolerance: float
) -> None:
    options = {"converged": converged, "patience": patience, "tolerance": tolerance + 1e-6}
    found, method = run(losses, MARKS, **options)
    segments = by_definition(losses, **options)
    newest = range(len(losses) - 1, len(losses))
    assert found == pytest.approx(mean_mark(newest if segments is None else segments), abs=1e-9)
    assert int(method.averaged) == (0 if segments is None else len(segments))


# What LossValley (n_converge 3, n_tolerance 6, tolerance_ratio 0.3) of khanrc/swad returned for
# these losses, with the marks above: the mean, the number of segments, whether the valley ended. In
# all of them the segment before the start is above the bound; see the docstring of SWAD.
PEERS = [
    (
        [5, 4, 3, 2, 1, 1.1, 1.2, 1.1, 1.5, 1.2, 1.6, 1.7, 1.8, 1.9, 2.0, 2.1, 1.0],
        (-0.048138388836679064, 6, True),
    ),
    ([5, 4, 3, 2, 1, 1.1, 1.2, 1.1, 1.5, 1.2, 1.6, 1.7], (-0.048138388836679064, 6, False)),
    (
        [9, 1, 1.1, 5, 5, 5, 1.2, 1.9, 5, 5, 5, 5, 5, 5, 1],
        (0.10135738052469659, 7, True),
    ),
    ([9, 1, 2, 9, 9, 9, 9, 9, 9], (-0.06782436015489263, 2, True)),
    ([3, 2.9, 2.8, 2.7], (-0.016808284097971193, 0, False)),
]


@pytest.mark.parametrize(("losses", "expected"), PEERS)
def test_the_authors_average(losses: list[float], expected: tuple[float, int, bool]) -> None:
    found, method = run(losses, MARKS)
    mean, segments, ended = expected
    assert found == pytest.approx(mean, abs=1e-12)
    assert int(method.averaged) == segments and bool(method.over) == ended


def test_after_the_end_the_average_stays() -> None:
    losses = [9, 1, 2, *(9 for _ in range(6))]
    first, _ = run(losses, MARKS)
    second, _ = run([*losses, 0.1, 0.1, 0.1], MARKS)
    assert first == second


def test_before_the_first_look_the_average_is_that_of_all_steps() -> None:
    found, method = run([1.0], [[0.0, 3.0, 6.0]])
    assert found == pytest.approx(3.0) and int(method.waiting_count) == 1
    assert method.losses[0].item() == pytest.approx(1.0, rel=1e-6)


def network() -> Network:
    torch.manual_seed(0)
    return mlp(4, 3, hidden=8, features=8)


def domain(seed: int, n: int = 30) -> Labelled:
    y = torch.arange(n) % 3
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return Labelled(x + 2 * nn.functional.one_hot(y, 4), y)


def test_the_loss_is_the_cross_entropy_of_the_trained_network() -> None:
    held_out = domain(5)
    method = SWAD(Risks(network()), held_out, identity, every=1).train()
    with torch.no_grad():
        method.network.head.bias += 9  # the average is another network
        logits = method.method.network.eval()(held_out.x).logits.double().numpy()
        method.method.network.train()
    expected = -log_softmax(logits, axis=1)[np.arange(30), held_out.y].mean()
    batch = DomainBatch(held_out.x, held_out.y, held_out.y, domain=held_out.y % 2)
    list(method.step(batch, 0.0))
    assert method.losses[0].item() == pytest.approx(expected, rel=1e-5)
    assert method.method.network.training and not method.network.head.weight.requires_grad


CONFIG = TrainConfig(steps=40, evaluate_every=4, accelerator="cpu", threads=1, learning_rate=0.5)


class Stop(Exception):
    pass


class Breaking(DomainBatches):
    """It breaks at step 14, when the checkpoint is of step 12."""

    def batch(self, step: int, rank: int = 0, world_size: int = 1):  # type: ignore[no-untyped-def]
        if step == 14:
            raise Stop
        return super().batch(step, rank, world_size)


def trained(folder: Path, kind: type[DomainBatches]) -> tuple[dict, Method]:
    names = {"experiment": "e", "method": "swad", "source": "a", "target": "b", "seed": 0}
    record = Run.start(folder, {}, **names, wandb="disabled")
    sources, held_out = [domain(0), domain(1)], domain(2)
    stream = kind(sources, batch_size=8, seed=0, transform=identity)
    method = SWAD(Risks(network()), held_out, identity, every=5, converged=2)
    evaluation = Evaluation(domain(3), identity, source_validation=held_out)
    try:
        return fit(method, stream, CONFIG, record, evaluation), method
    except Stop:
        record.close(failed=True)
        raise


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """The checkpoint is of the middle of a segment."""
    with pytest.raises(Stop):
        trained(tmp_path / "a", Breaking)
    again, continued = trained(tmp_path / "a", DomainBatches)
    whole, method = trained(tmp_path / "b", DomainBatches)
    assert again == whole
    states = continued.state_dict(), method.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert int(method.averaged) > 0


@pytest.mark.parametrize("kind", ["swad", "sma"])
def test_a_start_from_saved_weights_reaches_the_trained_network(tmp_path: Path, kind: str) -> None:
    torch.save(network().state_dict(), tmp_path / "network.pt")
    torch.manual_seed(1)
    inner = Risks(mlp(4, 3, hidden=8, features=8))
    method = SWAD(inner, domain(2), identity) if kind == "swad" else WeightAverage(inner)
    start_from(method, tmp_path / "network.pt")
    for each in (method.network, inner.network):
        torch.testing.assert_close(each.state_dict(), network().state_dict())


def test_what_is_refused() -> None:
    inner, held_out = Risks(network()), domain(2)
    with pytest.raises(TypeError, match="held_out"):
        SWAD(inner, held_out.unlabelled(), identity)
    for name in ("every", "converged", "patience"):
        with pytest.raises(ValueError, match=name):
            SWAD(inner, held_out, identity, **{name: 0})
    with pytest.raises(ValueError, match="tolerance must be a finite number >= 0; got -0.1"):
        SWAD(inner, held_out, identity, tolerance=-0.1)
