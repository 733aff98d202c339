"""What `fit` looks at before the first step.

Oracles: arguments that are wrong by construction, a count of the steps that were taken, and runs
with and without the checks that end in the same bits.
"""

from __future__ import annotations

import inspect
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import da.feature
import da.model
from da.data.batches import Batch, LabelledBatches, PairedBatches, TargetBatches
from da.data.domain import Labelled, Unlabelled
from da.data.multisource import MultiSourceBatches
from da.data.transforms import ImageTransform, identity
from da.feature.adversarial import DANN
from da.feature.mmd import mmd2
from da.feature.multisource import M3SDA
from da.feature.openset import OSBP
from da.feature.regression import AlignRegression
from da.model.blockwise import GradualUnfreezing
from da.model.multitask import EqualWeights
from da.model.sourcefree import SHOT
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.records.run import Run
from da.train.align import Align
from da.train.checks import check_fit
from da.train.config import TrainConfig
from da.train.engine import launch
from da.train.evaluation import Evaluation
from da.train.label_checks import check_labels
from da.train.label_free import SCORES
from da.train.loop import fit
from da.train.method import Adapt, Method
from da.train.metrics import accuracy
from da.train.prediction import predict
from da.train.regularize import Regularize
from da.train.reweight import Reweight

GENERATOR = torch.Generator().manual_seed(0)
X, XT = torch.randn(30, 6, generator=GENERATOR), torch.randn(24, 6, generator=GENERATOR)
Y, YT = torch.arange(30) % 3, torch.arange(24) % 3
SOURCE, TARGET = Labelled(X, Y), Labelled(XT, YT)
CONFIG = TrainConfig(steps=4, evaluate_every=2, accelerator="cpu", threads=1)
FABRIC = launch(CONFIG)
JUDGED = Evaluation(TARGET, identity)
REGRESSION = Evaluation(Labelled(XT, XT[:, 0]), identity, task="regression")


def pairs(source: Labelled = SOURCE, target: Unlabelled | None = None, **options) -> PairedBatches:
    given = {"batch_size": 8, "seed": 0, "transform": identity} | options
    return PairedBatches(source, target or TARGET.unlabelled(), **given)


def labelled(domain: Labelled = SOURCE, **options) -> LabelledBatches:
    return LabelledBatches(domain, **{"batch_size": 8, "seed": 0, "transform": identity} | options)


def start(folder: Path, **config: object) -> Run:
    names = {"experiment": "e", "method": "m", "source": "s", "target": "t", "seed": 0}
    return Run.start(folder, config, **names, wandb="disabled")  # type: ignore[arg-type]


def refused(
    method: Method, stream: object, match: str, evaluation: Evaluation | None = JUDGED
) -> None:
    """A ValueError that fits `match`."""
    with pytest.raises(ValueError, match=match):
        check_fit(method, stream, evaluation, FABRIC)


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (Y + 1, "got 3 in .*number the classes from 0 without gaps"),
        (torch.tensor([0, 5, 9])[Y], "got 5, 9 in .*number the classes"),
        (torch.where(torch.arange(30) == 20, -1, Y), "got -1 in .*Unlabelled"),
        (torch.where(torch.arange(30) > 4, -100, Y), "got -100 in .*leave them out"),
        (torch.arange(30), "got 3, 4, 5, 6, 7, ... in .*give the head 30 outputs"),
    ],
)
def test_classes_out_of_the_heads_range(labels: Tensor, got: str) -> None:
    expected = "labels must be 0 to 2, the classes of the head; "
    wrong = Labelled(X, labels)
    refused(Align(mlp(6, 3), mmd2), pairs(wrong), expected + got)
    refused(Regularize(mlp(6, 3), None), labelled(wrong), expected + got)


def takers(kind: str) -> list[type[Adapt]]:
    """The adaptation methods of the package whose labels are of a kind, found by themselves."""
    found: set[type] = set()
    for package in (da.feature, da.model):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            members = vars(__import__(module.name, fromlist=["x"])).values()
            found |= {m for m in members if inspect.isclass(m) and issubclass(m, Method)}
    return sorted(
        (m for m in found if not inspect.isabstract(m) and m.label_kind == kind),
        key=lambda method: method.__name__,
    )


def simple(kind: type[Adapt]) -> Method | None:
    """The method on a small network, if a network is all that it needs."""
    first, *others = inspect.signature(kind).parameters.values()
    needed = [p for p in others if p.default is inspect.Parameter.empty]
    return None if needed or first.name != "network" else kind(mlp(6, 3))


def reads_one_domain(method: Method) -> bool:
    """Whether a method learns from labelled batches alone."""
    try:
        check_fit(method, pairs(), JUDGED, FABRIC)
    except TypeError as error:
        assert "LabelledBatches" in str(error)
        return True
    return False


def test_every_method_of_classes_refuses_labels_out_of_range_and_numbers() -> None:
    made = [method for kind in takers("classes") if (method := simple(kind)) is not None]
    assert len(made) >= 15
    for method in made:
        wrong, floats = Labelled(X, Y + 1), Labelled(X, X[:, 0])
        stream = labelled if reads_one_domain(method) else pairs
        refused(method, stream(wrong), "labels must be 0 to 2, the classes of the head; got 3")
        refused(method, stream(floats), "labels must be classes.*AlignRegression.*Regularize")


def test_every_method_of_the_package_says_what_its_labels_are() -> None:
    unknown = {kind.__name__ for kind in takers(None)}  # type: ignore[arg-type]
    assert unknown <= {"MaskedLanguage"}, "set label_kind in the class"


def test_methods_that_read_no_labels_take_any() -> None:
    shot = SHOT(mlp(6, 3), TARGET.unlabelled(), identity)
    stream = TargetBatches(TARGET.unlabelled(), batch_size=8, seed=0, transform=identity)
    check_fit(shot, stream, JUDGED, FABRIC)


@pytest.mark.parametrize("kind", [torch.int64, torch.float32])
def test_rows_that_are_one_hot_say_argmax(kind: torch.dtype) -> None:
    rows = nn.functional.one_hot(Y).to(kind)
    for method, stream in (
        (Align(mlp(6, 3), mmd2), pairs(Labelled(X, rows))),
        (Regularize(mlp(6, 3), None), labelled(Labelled(X, rows))),
    ):
        refused(method, stream, r"one number for each row, \(30,\); got \(30, 3\).*y.argmax\(1\)")
    hot = Evaluation(Labelled(XT, nn.functional.one_hot(YT)), identity)
    refused(Align(mlp(6, 3), mmd2), pairs(), "in evaluation's target: .*argmax", hot)


def test_numbers_need_one_output_and_must_be_finite() -> None:
    numbers = Labelled(X, X[:, 0])
    check_fit(AlignRegression(mlp(6, 1), mmd2), pairs(numbers), REGRESSION, FABRIC)
    check_fit(Regularize(mlp(6, 1), None), labelled(numbers), REGRESSION, FABRIC)
    regression = AlignRegression(mlp(6, 1), mmd2)
    refused(regression, pairs(), "must be floats for the regression of AlignReg", REGRESSION)
    two = AlignRegression(mlp(6, 2), mmd2)
    refused(two, pairs(numbers), "a head with 1 output; got 2", REGRESSION)
    broken = Labelled(X, X[:, 0].masked_fill(Y == 0, float("nan")))
    refused(regression, pairs(broken), "must be finite; got 10 of 30", REGRESSION)
    refused(regression, pairs(Labelled(X, X[:, :2])), "several numbers a row", REGRESSION)
    refused(regression, pairs(numbers), "Evaluation.*task='regression'",
            Evaluation(Labelled(XT, XT[:, 0]), identity))  # fmt: skip
    constant = Evaluation(Labelled(XT, torch.ones(24)), identity, task="regression")
    refused(regression, pairs(numbers), "must not all be equal", constant)


def test_labels_of_several_tasks() -> None:
    tasks = {"shape": 3, "colour": 2}
    method = EqualWeights(mlp(6, 5), tasks)
    both = Labelled(X, torch.stack([Y, Y % 2], dim=1))
    judged = Evaluation(
        Labelled(XT, torch.stack([YT, YT % 2], dim=1)), identity, task="multitask", tasks=tasks
    )
    check_fit(method, labelled(both), judged, FABRIC)
    refused(method, labelled(), r"whole numbers \(30, 2\), a column for each", judged)
    wrong = Labelled(X, torch.stack([Y, Y], dim=1))
    refused(method, labelled(wrong), "0 to 1.*got 2 in the task 'colour'", judged)
    few = EqualWeights(mlp(6, 4), tasks)
    refused(few, labelled(both), "must have 5 outputs for the tasks .*got 4", judged)


def test_classes_of_the_target_that_the_head_lacks() -> None:
    align = Align(mlp(6, 3), mmd2)
    four = Labelled(XT, torch.arange(24) % 4)
    refused(align, pairs(), "0 to 2.*got 3 in evaluation's target.*4 outputs",
            Evaluation(four, identity))  # fmt: skip
    check_fit(OSBP(mlp(6, 4)), pairs(), Evaluation(four, identity, task="open_set"), FABRIC)
    refused(OSBP(mlp(6, 3)), pairs(), "without the last, unknown; got 2 in source.*4 outputs",
            Evaluation(four, identity, task="open_set"))  # fmt: skip
    held_out = Evaluation(TARGET, identity, validation=Labelled(XT, YT - 1))
    refused(align, pairs(), "got -1 in evaluation's validation samples", held_out)


def test_a_source_label_that_names_the_output_for_unknown() -> None:
    """With any evaluation and without one, because the method says what its head is."""
    for judged in (None, JUDGED):
        refused(OSBP(mlp(6, 3)), pairs(), "without the last, unknown; got 2 in source", judged)


def test_every_source_of_several_is_looked_at() -> None:
    stream = MultiSourceBatches(
        [SOURCE, Labelled(X, Y + 1)], TARGET.unlabelled(), batch_size=4, seed=0, transform=identity
    )
    refused(M3SDA(mlp(6, 3)), stream, r"got 3 in sources\[1\]")


def test_a_task_of_ones_own_is_not_judged_by_the_rules_of_another() -> None:
    class Squared(Align):
        def task(self, outputs, labels):  # type: ignore[no-untyped-def]
            return (outputs.logits.squeeze(1) - labels).square().mean()

    class Declared(Squared):
        label_kind = "numbers"

    numbers = pairs(Labelled(X, X[:, 0]))
    check_fit(Squared(mlp(6, 1), mmd2), numbers, REGRESSION, FABRIC)
    check_fit(Declared(mlp(6, 1), mmd2), numbers, REGRESSION, FABRIC)
    refused(Declared(mlp(6, 1), mmd2), pairs(), "must be floats", REGRESSION)


@pytest.mark.parametrize("outputs", [1, 2, 7])
def test_labels_in_range_pass(outputs: int) -> None:
    check_labels(
        torch.arange(outputs), outputs, "classes", name="source", owner="Align"
    )  # no error


# ---------------------------------------------------------------- samples, sizes and weights

GREY = Labelled(torch.zeros(30, 1, 16, 16, dtype=torch.uint8), Y)
COLOUR = Labelled(torch.zeros(24, 3, 16, 16, dtype=torch.uint8), YT)


def test_grey_against_colour() -> None:
    image = ImageTransform(16)
    stream = pairs(GREY, COLOUR.unlabelled(), transform=image)
    refused(Align(lenet(3), mmd2), stream, r"one shape .*\(1, 16, 16\) and \(3, 16, 16\)")
    apart = Align(lenet(3), mmd2, batch_statistics="domain")
    refused(apart, stream, r"cannot take the samples of target, \(b, 3, 16, 16\)")
    own = pairs(GREY, GREY.unlabelled(), transform=image)
    refused(Align(lenet(3), mmd2), own, "cannot take the samples of evaluation's target",
            Evaluation(COLOUR, image))  # fmt: skip


def test_samples_that_the_network_cannot_take() -> None:
    refused(Align(mlp(7, 3), mmd2), pairs(), r"samples of source, \(b, 6\) torch.float32")
    double = pairs(Labelled(X.double(), Y), Unlabelled(XT.double()), transform=lambda x, _: x)
    refused(Align(mlp(6, 3), mmd2), double, "float64.*networks take float32", None)
    flat = mlp(6, 3)
    flat.forward = flat.backbone.forward  # type: ignore[method-assign]
    refused(Align(flat, mmd2), pairs(), "must return Outputs.*got Tensor")
    deep = Network(nn.Identity(), nn.Identity(), nn.Unflatten(1, (1, 6)))
    refused(Align(deep, mmd2), pairs(), r"got logits \(2, 1, 6\)")


def test_a_method_of_ones_own_may_feed_its_network_what_it_likes() -> None:
    class Doubled(Method[Batch]):
        def loss(self, batch, progress):  # type: ignore[no-untyped-def]
            x = torch.cat([batch.source_x, batch.source_x], dim=1)
            return {"task": nn.functional.cross_entropy(self.network(x).logits, batch.source_y)}

    check_fit(Doubled(mlp(12, 3)), pairs(), None, FABRIC)


@pytest.mark.parametrize("rows", [31, 29])
def test_weights_of_another_length(rows: int) -> None:
    for weights in (torch.ones(rows), np.ones(rows)):
        refused(Reweight(mlp(6, 3), weights), pairs(), f"each of the 30 rows of source.*got {rows}")
    check_fit(Reweight(mlp(6, 3), np.ones(30)), pairs(), JUDGED, FABRIC)


def test_weights_do_not_say_which_of_several_sources_they_are_for() -> None:
    stream = MultiSourceBatches(
        [SOURCE, SOURCE], TARGET.unlabelled(), batch_size=4, seed=0, transform=identity
    )
    refused(Reweight(mlp(6, 3), torch.ones(30)), stream, "source_weights are for one source")


def test_the_target_of_a_method_is_that_of_the_stream() -> None:
    stream = TargetBatches(TARGET.unlabelled(), batch_size=8, seed=0, transform=identity)
    shot = SHOT(mlp(6, 3), SOURCE.unlabelled(), identity)
    refused(shot, stream, "target of SHOT must be the rows of the stream's target, 24; got 30")


def test_a_batch_larger_than_the_data() -> None:
    few = Unlabelled(XT[:7])
    refused(Align(mlp(6, 3), mmd2), pairs(SOURCE, few), "at most the 7 samples of target; got 8")
    check_fit(Align(mlp(6, 3), mmd2), pairs(SOURCE, few, batch_size=7), JUDGED, FABRIC)
    fine_tuned, little = Regularize(mlp(6, 3), None), SOURCE.subset(torch.arange(3))
    refused(fine_tuned, labelled(little), "the 3 samples of domain; got 8.*repeat=True")
    check_fit(fine_tuned, labelled(little, repeat=True), JUDGED, FABRIC)


def test_a_batch_of_one_row_is_tried_on_a_copy() -> None:
    aligned = Align(mlp(6, 3), mmd2)
    refused(aligned, pairs(batch_size=1), "batch_size must be 2 or more for Align .*got 1: source")
    image = labelled(GREY, transform=ImageTransform(16), batch_size=1)
    normalised = GradualUnfreezing(lenet(3)).train()
    before = {name: value.clone() for name, value in normalised.state_dict().items()}
    refused(normalised, image, "batch_size must be 2 or more for GradualUnfreezing", None)
    for name, value in normalised.state_dict().items():
        assert torch.equal(value, before[name]), name
    plain = GradualUnfreezing(mlp(6, 3))
    check_fit(plain, labelled(batch_size=1), JUDGED, FABRIC)  # one row is enough
    assert all(p.requires_grad for method in (normalised, plain) for p in method.parameters())


def test_repeated_samples_come_equally_often() -> None:
    index = labelled(SOURCE.subset(torch.arange(3)), repeat=True).batch(0).index
    assert sorted(index.bincount().tolist()) == [2, 3, 3]


def test_a_trade_off_that_was_made_negative_later() -> None:
    method = DANN(mlp(6, 3))
    method.trade_off *= -1
    refused(method, pairs(), "trade_off must be a finite number >= 0; got -1")


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_weights_of_losses_are_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ValueError, match="trade_off must be a finite number >= 0"):
        DANN(mlp(6, 3), trade_off=value)
    with pytest.raises(ValueError, match="strength must be a finite number >= 0"):
        Regularize(mlp(6, 3), None, strength=value)


# ---------------------------------------------------------------- kinds of arguments


def test_streams_of_another_kind_name_the_right_one() -> None:
    cases = (
        (Regularize(mlp(6, 3), None), pairs(), "x, y, index for Regularize: LabelledBatches"),
        (Align(mlp(6, 3), mmd2), labelled(), "for Align: PairedBatches or MultiSourceBatches"),
        (SHOT(mlp(6, 3), TARGET.unlabelled(), identity), labelled(), "SHOT: TargetBatches"),
    )
    for method, stream, message in cases:
        with pytest.raises(TypeError, match=message):
            check_fit(method, stream, JUDGED, FABRIC)


def test_arguments_of_another_kind_are_named(tmp_path: Path) -> None:
    good = {
        "method": Align(mlp(6, 3), mmd2),
        "stream": pairs(),
        "config": CONFIG,
        "run": start(tmp_path),
        "evaluation": JUDGED,
    }
    wrong = {
        "method": mlp(6, 3),
        "stream": SOURCE,
        "config": {"steps": 4},
        "run": tmp_path,
        "evaluation": TARGET,
    }
    for name, value in wrong.items():
        with pytest.raises(TypeError, match=f"{name} must .*; got {type(value).__name__}"):
            fit(**good | {name: value})  # type: ignore[arg-type]


# ---------------------------------------------------------------- the look itself


def test_no_step_is_taken_before_an_error(tmp_path: Path) -> None:
    steps = []

    class Counted(Align):
        def loss(self, batch, progress):  # type: ignore[no-untyped-def]
            steps.append(progress)
            return super().loss(batch, progress)

    judged = Evaluation(Labelled(XT, torch.arange(24) % 4), identity)
    with pytest.raises(ValueError, match="labels must be 0 to 2"):
        fit(Counted(mlp(6, 3), mmd2), pairs(), CONFIG, start(tmp_path), judged)
    assert not steps and not (tmp_path / "checkpoint.pt").exists()


def test_the_look_changes_nothing() -> None:
    method = Align(lenet(3), mmd2, batch_statistics="domain").train()
    method.network.bottleneck.append(nn.Dropout(0.5))  # type: ignore[operator]
    before = {name: value.clone() for name, value in method.state_dict().items()}
    modes = [module.training for module in method.modules()]
    random = torch.get_rng_state()
    image = ImageTransform(16, augmentation="crop")
    stream = pairs(GREY, GREY.unlabelled(), transform=image)
    check_fit(method, stream, Evaluation(GREY, ImageTransform(16)), FABRIC)
    assert torch.equal(random, torch.get_rng_state())
    assert modes == [module.training for module in method.modules()]
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in method.parameters())


def test_a_compiled_network_is_not_compiled_for_the_look() -> None:
    compiled = []

    def backend(graph, inputs):  # type: ignore[no-untyped-def]
        compiled.append(inputs)
        return graph.forward

    network = mlp(6, 3)
    network.backbone = torch.compile(network.backbone, backend=backend)  # type: ignore[assignment]
    check_fit(Align(network, mmd2), pairs(), JUDGED, FABRIC)
    assert not compiled


# ---------------------------------------------------------------- targets without labels


def test_a_target_without_labels_is_judged_by_scores(tmp_path: Path) -> None:
    judged = Evaluation(TARGET.unlabelled(), identity)
    result = fit(Align(mlp(6, 3), mmd2), pairs(), CONFIG, run := start(tmp_path), judged)
    assert set(result["selected"]) == {"last", *SCORES}
    last = result["selected"]["last"]
    assert last["step"] == 4 and 0 <= last["information_maximisation"] <= np.log(3)
    with np.load(run.directory / "features.npz") as stored:
        assert set(stored.files) == {"target_features"}
    text = (run.directory / "metrics.jsonl").read_text()
    assert text.count("information_maximisation") == 2 and "target_" not in text


def test_a_run_without_an_evaluation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = Align(mlp(6, 3), mmd2)
    result = fit(method, pairs(), CONFIG, run := start(tmp_path / "none"))
    assert result["selected"] == {"last": {"step": 4}}
    assert (run.directory / "network.pt").is_file()
    torch.manual_seed(0)
    judged = Align(mlp(6, 3), mmd2)
    fit(judged, pairs(), CONFIG, start(tmp_path / "judged"), JUDGED)
    for name, value in method.state_dict().items():  # what is measured changes nothing
        assert torch.equal(value, judged.state_dict()[name]), name


def test_scores_of_a_target_without_labels_are_those_that_are_named() -> None:
    def spread(logits: Tensor) -> float:
        return logits.std().item()

    judged = Evaluation(TARGET.unlabelled(), identity, scores={"spread": spread})
    logits = torch.randn(24, 3, generator=GENERATOR)
    assert judged.metrics(logits) == {"spread": spread(logits)}
    assert judged.confusion(logits) == []
    numbers = Evaluation(TARGET.unlabelled(), identity, task="regression", scores=SCORES)
    assert numbers.metrics(logits[:, :1]) == {}


def test_scores_with_a_parameter_features_get_the_targets_features(tmp_path: Path) -> None:
    seen = []

    def rows_of_features(logits: Tensor, features: Tensor) -> float:
        seen.append((logits, features))
        return float(len(features))

    judged = Evaluation(TARGET.unlabelled(), identity, scores={"rows": rows_of_features})
    method = Align(mlp(6, 3), mmd2)
    result = fit(method, pairs(), CONFIG, start(tmp_path), judged)
    assert result["selected"]["rows"]["rows"] == len(TARGET)
    outputs = predict(method.network, TARGET, identity)
    torch.testing.assert_close(seen[-1], (outputs.logits, outputs.features), rtol=0, atol=0)
    with pytest.raises(ValueError, match="^features must be given for the score 'rows'; got None$"):
        judged.metrics(outputs.logits)


def test_validation_samples_are_judged_without_scores() -> None:
    judged = Evaluation(TARGET, identity, validation=TARGET, scores=SCORES)
    logits = torch.randn(len(TARGET), 3, generator=GENERATOR)
    assert judged.validation_score(logits) == accuracy(logits, TARGET.y)
