"""Rankings from records.

Oracles: the definition of the weighted tau by a double loop, orders with a known tau, record
folders written by hand, and the scripts' own jobs before they train.
"""

from __future__ import annotations

import csv
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from stored_runs import store
from torch import nn

from da.data.digits import read_digits
from da.data.domain import Labelled
from da.data.transforms import identity
from da.model.evidence import logme
from da.model.source_predictions import leep, nce
from da.model.transferability import scores
from da.networks.network import Network
from da.networks.small import mlp
from da.networks.statistics import split_statistics
from da.records import commands
from da.records.grids import piped
from da.records.rankings import points, ranking, report, written
from da.records.reading import read_runs
from da.train.prediction import predict
from problems import ROOT

TARGETS = ("noisy", "photo")
# A row for each target, a column for each of four candidates.
ACCURACIES = np.array([[0.5, 0.6, 0.8, 0.9], [0.7, 0.6, 0.9, 0.65]])
AGAIN = np.array([[0.9, 0.8, 0.6, 0.5], [0.6, 0.7, 0.9, 0.65]])  # with the second seed
VALUES = {
    "logme": np.array([[-2.0, -1.0, 0.5, 3.0], [-1.0, -2.0, 5.0, 0.0]]),
    "leep": np.array([[4.0, 3.0, 2.0, 1.0], [0.1, 0.2, 0.3, 0.4]]),
}


def weighted_tau(x: Sequence[float], y: Sequence[float]) -> float:
    """Vigna 2015: the mean of two taus, for the ranks by (x, y) and for those by (y, x).

    A pair of i and j counts 1 / (1 + rank of i) + 1 / (1 + rank of j).
    """

    def ranked(first: Sequence[float], second: Sequence[float]) -> float:
        order = sorted(range(len(x)), key=lambda i: (first[i], second[i]), reverse=True)
        weight = {sample: 1 / (1 + rank) for rank, sample in enumerate(order)}
        sums = np.zeros(3)
        for i in range(len(x)):
            for j in range(len(x)):
                if i != j:
                    a, b, w = np.sign(x[i] - x[j]), np.sign(y[i] - y[j]), weight[i] + weight[j]
                    sums += [w * a * b, w * a * a, w * b * b]
        return float(sums[0] / np.sqrt(sums[1] * sums[2]))

    return (ranked(x, y) + ranked(y, x)) / 2


def write(
    root: Path,
    candidate: str,
    target: str,
    seed: int,
    accuracy: float,
    facts: dict[str, float | None],
) -> None:
    """Store a run as a folder of its own."""
    names = {"experiment": "toy", "method": candidate, "source": "digits"}
    result: dict[str, Any] = {"selected": {"last": {"step": 9, "target_accuracy": accuracy}}}
    if facts:
        result["facts"] = facts
    store(root, {**names, "target": target, "seed": seed}, {"steps": 9}, result)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Two targets and two seeds. H-scores differ by rounding alone; row scratch has no scores."""
    root = tmp_path / "records"
    for target, first, second, *values in zip(
        TARGETS, ACCURACIES, AGAIN, *VALUES.values(), strict=True
    ):
        for seed, reached in enumerate([first, second]):
            for candidate, accuracy, *own in zip("abcd", reached, *values, strict=True):
                facts = {"h_score": 3 + 1e-12 * accuracy, **dict(zip(VALUES, own, strict=True))}
                write(root, candidate, target, seed, accuracy, facts)
            write(root, "scratch", target, seed, 0.99, {})
    return root


def test_each_tau_is_vignas(records: Path) -> None:
    table = ranking(read_runs(records, experiment="toy"))
    assert table.rows == ("h_score", "logme", "leep")
    assert table.tasks == TARGETS and table.seeds == (0, 1)
    for score, values in VALUES.items():
        for target, own, first, second in zip(TARGETS, values, ACCURACIES, AGAIN, strict=True):
            expected = {0: weighted_tau(own, first), 1: weighted_tau(own, second)}
            assert table.values(score, target) == pytest.approx(expected)
    assert table.values("logme", "noisy") == pytest.approx({0: 1.0, 1: -1.0})
    assert table.values("leep", "noisy") == pytest.approx({0: -1.0, 1: 1.0})


def test_etran_is_the_weighted_sum_of_two_scaled_scores(tmp_path: Path) -> None:
    """Candidate e lacks one of the two; the scores of the second seed are another scale."""
    energies, ldas = (3.0, 1.0, 2.0, 5.0), (0.2, 0.9, 0.5, 0.4)
    for seed, scale in enumerate((1.0, 7.0)):
        for name, energy, lda in zip("abcd", energies, ldas, strict=True):
            facts = {"energy": scale * energy - seed, "lda": lda}
            write(tmp_path, name, "noisy", seed, lda, facts)
        write(tmp_path, "e", "noisy", seed, 0.3, {"lda": 0.95})
    found = [p for p in points(read_runs(tmp_path)) if p.score == "etran"]
    expected = {
        name: 0.15 * (energy - 1) / 4 + 0.85 * (lda - 0.2) / 0.7
        for name, energy, lda in zip("abcd", energies, ldas, strict=True)
    }
    assert len(found) == 8
    for seed in (0, 1):
        own = {p.candidate: p.value for p in found if p.seed == seed}
        assert own == pytest.approx(expected)
    table = ranking(read_runs(tmp_path))
    assert table.rows == ("energy", "lda", "etran")
    order = [expected[name] for name in "abcd"]
    assert table.values("etran", "noisy") == pytest.approx(dict.fromkeys((0, 1), 1.0))
    assert weighted_tau(order, ldas) == pytest.approx(1.0)


def test_etran_of_candidates_that_are_alike_is_nothing(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path, name, "noisy", 0, 0.5, {"energy": 2.0, "lda": 0.5})
    assert [p.value for p in points(read_runs(tmp_path)) if p.score == "etran"] == [0.0, 0.0]


def test_scores_that_differ_by_rounding_rank_nothing(records: Path) -> None:
    table = ranking(read_runs(records, experiment="toy"))
    assert table.values("h_score", "noisy") == {} and table.mean("h_score", "average") is None
    assert written(table).splitlines()[4].split() == ["h_score", "-", "-", "-"]


def test_the_top_counts_more_than_the_bottom(tmp_path: Path) -> None:
    """leep exchanges the two best candidates, nce the two worst."""
    accuracies, leeps, nces = (0.5, 0.6, 0.7, 0.8, 0.9), (1, 2, 3, 5, 4), (2, 1, 3, 4, 5)
    for candidate, accuracy, top, bottom in zip("abcde", accuracies, leeps, nces, strict=True):
        write(tmp_path, candidate, "noisy", 0, accuracy, {"leep": float(top), "nce": float(bottom)})
    table = ranking(read_runs(tmp_path, experiment="toy"))
    assert table.values("leep", "noisy")[0] < table.values("nce", "noisy")[0] < 1


def test_ties_count_as_their_definition_says(tmp_path: Path) -> None:
    values, accuracies = [1.0, 1.0, 2.0, 3.0], [0.5, 0.6, 0.6, 0.4]
    for candidate, value, accuracy in zip("abcd", values, accuracies, strict=True):
        write(tmp_path, candidate, "noisy", 0, accuracy, {"leep": value})
    table = ranking(read_runs(tmp_path, experiment="toy"))
    expected = weighted_tau(values, accuracies)
    assert table.values("leep", "noisy")[0] == pytest.approx(expected)


def test_one_line_for_each_score_of_each_run(records: Path) -> None:
    found = points(read_runs(records, experiment="toy"))
    assert len(found) == 2 * 2 * 4 * 3 and {point.candidate for point in found} == set("abcd")
    wanted = ("leep", "photo", "b", 1)
    (one,) = [p for p in found if (p.score, p.target, p.candidate, p.seed) == wanted]
    assert (one.value, one.accuracy) == (0.2, 0.7)


def test_the_report_of_runs_without_scores_is_empty(tmp_path: Path, records: Path) -> None:
    assert "logme" in report(read_runs(records, experiment="toy"))
    write(tmp_path / "other", "scratch", "noisy", 0, 0.5, {})
    assert report(read_runs(tmp_path / "other", experiment="toy")) == ""
    with pytest.raises(ValueError, match="no run with a transferability score"):
        ranking(read_runs(tmp_path / "other", experiment="toy"))


def test_a_score_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "a", "noisy", 0, 0.5, {"logme": None})
    with pytest.raises(ValueError, match="logme is not finite and cannot be ranked"):
        ranking(read_runs(tmp_path, experiment="toy"))


def test_a_ranking_as_text(records: Path) -> None:
    write(records, "e", "noisy", 0, 0.2, {"h_score": 2.0})
    table = ranking(read_runs(records, experiment="toy"))
    lines = written(table, piped).splitlines()
    assert lines[0].startswith("toy: weighted Kendall tau")
    assert "over 2 seeds. In parentheses the number of seeds" in lines[0]
    one = weighted_tau([3, 3, 3, 3, 2], [*ACCURACIES[0], 0.2])
    assert lines[2] == "| score | noisy | photo | average |"
    assert lines[4] == f"| h_score | {one:.2f} (1) | - | - |"
    photo = [weighted_tau(VALUES["logme"][1], reached[1]) for reached in (ACCURACIES, AGAIN)]
    overall = [(1 + photo[0]) / 2, (-1 + photo[1]) / 2]
    pairs = ([1, -1], photo, overall)
    cells = [f"{np.mean(taus):.2f} ± {np.std(taus, ddof=1):.2f}" for taus in pairs]
    assert lines[5] == f"| logme | {' | '.join(cells)} |"


def test_the_command_prints_the_table(
    records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(records), "--experiment", "toy"]
    commands.rank([*words, "--format", "markdown"])
    table = written(ranking(read_runs(records, experiment="toy")), piped)
    assert capsys.readouterr().out == table + "\n"
    with pytest.raises(SystemExit, match="error: there is no run with a transferability score"):
        commands.run(commands.rank, [str(records), "--experiment", "absent"])


def test_the_figure_shows_means_over_seeds_and_the_mean_tau(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "paper_figures")
    folders = ["--runs-dir", str(records), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["ranking.py", "--experiment", "toy", *folders])
    script = runpy.run_path(str(ROOT / "paper_figures/ranking.py"), run_name="__main__")
    with open(tmp_path / "toy_ranking.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48 and (tmp_path / "toy_ranking.pdf").read_bytes().startswith(b"%PDF")
    found = read_runs(records, experiment="toy")
    panels = script["draw"](ranking(found), points(found), width="double").axes
    assert [axes.get_xlabel() for axes in panels] == ["H-score", "LogME", "LEEP"]
    drawn = panels[1].lines[1].get_xydata()  # LogME, photo
    expected = np.column_stack([VALUES["logme"][1], 50 * (ACCURACIES[1] + AGAIN[1])])
    np.testing.assert_allclose(drawn, expected)
    assert panels[0].get_title(loc="left") == "no ranking: all candidates alike"
    title = f"weighted τ {ranking(found).mean('logme', 'average'):.2f}".replace("-", "−")
    assert panels[1].get_title(loc="left") == title


def test_the_scores_are_those_of_the_networks_output() -> None:
    """The network is in evaluation, on the samples that are passed."""
    torch.manual_seed(0)
    network, domain = mlp(5, 4), Labelled(torch.randn(30, 5), torch.arange(30) % 3)
    found = scores(network, domain, identity)
    features, logits = predict(network, domain, identity)
    assert {"h_score", "regularized_h_score", "logme", "transrate", "leep", "nce"} <= found.keys()
    assert found["logme"] == logme(features, domain.y)
    assert found["nce"] == nce(logits.argmax(1), domain.y)
    assert found["leep"] == pytest.approx(leep(torch.softmax(logits, 1), domain.y), abs=1e-6)
    without = scores(network, domain, identity, classifier=False)
    assert {"h_score", "regularized_h_score", "logme", "transrate"} <= without.keys()
    assert not without.keys() & {"leep", "nce"}  # which are of the classifier


def test_the_scores_are_of_the_sources_statistics() -> None:
    """If a network keeps statistics for each domain, features are normalised by the source's."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(5)
    network = Network(nn.Identity(), nn.Sequential(norm, nn.Tanh()), nn.Linear(5, 4))
    split_statistics(network)
    pair = network.bottleneck[0]
    for which, shift in ((pair.source, 1.0), (pair.target, -2.0)):
        which.running_mean += shift
        which.running_var *= 4 * abs(shift)
    domain = Labelled(torch.randn(30, 5), torch.arange(30) % 3)
    features = torch.tanh((domain.x - 1.0) / (4 + 1e-5) ** 0.5)
    logits = features @ network.head.weight.T + network.head.bias
    found = scores(network, domain, identity)
    assert found["logme"] == pytest.approx(logme(features, domain.y), rel=1e-4)
    assert found["nce"] == nce(logits.argmax(1), domain.y)
    elsewhere = torch.tanh((domain.x + 2.0) / 8**0.5)
    assert abs(found["logme"] - logme(elsewhere, domain.y)) > 1e-3


# The scripts


@pytest.fixture(scope="module")
def sources() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "experiments/rank_sources.py")))


@pytest.fixture(scope="module")
def trained(sources: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A configuration under which a candidate's network takes two steps."""
    runs = tmp_path_factory.mktemp("runs")
    return sources.Config(steps=2, evaluate_every=2, runs_dir=runs, wandb="disabled")


def candidate(sources: SimpleNamespace, config: Any) -> Network:
    """The network that was trained on clean digits."""
    network = sources.lenet(10)
    cell = sources.Cell("source", "clean", "clean", 0)
    sources.load_network(network, config, sources.EXPERIMENT, cell, sources.build)
    return network


def test_no_label_of_a_test_digit_reaches_a_score(
    sources: SimpleNamespace, trained: SimpleNamespace
) -> None:
    """The scores are those of the samples for training, and no such sample judges."""
    job = sources.build(trained, sources.Cell("clean", "digits", "noisy", 0))
    seen, judged = job.stream.domain, job.evaluation.target
    assert len(seen) == 100 and torch.equal(seen.y.bincount(), torch.full((10,), 10))
    pixels = {row.numpy().tobytes() for row in seen.x}
    assert not pixels & {row.numpy().tobytes() for row in judged.x}
    assert len(seen) + len(judged) == 450
    network = candidate(sources, trained)
    assert job.facts == pytest.approx(scores(network, seen, sources.TRANSFORM))
    other = scores(network, Labelled(seen.x, seen.y.roll(1)), sources.TRANSFORM)
    assert other["leep"] != pytest.approx(job.facts["leep"], rel=1e-6)


def test_no_digit_is_in_a_source_and_in_a_target(sources: SimpleNamespace) -> None:
    """All changed conditions show the same digits in one order, so a digit is its row's number."""
    rows = {
        domain: {row.numpy().tobytes(): i for i, row in enumerate(read_digits(domain).x)}
        for domain in ("photo", "noisy")
    }
    own = {rows["photo"][row.numpy().tobytes()] for row in sources.halves("photo")[0].x}
    other = {rows["noisy"][row.numpy().tobytes()] for row in sources.halves("noisy")[1].x}
    assert len(own) == 449 and len(other) == 450 and not own & other


def test_neither_scratch_nor_the_target_itself_is_a_candidate(
    sources: SimpleNamespace, trained: SimpleNamespace
) -> None:
    for name in ("scratch", "noisy"):
        assert not sources.build(trained, sources.Cell(name, "digits", "noisy", 0)).facts


def test_fine_tuning_starts_from_the_candidate_under_a_new_head(
    sources: SimpleNamespace, trained: SimpleNamespace
) -> None:
    job = sources.build(trained, sources.Cell("clean", "digits", "noisy", 0))
    start, own = candidate(sources, trained).state_dict(), job.method.network.state_dict()
    changed = {name for name in start if not torch.equal(start[name], own[name])}
    assert changed == {"head.weight", "head.bias"}


def test_a_run_is_the_same_whether_its_candidate_is_trained_now_or_was_before(
    sources: SimpleNamespace, tmp_path: Path
) -> None:
    config = sources.Config(steps=2, evaluate_every=2, runs_dir=tmp_path, wandb="disabled")
    cell, states = sources.Cell("clean", "digits", "noisy", 0), []
    for _ in range(2):
        torch.manual_seed(0)
        states.append(sources.build(config, cell).method.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.fixture(scope="module")
def models() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "experiments/rank_models.py")))


@pytest.mark.parametrize("name", ["squeezenet_random", "mobilenet_random"])
def test_a_backbone_with_its_classifier_is_torchvisions_network(
    models: SimpleNamespace, name: str
) -> None:
    """Compare pooled features, and the logits of torchvision's own forward pass."""
    torch.manual_seed(0)
    network, whole = models.networks(models.Config(), models.CANDIDATES[name])
    x = torch.randn(2, 3, 97, 97)
    whole.eval(), network.eval()
    features, logits = whole(x)
    torch.testing.assert_close(logits, whole.network(x))
    torch.testing.assert_close(features, network.backbone(x), rtol=1e-5, atol=1e-6)
    assert logits.shape == (2, 1000)


def test_a_backbone_that_was_cut_off_is_the_beginning_of_the_whole(models: SimpleNamespace) -> None:
    config = models.Config(smoke_test=True)
    widths = []
    for backbone in ("squeezenet", "mobilenet"):
        for name in (f"{backbone}_early", f"{backbone}_middle", backbone):
            network, whole = models.networks(config, models.CANDIDATES[name])
            widths.append(network.head.in_features)
            assert (whole is None) == (name != backbone)
            assert network(torch.randn(2, 3, 64, 64)).logits.shape == (2, 10)
    assert widths == [128, 256, 512, 32, 96, 1280]


def test_no_label_of_a_test_photograph_reaches_a_score(models: SimpleNamespace) -> None:
    """A smoke test differs by its photographs alone."""
    torch.manual_seed(0)
    cell = models.Cell("squeezenet_early", "imagenet", "amazon", 0)
    job = models.build(models.Config(smoke_test=True), cell)
    seen, judged = job.stream.domain, job.evaluation.target
    pixels = {row.numpy().tobytes() for row in seen.x}
    assert not pixels & {row.numpy().tobytes() for row in judged.x}
    plain = models.Network(job.method.network.backbone, torch.nn.Identity(), torch.nn.Identity())
    expected = scores(plain, seen, job.evaluation.transform, classifier=False)
    assert job.facts == pytest.approx(expected)
