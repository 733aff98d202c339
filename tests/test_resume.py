"""An interrupted run and other settings.

Oracles: runs that are really interrupted, and what a run that is continued as it was begun ends
with.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from da.data.batches import PairedBatches
from da.data.domain import Labelled
from da.data.transforms import ImageTransform, identity
from da.feature.adversarial import DANN
from da.feature.covariance import coral
from da.feature.mmd import mmd2
from da.feature.teacher import MeanTeacher
from da.model.l2sp import l2_sp
from da.networks.small import mlp
from da.recipes.flags import Flags, configuration, defaults_of
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.method import Method
from da.train.regularize import Regularize
from da.train.saved_network import start_from
from da.train.settings import in_short, settings_of

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(40, 6, generator=GENERATOR), torch.arange(40) % 3
DOMAIN = Labelled(X, Y)
CONFIG = TrainConfig(steps=8, evaluate_every=2, accelerator="cpu", threads=1)
EVALUATION = Evaluation(DOMAIN, identity)


class Stop(Exception):
    pass


class Breaking(PairedBatches):
    """It breaks at step 5, when the checkpoint is of step 4."""

    def batch(self, step: int, rank: int = 0, world_size: int = 1):  # type: ignore[no-untyped-def]
        if step == 5:
            raise Stop
        return super().batch(step, rank, world_size)


def pairs(kind: type[PairedBatches] = PairedBatches, **options: object) -> PairedBatches:
    given = {"batch_size": 8, "seed": 0, "transform": identity} | options
    return kind(DOMAIN, DOMAIN.unlabelled(), **given)  # type: ignore[arg-type]


def method(alignment=mmd2, features: int = 8, **options) -> Align:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    return Align(mlp(6, 3, hidden=8, features=features), alignment, **options)


def start(folder: Path, **options: bool) -> Run:
    """The run of quick_start.md, whose record holds no configuration."""
    names = {"experiment": "mine", "method": "mmd", "source": "a", "target": "b", "seed": 0}
    return Run.start(folder, {}, **names, wandb="disabled", **options)  # type: ignore[arg-type]


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    with pytest.raises(Stop):
        fit(method(), pairs(Breaking), CONFIG, run := start(tmp_path), EVALUATION)
    run.close(failed=True)
    assert (run.directory / "checkpoint.pt").is_file()
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": replace(CONFIG, learning_rate=0.1)}, "learning_rate was 0.01 and is now 0.1"),
        ({"config": replace(CONFIG, optimizer="adamw")}, "optimizer was 'sgd' and is now 'adamw'"),
        ({"config": replace(CONFIG, steps=16)}, "steps was 8 and is now 16; .*steps in all"),
        ({"config": replace(CONFIG, steps=2)}, "has 4 steps done.*steps was 8 and is now 2"),
        ({"config": replace(CONFIG, precision="bf16-mixed")}, "precision was '32-true'"),
        ({"method": method(coral)}, "Align's alignment was mmd2 and is now coral"),
        ({"method": method(partial(mmd2, estimator="linear"))}, r"now mmd2\(estimator='linear'\)"),
        ({"method": method(trade_off=0.5)}, "Align's trade_off was 1.0 and is now 0.5"),
        ({"method": method(label_smoothing=0.1)}, "label_smoothing was 0.0 and is now 0.1"),
        ({"method": DANN(mlp(6, 3, hidden=8, features=8))}, "method was Align and is now DANN"),
        ({"stream": pairs(batch_size=4)}, "batch_size was 8 and is now 4"),
        ({"stream": pairs(seed=1)}, "seed was 0 and is now 1"),
        ({"stream": pairs(transform=lambda x: x)}, "transform was identity"),
        ({"method": method(features=9)}, "network: .* was begun with another one"),
        ({"evaluation": None}, ""),
    ],
)
def test_other_settings_are_not_mixed_into_a_run(
    interrupted: Path, change: dict, message: str
) -> None:
    run = start(interrupted)
    given = {"method": method(), "stream": pairs(), "config": CONFIG, "evaluation": EVALUATION}
    if not message:  # what is measured may change: the network learns the same
        fit(**given | change, run=run)
        return
    before = (run.directory / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=message):
        fit(**given | change, run=run)
    run.close(failed=True)
    assert (run.directory / "metrics.jsonl").read_bytes() == before
    fit(**given, run=start(interrupted))  # it can still be continued as it was begun


def test_settings_that_change_no_result_may_differ(interrupted: Path, tmp_path: Path) -> None:
    other = replace(CONFIG, threads=None, log_every=3, workers=1)
    result = fit(method(), pairs(), other, start(interrupted), EVALUATION)
    whole = fit(method(), pairs(), CONFIG, start(tmp_path / "whole"), EVALUATION)
    assert result == whole


def test_force_begins_again(interrupted: Path) -> None:
    config = replace(CONFIG, learning_rate=0.1)
    result = fit(method(), pairs(), config, start(interrupted, force=True), EVALUATION)
    assert result["selected"]["last"]["step"] == 8


def test_a_checkpoint_of_an_earlier_version_is_continued(interrupted: Path) -> None:
    path = next(interrupted.rglob("checkpoint.pt"))
    state = torch.load(path, weights_only=True)
    del state["settings"]
    torch.save(state, path)
    fit(method(), pairs(), CONFIG, start(interrupted), EVALUATION)


@pytest.mark.parametrize("steps", [8, 4, 20])
def test_a_finished_run_says_after_how_many_steps(tmp_path: Path, steps: int) -> None:
    fit(method(), pairs(), CONFIG, start(tmp_path), EVALUATION)
    asked = replace(CONFIG, steps=steps)
    with pytest.raises(
        RuntimeError, match=f"finished after 8 steps .*; got steps={steps}: .*force"
    ):
        fit(method(), pairs(), asked, start(tmp_path), EVALUATION)


def test_settings_are_the_same_in_every_process() -> None:
    class Drawn:
        def __call__(self, source, target):  # type: ignore[no-untyped-def]
            return mmd2(source, target)

    first, second = (
        settings_of(method(Drawn()), pairs(transform=ImageTransform(4)), CONFIG, EVALUATION)
        for _ in range(2)
    )
    assert first == second and " at 0x" not in str(first)
    assert first["transform"].startswith("ImageTransform(size=4, mean=(0.5,)")
    assert "threads" not in first and "log_every" not in first


def test_functions_are_told_by_name() -> None:
    assert in_short(mmd2) == "mmd2" and in_short(Method.step) == "Method.step"
    assert in_short(partial(mmd2, estimator="linear", bandwidth=None)) == (
        "mmd2(bandwidth=None, estimator='linear')"
    )
    assert in_short(object()) == in_short(object()) == "<object object>"


# ---------------------------------------------------------------- a start from a finished run


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one: torch.nn.Module, other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.state_dict().items())


def test_a_new_run_begins_with_the_network_of_a_finished_one(tmp_path: Path) -> None:
    """Its steps are those of a run whose network was loaded by hand: nothing else goes on."""
    fit(method(), pairs(), CONFIG, first := start(tmp_path / "first"), EVALUATION)
    kept = torch.load(first.directory / "network.pt", weights_only=True)
    for path in (first.directory, first.directory / "network.pt", str(first.directory)):
        config = replace(CONFIG, steps=4, start_from=path)
        assert config.start_from == first.directory / "network.pt"
    torch.manual_seed(1)
    other = Align(mlp(6, 3, hidden=8, features=8), mmd2)
    result = fit(other, pairs(), config, start(tmp_path / "second"), EVALUATION)
    by_hand = method()
    by_hand.network.load_state_dict(kept)
    own = replace(CONFIG, steps=4)
    expected = fit(by_hand, pairs(), own, start(tmp_path / "by_hand"), EVALUATION)
    assert equal(other, state(by_hand)) and result == expected
    assert not equal(other.network, kept)


def test_the_record_says_which_network_a_run_began_with(tmp_path: Path) -> None:
    fit(method(), pairs(), CONFIG, first := start(tmp_path), EVALUATION)
    weights = first.directory / "network.pt"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
    settings = configuration(replace(CONFIG, start_from=first.directory))
    assert settings["start_from"] == f"network.pt sha256:{digest}"
    found = settings_of(method(), pairs(), replace(CONFIG, start_from=first.directory), EVALUATION)
    assert found["start_from"] == digest


def test_an_interrupted_run_goes_on_with_its_own_network(tmp_path: Path) -> None:
    fit(method(), pairs(), CONFIG, first := start(tmp_path / "first"), EVALUATION)
    config = replace(CONFIG, start_from=first.directory)
    whole = fit(method(), pairs(), config, start(tmp_path / "whole"), EVALUATION)
    with pytest.raises(Stop):
        fit(method(), pairs(Breaking), config, run := start(tmp_path / "cut"), EVALUATION)
    run.close(failed=True)
    with pytest.raises(ValueError, match="start_from was .* and is now None"):
        fit(method(), pairs(), CONFIG, run := start(tmp_path / "cut"), EVALUATION)
    run.close(failed=True)
    assert fit(method(), pairs(), config, start(tmp_path / "cut"), EVALUATION) == whole


def test_followers_begin_with_the_network_and_references_stay(tmp_path: Path) -> None:
    fit(method(), pairs(), CONFIG, first := start(tmp_path / "first"), EVALUATION)
    kept = torch.load(first.directory / "network.pt", weights_only=True)
    config = replace(CONFIG, start_from=first.directory)
    taught = MeanTeacher(mlp(6, 3, hidden=8, features=8), view=torch.tanh)
    start_from(taught, config.start_from)
    assert equal(taught.network, kept) and equal(taught.teacher, kept)
    pulled = Regularize(mlp(6, 3, hidden=8, features=8), l2_sp)
    before = state(pulled.source_network)
    start_from(pulled, config.start_from)
    assert equal(pulled.network, kept) and equal(pulled.source_network, before)


def test_a_network_that_is_not_there_or_is_another_is_named(tmp_path: Path) -> None:
    fit(method(), pairs(), CONFIG, first := start(tmp_path / "first"), EVALUATION)
    gone = replace(CONFIG, start_from=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="start_from must be the folder of a finished run, .*nowh"):
        fit(method(), pairs(), gone, start(tmp_path / "second"), EVALUATION)
    wider = replace(CONFIG, start_from=first.directory)
    with pytest.raises(ValueError, match="does not hold the weights of the network"):
        fit(method(features=9), pairs(), wider, start(tmp_path / "second"), EVALUATION)


def test_a_finished_run_says_how_to_go_on_from_it(tmp_path: Path) -> None:
    fit(method(), pairs(), CONFIG, start(tmp_path), EVALUATION)
    with pytest.raises(RuntimeError, match=r"TrainConfig\(start_from=run.directory\)"):
        fit(method(), pairs(), CONFIG, start(tmp_path), EVALUATION)


# ---------------------------------------------------------------- earlier records


def test_records_from_before_these_settings_are_still_finished(tmp_path: Path) -> None:
    names = {"experiment": "mine", "method": "mmd", "source": "a", "target": "b", "seed": 0}
    now = configuration(Flags(steps=8))
    new = ("accumulate", "patience", "stop_by", "start_from")
    assert set(new) <= set(now)
    earlier = {name: value for name, value in now.items() if name not in new}
    run = Run.start(tmp_path, earlier, **names, wandb="disabled")  # type: ignore[arg-type]
    run.finish({"selected": {"last": {"step": 8, "target_accuracy": 0.5}}})
    options = {"defaults": defaults_of(Flags()), "wandb": "disabled"}
    for flags, finished in (
        (Flags(steps=8), True),
        (Flags(steps=8, accumulate=2), False),
        (Flags(steps=8, patience=3), False),
        (Flags(steps=8, start_from=tmp_path), False),
    ):
        again = Run.start(tmp_path, configuration(flags), **names, **options)  # type: ignore[arg-type]
        assert again.finished == finished
