"""A good call of every public function and class, made of its signature.

The functions are found on the faces, and arguments are made by the names of parameters. `OWN`
holds what a single function needs beside them, and `NOT_CALLED` what is not called, with the
reason.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import Tensor, nn

import da.model
from da.data import Labelled, identity
from da.feature import BNM, DANN, mmd2
from da.instance import discriminator_weights
from da.model import Tent, l2_sp
from da.networks import Network
from da.ops import Mixture
from da.select import AccuracyEstimate, Factor
from da.shallow import DomainAdaptationClassifier

FACES = (
    *("feature", "instance", "model", "kernels", "ops", "shallow", "select", "shift", "data"),
    *("networks", "train", "records", "recipes", "adapt"),
)
N, M, D, C = 24, 18, 4, 3
METHODS_OF_ESTIMATORS = ("fit", "transform", "predict", "predict_proba", "weights", "adjust")


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 0.9, shape)


def shares(*shape: int, seed: int = 0) -> np.ndarray:
    found = draw(*shape, seed=seed)
    return found / found.sum(-1, keepdims=True)


def classes(n: int) -> np.ndarray:
    return np.arange(n) % C


def network(outputs: int = C) -> Network:
    """A network for vectors of width D with C classes; the backbone has two layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.BatchNorm1d(D), nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, 8))
        return Network(backbone, nn.Sequential(nn.Linear(8, 5), nn.ReLU()), nn.Linear(5, outputs))


def vectors(n: int, seed: int) -> Tensor:
    return torch.from_numpy(draw(n, D, seed=seed)).float()


def labelled() -> Labelled:
    return Labelled(vectors(N, 1), torch.from_numpy(classes(N)))


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


ESTIMATE = AccuracyEstimate(0.8, 0.75, 0.85, True, "")

# A parameter's name -> a good value. Floats and integers in arrays become tensors where a tensor
# is asked for.
VALUES: dict[str, Callable[[], Any]] = {
    "source": lambda: draw(N, D, seed=1),
    "target": lambda: draw(M, D, seed=2) + 0.05,
    "x": lambda: draw(N, D, seed=1),
    "y": lambda: draw(M, D, seed=2),
    "z": lambda: draw(N, D, seed=1),
    "rows": lambda: draw(5, D, seed=3),
    "features": lambda: draw(N, D, seed=1),
    "sources": lambda: [draw(N, D, seed=1), draw(N, 2, seed=4)],
    "targets": lambda: [draw(M, D, seed=2), draw(M, 2, seed=5)],
    "labels": lambda: classes(N),
    "source_labels": lambda: classes(N),
    "target_labels": lambda: classes(M),
    "logits": lambda: 4 * draw(N, C, seed=6),
    "source_logits": lambda: 4 * draw(N, C, seed=6),
    "target_logits": lambda: 4 * draw(M, C, seed=7),
    "student_logits": lambda: 4 * draw(N, C, seed=6),
    "teacher_logits": lambda: 4 * draw(N, C, seed=7),
    "student_features": lambda: draw(N, D, seed=1),
    "teacher_features": lambda: draw(N, D, seed=2),
    "probabilities": lambda: shares(N, C, seed=6),
    "source_probabilities": lambda: shares(N, C, seed=6),
    "target_probabilities": lambda: shares(M, C, seed=7),
    "source_predictions": lambda: np.eye(C)[classes(N)] * 0.6 + shares(N, C, seed=6) * 0.4,
    "target_predictions": lambda: shares(M, C, seed=7),
    "weights": lambda: draw(N, seed=8),
    "class_weights": lambda: draw(C, seed=8),
    "source_shares": lambda: shares(C, seed=1),
    "target_shares": lambda: shares(C, seed=2),
    "ratio": lambda: draw(N, seed=9),
    "predictions": lambda: draw(N, seed=1),
    "values": lambda: draw(N, seed=2),
    "matrices": lambda: np.stack([np.cov(draw(9, 3, seed=s).T) for s in range(5)]),
    "p_values": lambda: np.array([0.01, 0.2, 0.03, 0.5]),
    "confusion": lambda: np.array([[5, 1, 0], [1, 4, 1], [0, 2, 6]]),
    "progress": lambda: 0.5,
    "bandwidth": lambda: 0.7,
    "network": lambda: network(),
    "networks": lambda: [network(), network()],
    "source_network": lambda: network(),
    "relationship": lambda: np.eye(C, dtype=np.float32),
    "alignment": lambda: mmd2,
    "penalty": lambda: l2_sp,
    "tasks": lambda: {"shape": 2, "colour": 1},
    "transform": lambda: identity,
    "domain": labelled,
    "batch_size": lambda: 4,
    "seed": lambda: 0,
    "estimator": LogisticRegression,
    "groups": lambda: classes(N),
    "n_iter": lambda: 50,
    "tolerance": lambda: 1e-3,
    "width": lambda: D,
    "steps": lambda: 3,
    "size": lambda: 4,
    "folder": lambda: Path("no folder here"),
    "head": lambda: nn.Linear(5, C),
    "module": lambda: network(),
    "threshold": lambda: 0.5,
    "view": lambda: torch.sin,
    "estimate": lambda: ESTIMATE,
    "earlier_estimates": lambda: [ESTIMATE] * 9,
    "earlier_accuracies": lambda: [0.8] * 9,
    "estimates": lambda: {"a": ESTIMATE, "b": ESTIMATE},
    "scores": lambda: {"a": 0.4, "b": 0.6},
    "source_risks": lambda: {"a": 0.1, "b": 0.2},
    "candidates": lambda: {"a": 4 * draw(N, C), "b": 4 * draw(N, C, seed=1), "c": draw(N, C)},
    "space": lambda: {"trade_off": Factor(0.1, 10.0)},
    "usual": lambda: {"trade_off": 0.5},
    "trials": lambda: 2,
    "inputs": lambda: D,
    "classes": lambda: C,
    "batches": lambda: [vectors(8, 3), vectors(8, 4)],
    "records": list,
    "own": lambda: {0: 0.5, 1: 0.6, 2: 0.7},
    "base": lambda: {0: 0.4, 1: 0.55, 2: 0.6},
    "head_weights": lambda: draw(C, D, seed=1),
    "other_logits": lambda: [4 * draw(M, C, seed=8), 4 * draw(M, C, seed=9)],
    "mixed_logits": lambda: 4 * draw(N, C, seed=3),
    "partners": lambda: np.arange(N)[::-1].copy(),
    "source_losses": lambda: draw(N, seed=4),
    "target_losses": lambda: draw(M, seed=5),
    "X": lambda: draw(N, D, seed=1),
    "sample_domain": lambda: np.where(np.arange(N) < 15, 1, -1),
    "reference": lambda: "a",
    "discrepancy": lambda: mmd2,
    "student_width": lambda: 3,
    "teacher_width": lambda: 5,
    "method": lambda: "none",
    "row": lambda: "mmd",
    "runs_dir": lambda: Path("no runs here"),
    "known": lambda: 2,
    "layers": lambda: 1,
    "generator": lambda: torch.Generator().manual_seed(0),
    "source_weights": lambda: draw(N, seed=8),
    "domains": lambda: 2,
    "layer": lambda: "backbone.1",
    "partner": lambda: np.arange(N)[::-1].copy(),
    "share": lambda: draw(N, seed=3),
    "risks": lambda: draw(4, seed=3),
    "view_logits": lambda: 4 * draw(N, C, seed=8),
    "open_logits": lambda: 4 * draw(N, 2, C, seed=8),
    "answers": lambda: [draw(N, 2, seed=1), draw(N, 2, seed=2)],
    "truth": lambda: draw(N, 2, seed=3),
    "optimizer": lambda: optimizer(),
    "few": lambda: labelled(),
    "memory": lambda: draw(M, D, seed=2),
    "bank": lambda: draw(M, D, seed=2),
    "index": lambda: np.arange(N) % M,
}
# What makes a call quick, in place of the default.
QUICK: dict[str, Any] = {
    "permutations": 20, "draws": 20, "bootstraps": 20, "n_estimators": 2, "n_steps": 2, "folds": 2,
    "n_splits": 2, "n_iter": 20, "least_effective_size": 5, "projections": 8, "iterations": 20,
    "tolerance": 1e-2, "n_centres": 10, "scales": (0.5, 1.0),
}  # fmt: skip
SAMPLE_OF_DOMAINS = {"domain": lambda: np.array(["a", "b"] * (N // 2))}
SAMPLE_OF_SOME = {"domain": lambda: np.array(["a", "b", "a", "b"])}
INSTRUMENT = SAMPLE_OF_DOMAINS | {"sample": lambda: np.repeat(np.arange(N // 2), 2)}
NETWORK_ROWS = {"x": lambda: draw(N, D, seed=1).astype(np.float32)}
UNLABELLED = {"target": lambda: labelled().unlabelled()}
TASKS = {"tasks": lambda: {"shape": 2, "colour": 2}, "network": lambda: network(4)}
MATRICES = {"x": lambda: np.stack([np.cov(draw(9, 3, seed=s).T) for s in range(4)])}
BANK = {"bank": lambda: da.model.FeatureBank(
    torch.from_numpy(draw(N, D)).float(), torch.from_numpy(shares(N, C)).float()
)}  # fmt: skip
# Classes that can be learned, so that a round of boosting is better than chance.
LEARNABLE = {
    "X": lambda: draw(N, D, seed=1) + classes(N)[:, None],
    "y": lambda: classes(N),
    "sample_domain": lambda: np.where(np.arange(N) < 15, 1, -1),
}
ALONE = {"X": lambda: draw(N, D, seed=1), "y": lambda: classes(N),
         "sample_domain": lambda: np.where(np.arange(N) < 15, 1, -1)}  # fmt: skip
OWN: dict[str, dict[str, Callable[[], Any]]] = {
    "feature.moment_distance": {"sources": lambda: [draw(N, D, seed=1), draw(N, D, seed=3)]},
    "feature.rsd": {"source": lambda: draw(3, D, seed=1), "target": lambda: draw(3, D, seed=2)},
    "feature.domain_confusion_loss": {
        "source_logits": lambda: draw(N, seed=6), "target_logits": lambda: draw(M, seed=7),
    },
    "feature.SDAT": {"method": lambda: DANN(network())},
    "feature.pairwise_clustering_loss": {"top": lambda: 2},
    "instance.TrAdaBoostClassifier": {"n_estimators": lambda: 10},
    "feature.DANCE": UNLABELLED,
    "feature.MFSAN": {"sources": lambda: 2},
    "feature.OneVsAll": {"features": lambda: 5},
    "feature.PrototypeHead": {"features": lambda: 5},
    "feature.TransportHead": {"features": lambda: 5},
    "feature.BridgedHead": {"head": lambda: nn.Linear(5, C)},
    "networks.cosine_head": {"features": lambda: 5},
    "train.WeightAverage": {"method": lambda: DANN(network())},
    "train.SWAD": {"method": lambda: DANN(network()), "held_out": labelled},
    "shallow.similarity_weights": {"sources": lambda: [draw(N, D, seed=1), draw(N, D, seed=3)]},
    "data.DomainBatches": {"sources": lambda: [labelled(), labelled()]},
    "model.target_outputs": {"target": lambda: labelled().unlabelled()},
    **{f"instance.{name}.fit": ALONE
       for name in ("TrAdaBoostR2Regressor", "TwoStageTrAdaBoostR2Regressor")},
    **{f"instance.TrAdaBoostClassifier.{name}": LEARNABLE
       for name in ("fit", "predict", "predict_proba")},
    "train.Sum": {"first": lambda: DANN(network()), "second": lambda: BNM(network())},
    "instance.balanced_weights": {
        "within": lambda: np.exp(-np.square(np.subtract.outer(np.arange(N), np.arange(N)) / 9.0)),
        "across": lambda: draw(N, seed=3),
    },
    "instance.Calibration": {"temperature": lambda: 1.0, "bias": lambda: np.zeros(C)},
    "instance.select_by_likeness": {"fraction": lambda: 0.5, "threshold": lambda: None,
                                    "weights": lambda: discriminator_weights},
    "model.prior_correction": {"features": lambda: draw(N, D)},
    **dict.fromkeys(("model.EqualWeights", "model.MultiTask", "model.PCGrad",
                     "model.UncertaintyWeights"), TASKS),
    "model.linear_fit_score": {"targets": lambda: draw(N)},
    "model.nce": {"source_labels": lambda: (np.arange(N) // 2) % C},
    "model.t3a": {"weight": lambda: draw(C, D), "bias": lambda: draw(C)},
    "model.fit_head": {"features": lambda: draw(N, 5).astype(np.float32)},
    **dict.fromkeys(("model.neighbour_agreement", "model.neighbour_log_agreement",
                     "model.reciprocal_agreement"), BANK),
    **dict.fromkeys(("model.SHOT", "model.AaD", "model.CoWA", "model.NRC",
                     "model.NeighbourhoodClustering"), UNLABELLED),
    "model.AdaContrast": UNLABELLED | {"weak": lambda: torch.sin, "strong": lambda: torch.sin},
    "model.neighbour_vote": BANK | {"features": lambda: draw(N, D).astype(np.float32)},
    "model.online": {"method": lambda: Tent(network(), margin=None), "optimizer": optimizer},
    "model.guarded": {
        "method": lambda: Tent(network(), margin=None), "optimizer": optimizer,
        "alarm": lambda: da.model.ConcentrationAlarm(C),
    },
    "model.DeYO": {"view": lambda: torch.sin},
    "model.Delta": {"layers": lambda: ["1"]},
    "model.delta": NETWORK_ROWS | {"layers": lambda: ["1"]},
    "model.bss": NETWORK_ROWS,
    "model.tune_only": {"layers": lambda: ["head"]},
    "model.greedy_soup": {"score": lambda: lambda network: 0.5},
    "model.l2_sp": NETWORK_ROWS,
    "model.lwf": NETWORK_ROWS,
    "model.channel_attention": NETWORK_ROWS | {"layers": lambda: ["1"]},
    "ops.Mixture": {"name": lambda: "gaussian", "scales": lambda: (1.0, 2.0)},
    "ops.kernel_discrepancy": {
        "x": lambda: [draw(N, D)], "y": lambda: [draw(M, D)], "u": lambda: None, "v": lambda: None,
        "mixtures": lambda: [Mixture("gaussian", (1.0,))],
    },
    "select.generalised_disagreement": {
        "target_logits": lambda: [4 * draw(M, C, seed=8), 4 * draw(M, C, seed=9)],
    },
    "select.regression_agreement": {
        "candidates": lambda: {"a": draw(N, 1), "b": draw(N, 1, seed=1), "c": draw(N, 1, seed=2)},
    },
    "select.label_free_scores": {"features": lambda: draw(N, D)},
    "select.AccuracyEstimate": {"accuracy": lambda: 0.8, "low": lambda: 0.7, "high": lambda: 0.9,
                                "reliable": lambda: True, "reason": lambda: ""},
    "select.Factor": {"low": lambda: 0.1, "high": lambda: 2.0},
    "shift.block_sums": {"block_rows": lambda: 3},
    "shift.moved_categories": {
        "source": lambda: np.array([["a", "b"], ["c", "d"]] * 9),
        "target": lambda: np.array([["a", "b"], ["a", "d"]] * 8),
    },
    "shift.moved_gaps": {"source": lambda: draw(N, 2) < 0.5, "target": lambda: draw(M, 2) < 0.3},
    "shift.block_mmd_test": {"source": lambda: draw(40, D), "target": lambda: draw(40, D, seed=1),
                             "blocks": lambda: 8},
    "data.Labelled": {"x": lambda: draw(N, D).astype(np.float32), "y": lambda: classes(N)},
    "data.Unlabelled": {"x": lambda: draw(N, D).astype(np.float32)},
    "data.MultiSourceBatches": {"sources": lambda: [labelled(), labelled()],
                                "target": lambda: labelled().unlabelled()},
    "data.FewLabelsBatches": {"source": labelled, "few": labelled,
                              "target": lambda: labelled().unlabelled()},
    "data.PairedBatches": {"source": labelled, "target": lambda: labelled().unlabelled()},
    "data.TargetBatches": {"target": lambda: labelled().unlabelled()},
    "data.NamedStream": {"name": lambda: "shuffled-4", "domains": lambda: [labelled(), labelled()]},
    "data.read_digits": {"domain": lambda: "clean"},
    "networks.Network": {"backbone": nn.Identity, "bottleneck": nn.Identity, "head": nn.Identity},
    "networks.DomainBatchNorm": {"norm": lambda: nn.BatchNorm1d(D)},
    "networks.MultilinearMap": {"features": lambda: 5},
    "networks.InputSettings": {"mean": lambda: (0.5,), "std": lambda: (0.5,)},
    "networks.backbone": {"name": lambda: "resnet18", "pretrained": lambda: False},
    "networks.bottleneck": {"features": lambda: 5},
    "networks.input_settings": {"name": lambda: "resnet18"},
    "networks.use_statistics": {"domain": lambda: "target"},
    "train.Reweight": {"weights": lambda: draw(N, seed=8)},
    "train.Evaluation": {"target": lambda: labelled().unlabelled()},
    "train.mean_absolute_error": {"labels": lambda: draw(N)},
    "train.mean_squared_error": {"labels": lambda: draw(N)},
    "train.r_squared": {"labels": lambda: draw(N)},
    "train.open_set_metrics": {"labels": lambda: classes(N)},
    "train.universal_h_score": {"labels": lambda: classes(N)},
    "train.predict": {"x": lambda: labelled().unlabelled()},
    "shallow.DIPLS.fit": {"source_labels": lambda: draw(N)},
    "shallow.DomainAdaptationRegressor": {"estimator": LinearRegression},
    "shallow.DomainAdaptationRegressor.fit": {"y": lambda: draw(N)},
    "shallow.DomainAdaptationClassifier.fit": ALONE,
    "recipes.DeepAdaptationClassifier": {"steps": lambda: 2, "hidden": lambda: 8},
    "recipes.DeepAdaptationClassifier.fit": ALONE,
    "recipes.ShallowFlags": {"loss": lambda: ("none",)},
    "shallow.RecentreCovariances.fit": MATRICES | SAMPLE_OF_SOME,
    "shallow.RecentreCovariances.transform": MATRICES | SAMPLE_OF_SOME,
    "data.data_root": {"flag": lambda: Path(".")},
    "data.Benchmark": {
        "name": lambda: "own", "title": lambda: "Own", "citation": lambda: "",
        "domains": lambda: {"a": None, "b": None}, "classes": lambda: ("x", "y"),
        "tasks": lambda: (("a", "b"),),
    },
    "recipes.configuration": {"flags": lambda: importlib.import_module("da.train").TrainConfig()},
    "recipes.split": {"first": lambda: 5},
    "adapt.DriftOptions": {"permutations": lambda: 100},
    "select.reverse_validation": {
        "estimator": lambda: DomainAdaptationClassifier(),
        "source_labels": lambda: classes(N), "target": lambda: draw(M, D, seed=2),
    },
    "adapt.Place": {"source": lambda: "a", "target": lambda: "b"},
} | {
    f"shallow.{name}.{call}": own
    for name, own in {
        "ComBat": SAMPLE_OF_DOMAINS, "RecentreDomains": SAMPLE_OF_DOMAINS,
        "ExternalParameterOrthogonalisation": INSTRUMENT, "DirectStandardisation": INSTRUMENT,
        "PiecewiseDirectStandardisation": INSTRUMENT, "SpectralSpaceTransformation": INSTRUMENT,
    }.items()
    for call in ("fit", "transform")
}  # fmt: skip
RESULT = "is what a function returns; its fields are not read from a user"
SCRIPT = "is the body of a script; its flags are tried in tests/test_script_flags.py"
FILES = "reads or writes files; what can be wrong with those is tried elsewhere"
TRAINED = "takes what other functions have made and checked"

# Face and name -> why it is not called.
NOT_CALLED: dict[str, str] = {
    **dict.fromkeys(
        (
            *("instance.DensityRatioCheck", "instance.LabelShiftCheck", "instance.Selection"),
            *("select.Candidate", "select.PredictionIntervals", "select.PredictionSets"),
            *("shift.BlockSums", "shift.MMDTest", "records.Difference", "records.Record"),
            *("records.Table", "recipes.Job", "recipes.Parts", "recipes.Samples"),
            *("recipes.ShallowJob", "adapt.Adapted", "adapt.Drift", "adapt.Predictions"),
            *("adapt.Prepared", "adapt.SavedModel", "adapt.Side", "adapt.Watched"),
            *("data.FewLabelsBatch", "data.StreamBatch", "data.DomainBatch"),
            *("data.Batch", "data.LabelledBatch", "data.MultiSourceBatch", "data.TargetBatch"),
            "data.StreamBatch",
            "data.FewLabelsBatch",
        ),
        RESULT,
    ),
    **dict.fromkeys(
        (
            *("recipes.main", "recipes.shallow_main", "recipes.head_job", "recipes.image_job"),
            *("recipes.labelled_job", "recipes.load_network", "recipes.paired_job"),
            *("recipes.photograph_job", "recipes.row_method", "recipes.frozen_features"),
        ),
        SCRIPT,
    ),
    **dict.fromkeys(
        (
            *("data.check_domain", "data.download", "data.read_domain", "data.read_class_folders"),
            *("data.folder_benchmark", "networks.describe_weights", "networks.load_weights"),
            *("networks.save_encoder", "networks.source_classifier", "networks.text_network"),
            *(
                "networks.tokenise",
                "networks.new_encoder",
                "networks.lora",
                "records.pack",
                "records.unpack",
                "records.read_runs",
                "records.ranking",
            ),
            *("adapt.load_model", "adapt.load_pipeline", "adapt.read_side", "adapt.read_sides"),
            "adapt.export_model",
        ),
        FILES,
    ),
    **dict.fromkeys(
        (
            *("train.fit", "train.fit_stacked", "train.launch", "records.Run"),
            *("adapt.adapt_prepared", "adapt.as_pipeline", "adapt.drift_report", "adapt.prepare"),
            *(
                "adapt.watch",
                "model.MaskedLanguage",
                "model.guarded",
                "data.NamedStream",
                "model.stage_convolutions",
            ),
        ),
        TRAINED,
    ),
}


@dataclass(frozen=True)
class Call:
    """One public callable, and good arguments for it."""

    name: str
    run: Callable[..., Any]
    good: dict[str, Callable[[], Any]]
    hints: dict[str, Any]
    constructs: bool = False


def public() -> Iterator[tuple[str, Any]]:
    """Every name on a face that can be called, in order, each object once."""
    seen = set()
    for face in FACES:
        module = importlib.import_module(f"da.{face}")
        for name in module.__all__:
            found = getattr(module, name)
            if (inspect.isclass(found) or inspect.isroutine(found)) and id(found) not in seen:
                seen.add(id(found))
                yield f"{face}.{name}", found


def needs_no_call(found: Any) -> bool:
    """Whether it is an exception, a record without code of its own, or nothing but abstract."""
    if not inspect.isclass(found):
        return False
    record = issubclass(found, tuple) and hasattr(found, "_fields")
    return issubclass(found, BaseException) or record or inspect.isabstract(found)


def hints_of(function: Any) -> dict[str, Any]:
    """The annotations as types; one that cannot be read here may be anything."""
    function = inspect.unwrap(function)
    names = {**vars(typing), **getattr(function, "__globals__", {})}
    found = {}
    for name, hint in inspect.get_annotations(function).items():
        try:
            found[name] = eval(hint, names) if isinstance(hint, str) else hint
        except (NameError, TypeError):
            found[name] = Any
    return found


def arguments(name: str, function: Any, *, bound: bool = False) -> dict[str, Callable[[], Any]]:
    """Makers of good values by parameter; a KeyError names a parameter without one."""
    own, made = OWN.get(name, {}), {}
    for each in list(inspect.signature(function).parameters.values())[bound:]:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            continue
        if each.name in own:
            made[each.name] = own[each.name]
        elif each.name in QUICK:
            made[each.name] = partial(_default, QUICK[each.name])
        elif each.default is not each.empty and each.name not in ALWAYS:
            made[each.name] = partial(_default, each.default)
        else:
            made[each.name] = VALUES[each.name]
    return made


def lacking(name: str, function: Any) -> str:
    """The first parameter for which no good value is known; "" if all are known."""
    try:
        arguments(name, function)
    except KeyError as error:
        return str(error)
    return ""


def _default(value: Any) -> Any:
    return value


ALWAYS = {"source_labels"}  # given even where it may be left out


def calls() -> Iterator[Call]:
    """All calls: functions, constructors, and what an estimator does once it is constructed."""
    for name, found in public():
        if needs_no_call(found) or name in NOT_CALLED or lacking(name, found):
            continue
        if not inspect.isclass(found):
            yield Call(name, found, arguments(name, found), hints_of(found))
            continue
        good = arguments(name, found)
        if not hasattr(found, "fit"):
            yield Call(name, found, good, _hints_of_class(found), constructs=True)
            continue
        yield Call(name, partial(_construct_and_fit, name, found, good), good,
                   _hints_of_class(found))  # fmt: skip
        yield from _calls_of_estimator(name, found, good)


def _hints_of_class(found: type) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for base in reversed(found.__mro__):
        try:
            hints |= inspect.get_annotations(base, eval_str=True)
        except (NameError, TypeError):
            continue
    return hints | hints_of(found.__init__)


def _make(good: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    return {key: maker() for key, maker in good.items()}


def _construct_and_fit(
    name: str, found: type, good: dict[str, Callable[[], Any]], **given: Any
) -> Any:
    """An estimator checks its parameters in `fit`, as scikit-learn's do."""
    fitted = found(**given)
    fitted.fit(**_make(arguments(f"{name}.fit", found.fit, bound=True)))
    return fitted


def _calls_of_estimator(name: str, found: type, good: dict[str, Callable]) -> Iterator[Call]:
    for method in METHODS_OF_ESTIMATORS:
        function = getattr(found, method, None)
        if function is None:
            continue
        own = arguments(f"{name}.{method}", function, bound=True)

        def run(method: str = method, **given: Any) -> Any:
            made = found(**_make(good))
            if method != "fit":
                made.fit(**_make(arguments(f"{name}.fit", found.fit, bound=True)))
            result = getattr(made, method)(**given)
            return None if method == "fit" else result

        yield Call(f"{name}.{method}", run, own, hints_of(function))
