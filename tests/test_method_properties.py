"""What every method promises, whichever it is.

The methods are found by themselves: every class of da/ that can be trained, and every row of
METHODS. A new one is made from its signature. If it needs an argument that no other has, the tests
say so, and `ARGUMENTS` gets a line.

Oracles: the properties themselves (order, repetition, a restart, what stays), NumPy's mean and
variance, and the same step in float32 or without a compiler.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import itertools
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import da.feature
import da.model
import da.train
from da.data.batches import (
    Batch,
    LabelledBatch,
    LabelledBatches,
    PairedBatches,
    TargetBatch,
    TargetBatches,
)
from da.data.domain import Labelled
from da.data.labelled_domains import DomainBatch, DomainBatches
from da.data.multisource import MultiSourceBatch, MultiSourceBatches
from da.data.transforms import identity
from da.feature.across_domains import AcrossDomains
from da.feature.adversarial import DANN
from da.feature.bridges import bridged_discriminator
from da.feature.mmd import mmd2
from da.feature.nuclear_norm import BNM
from da.feature.target import MCC
from da.model.l2sp import l2_sp
from da.networks.adversary import discriminator
from da.networks.encoder_from_texts import new_encoder
from da.networks.network import Network
from da.networks.parts import Frozen
from da.networks.statistics import DomainBatchNorm
from da.networks.text_encoders import tokens as token_tensor
from da.recipes.methods import METHODS
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.engine import launch
from da.train.loop import fit
from da.train.method import Method
from da.train.optimisation import Optimisation, make_optimizer

Terms = dict[str, float]

N, M, WIDTH = 24, 17, 6  # the domains differ in size
GENERATOR = torch.Generator().manual_seed(0)
Y, YT = torch.arange(N) % 3, torch.arange(M) % 3
X = torch.randn(N, WIDTH, generator=GENERATOR) + Y[:, None]
XT = 2 * torch.randn(M, WIDTH, generator=GENERATOR) + YT[:, None] + 1
TARGET = Labelled(XT, YT)
CONFIG = TrainConfig(steps=2, evaluate_every=2, learning_rate=0.02, accelerator="cpu", threads=1)
TASKS = {"shape": 3, "colour": 2}
TEXTS = ["a good book", "a dull long book", "good good film"]


# Networks here are untrained, and SHOT says what that does.
pytestmark = pytest.mark.filterwarnings("ignore:the network predicts unequal classes")


# ---------------------------------------------------------------- how methods are made


def half(x: Tensor) -> Tensor:
    """A view of vectors that draws nothing."""
    return x / 2


# Arguments that a signature asks for -> how they are made.
ARGUMENTS: dict[str, Callable[[], object]] = {
    "alignment": lambda: mmd2,
    "penalty": lambda: l2_sp,
    "weights": lambda: torch.linspace(0.5, 1.5, N),
    "target": TARGET.unlabelled,
    "transform": lambda: identity,
    "tasks": lambda: TASKS,
    "source_network": lambda: small(3),
    "relationship": lambda: torch.tensor([[0.8, 0.1, 0.1], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]]),
    "model": lambda: encoder()[1],
    "domains": lambda: 2,
    "layer": lambda: "backbone.1",
    "sources": lambda: 2,
    "held_out": lambda: Labelled(X, Y),
}
# Options whose defaults are for images, or let no row of an untrained network count.
OPTIONS: dict[str, object] = {
    "weak": half,
    "strong": torch.tanh,
    "view": half,
    "threshold": 0.0,
}


def narrow(width: int) -> nn.Module:
    """A discriminator for rows of this width; the default ones take most of the time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return discriminator(width, hidden=(16, 16))


# By class or by row.
OPTIONS_OF: dict[str, dict[str, object]] = {
    "Delta": {"layers": ["1"]},
    "Tent": {"margin": None},
    "WeightedSources": {"weights": [2.0, 1.0]},
    "CDAN": {"discriminator": narrow(8 * 3)},
    "GVB": {"discriminator": bridged_discriminator(3, hidden=(16, 16))},
    "IWAN": {"discriminator": narrow(8), "weighting_discriminator": narrow(8)},
    "row mcd": {"hidden": (16,)},
    "row mdd": {"hidden": (16,)},
    "EATA": {"margin": None, "similarity": None},
    "SAR": {"margin": None},
    "DeYO": {"filter_margin": None, "drop": -2.0},
    "RoTTA": {"every": 1, "capacity": 6},
    "NOTE": {"every": 1, "capacity": 6},
    "CoTTA": {"views": 2},
    "SWAD": {"every": 1},
} | {name: {"discriminator": narrow(8)} for name in ("ADDA", "BA3US", "BSP", "DANN", "PADA")}
SEVERAL_SOURCES = {"M3SDA", "MFSAN", "WeightedSources"}


def small(outputs: int, norm: Callable[[int], nn.Module] = nn.BatchNorm1d) -> Network:
    """A network for vectors whose first layer normalises the input itself."""
    return Network(
        nn.Sequential(norm(WIDTH), nn.Linear(WIDTH, 8)),
        nn.Sequential(norm(8), nn.ReLU()),
        nn.Linear(8, outputs),
    )


@cache
def encoder() -> tuple:
    """A tokenizer and a small BERT, if the package for texts is there."""
    pytest.importorskip("transformers")
    return new_encoder(TEXTS, layers=1, width=16)


@dataclass(frozen=True)
class Case:
    """A way to make a method, and the class that it is of."""

    name: str
    make: Callable[..., Method]
    kind: type[Method]

    def method(
        self,
        *,
        seed: int = 0,
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
        change: Callable[[Network], Network] = lambda network: network,
        **options: object,
    ) -> Method:
        """The method on a network that `change` has changed, in training mode."""
        torch.manual_seed(seed)
        given = self.options() | options
        arguments: dict[str, object] = {}
        for name, parameter in inspect.signature(self.make).parameters.items():
            if name == "network":
                arguments[name] = change(small(self.outputs(), norm))
            elif name == "method":
                arguments[name] = MCC(change(small(self.outputs(), norm)))
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                arguments[name] = [BNM(arguments["first"].network)]
            elif name == "first":
                arguments[name] = DANN(change(small(self.outputs(), norm)), narrow(8))
            elif name in given:
                arguments[name] = copy.deepcopy(given[name])
            elif parameter.default is inspect.Parameter.empty:
                if name not in ARGUMENTS:
                    pytest.fail(
                        f"{self.kind.__name__} needs {name!r}, which is not known how to make: add "
                        "a line for it to ARGUMENTS in tests/test_method_properties.py"
                    )
                arguments[name] = copy.deepcopy(ARGUMENTS[name]())
        further = arguments.pop("others", [])
        first = [arguments.pop("first")] if further else []
        return self.make(*first, *further, **arguments).train()

    def options(self) -> dict[str, object]:
        own = OPTIONS_OF.get(self.kind.__name__, {}) | OPTIONS_OF.get(self.name, {})
        return OPTIONS | own

    def outputs(self) -> int:
        kinds = {"numbers": 1, "tasks": sum(TASKS.values()), "known classes": 3 + 1}
        return kinds.get(self.kind.label_kind, 3)

    def takes(self, name: str) -> bool:
        return name in inspect.signature(self.make).parameters

    def reads(self) -> type:
        """The batches that its loss reads, which it says: `loss(self, batch: Batch, ...)`."""
        hints = typing.get_type_hints(self.kind.loss)
        if "batch" not in hints:
            pytest.fail(f"{self.kind.__name__}.loss must say the type of its argument batch")
        return hints["batch"]

    def labels(self) -> Tensor:
        """Labels of the source that are right for it."""
        kinds = {"numbers": X[:, 0], "tasks": torch.stack([Y, Y % 2], dim=1)}
        return kinds.get(self.kind.label_kind, Y)


def classes() -> list[type[Method]]:
    """Every method of the package that is not abstract."""
    found = set()
    for module in pkgutil.walk_packages(da.__path__, "da."):
        if not module.name.endswith(("__main__", "fused_kernels")):  # commands; code for GPUs
            members = vars(importlib.import_module(module.name)).values()
            found |= {each for each in members if inspect.isclass(each)}
    methods = [
        each
        for each in found
        if issubclass(each, Method)
        and each.__module__.startswith("da.")
        and not inspect.isabstract(each)
    ]
    return sorted(methods, key=lambda each: each.__name__)


def row_class(make: Callable[..., Method]) -> type[Method]:
    """The class of a row of METHODS: a class, a partial of one, or a function that says."""
    inner = getattr(make, "func", make)
    return inner if inspect.isclass(inner) else typing.get_type_hints(inner)["return"]


CASES = [Case(kind.__name__, kind, kind) for kind in classes()]
CASES += [
    Case(f"row {name}", make, row_class(make))
    for name, make in METHODS.items()
    if not inspect.isclass(make)  # a row that is a class is there already
]


def every(
    test: Callable[[Case], bool] = lambda case: True, but: Mapping[str, str] | None = None
) -> pytest.MarkDecorator:
    """Run a test on every method for which `test` is true, but for some, with the reason."""
    left_out = but or {}
    unknown = left_out.keys() - {case.name for case in CASES}
    assert not unknown, f"no such methods: {unknown}"
    chosen = [case for case in CASES if case.name not in left_out and test(case)]
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.name)


def test_every_method_on_a_face_is_found() -> None:
    named = {
        each
        for face in (da.feature, da.model, da.train)
        for name in face.__all__
        if inspect.isclass(each := getattr(face, name))
        and issubclass(each, Method)
        and not inspect.isabstract(each)
    }
    assert len(named) > 20 and named <= {case.kind for case in CASES}


def test_an_argument_that_is_not_known_is_named() -> None:
    class Strange(Align):
        def __init__(self, network: Network, wavelength: float) -> None:
            super().__init__(network, None)

    with pytest.raises(pytest.fail.Exception, match="Strange needs 'wavelength'.* ARGUMENTS in"):
        Case("Strange", Strange, Strange).method()


# ---------------------------------------------------------------- batches, streams and steps


def token_rows() -> Tensor:
    made = encoder()[0](TEXTS * (N // 3), return_tensors="pt", padding=True)
    return torch.stack([made["input_ids"], made["attention_mask"]], dim=1)  # (N, 2, length)


def source_rows(case: Case) -> Tensor:
    return token_rows() if case.takes("model") else X


def batch_of(case: Case, n: int = 12, m: int = 9) -> Batch | LabelledBatch | TargetBatch:
    """n rows of the source, m of the target, or what the method reads of them."""
    rows, others = (5 * torch.arange(n)) % N, (3 * torch.arange(m)) % M
    if case.reads() is LabelledBatch:
        return DomainBatch(source_rows(case)[rows], case.labels()[rows], rows, domain=rows % 2)
    if case.reads() is TargetBatch:
        return TargetBatch(XT[others], others)
    return MultiSourceBatch(
        X[rows], case.labels()[rows], XT[others], rows, others, source_domain=rows % 2
    )


def stream_of(case: Case, labels: Tensor | None = None, batch_size: int = 8):
    """The stream that `fit` takes for the method."""
    domain = Labelled(source_rows(case), case.labels() if labels is None else labels)
    as_is = token_tensor if case.takes("model") else identity
    options = {"batch_size": batch_size, "seed": 0, "transform": as_is}
    if issubclass(case.kind, AcrossDomains):
        return DomainBatches([domain, domain], **options)
    if case.reads() is LabelledBatch:
        return LabelledBatches(domain, **options)
    if case.reads() is TargetBatch:
        return TargetBatches(TARGET.unlabelled(), **options)
    if case.kind.__name__ in SEVERAL_SOURCES:
        return MultiSourceBatches([domain, domain], TARGET.unlabelled(), **options)
    return PairedBatches(domain, TARGET.unlabelled(), **options)


def shuffled(batch: Batch | LabelledBatch | TargetBatch, seed: int):
    """The same rows in another order, those of source and target each for themselves."""
    generator = torch.Generator().manual_seed(seed)
    fields = vars(batch)
    orders = {
        len(index): torch.randperm(len(index), generator=generator)
        for name, index in fields.items()
        if name.endswith("index")
    }
    return replace(batch, **{name: value[orders[len(value)]] for name, value in fields.items()})


def step(
    method: Method,
    batch: object,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    autocast: torch.dtype | None = None,
) -> Terms:
    """One step of training, move by move as in the loop: "<move> <name>" -> the term's value."""
    optimizer = optimizer or make_optimizer(method, CONFIG)
    moves, found = method.step(batch, 0.5), {}  # type: ignore[arg-type]
    for number in itertools.count():
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            terms = next(moves, None)
        if terms is None:
            return found
        optimizer.zero_grad(set_to_none=True)
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        optimizer.step()
        found |= {f"{number} {name}": term.item() for name, term in terms.items()}


def steps(method: Method, *batches: object) -> list[Terms]:
    """Steps one after the other with one optimiser."""
    optimizer = make_optimizer(method, CONFIG)
    return [step(method, batch, optimizer) for batch in batches]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    names = {"experiment": "e", "method": "m", "source": "s", "target": "t", "seed": 0}
    return Run.start(tmp_path, {}, **names, wandb="disabled")  # type: ignore[arg-type]


@pytest.fixture
def taken() -> Iterator[list[int]]:
    """An entry for each step that any optimiser takes."""
    found: list[int] = []
    handle = register_optimizer_step_pre_hook(lambda *given: found.append(1))
    yield found
    handle.remove()


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def close(found: Terms, expected: Terms, **tolerances: float) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, **tolerances), name


# ---------------------------------------------------------------- labels


def wrong_labels(case: Case) -> dict[str, Tensor]:
    """Labels that no method of its kind can learn."""
    right = case.labels()
    if case.kind.label_kind == "numbers":
        return {"classes": Y, "not finite": right.masked_fill(Y == 1, torch.nan)}
    late = right.clone()
    late[-1] = right.max() + 1
    return {
        "too large": late,
        "negative": late.where(late <= right.max(), -1),
        "floats": right.float(),
    }


def read_labels(case: Case) -> bool:
    """Whether the method reads them: `label_kind` is not "unread", or None for texts alone."""
    return case.kind.label_kind not in ("unread", None)


@every(read_labels)
def test_labels_that_do_not_fit_are_named_before_the_first_step(
    case: Case, run: Run, taken: list[int]
) -> None:
    for wrong in wrong_labels(case).values():
        with pytest.raises((ValueError, TypeError), match="^labels "):
            fit(case.method(), stream_of(case, wrong), CONFIG, run)
        assert not taken


# ---------------------------------------------------------------- sizes


@every()
def test_domains_of_other_sizes(case: Case, run: Run, taken: list[int]) -> None:
    """24 and 17 rows: the epochs of source and target end at different steps."""
    result = fit(case.method(), stream_of(case, batch_size=13), CONFIG, run)
    assert result["selected"]["last"]["step"] == CONFIG.steps <= len(taken)


# Estimators over pairs of rows, JAN's and DAN's of the papers, are no defaults: tests of their own
# say that they need as many rows of the source as of the target.
@every(lambda case: case.reads() is Batch)
@pytest.mark.parametrize(("n", "m"), [(12, 9), (5, 11)])
def test_halves_of_a_batch_of_other_sizes(case: Case, n: int, m: int) -> None:
    for terms in steps(case.method(), batch_of(case, n, m), batch_of(case, n, m)):
        assert np.isfinite(list(terms.values())).all()


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.BatchNorm1d], ids=["rows", "batch"])
@every()
def test_a_batch_of_one_works_or_is_refused_before_anything_moves(
    case: Case, norm: Callable[[int], nn.Module], run: Run, taken: list[int]
) -> None:
    method = case.method(norm=norm)
    before = state(method)
    try:
        fit(method, stream_of(case, batch_size=1), CONFIG, run)
    except ValueError as error:
        assert str(error).startswith("batch_size must be 2 or more for ") and not taken
        after = method.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
    else:
        assert len(taken) >= CONFIG.steps


# ---------------------------------------------------------------- precision and compilation


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@every()
def test_autocast_gives_nearly_the_same_terms(case: Case, dtype: torch.dtype) -> None:
    """bfloat16 has 8 binary digits, 0.4%; a few layers and moves make some per cent of that."""
    expected, method = step(case.method(), batch_of(case)), case.method()
    found = step(method, batch_of(case), autocast=dtype)
    close(found, expected, rel=0.05, abs=0.03)
    assert np.isfinite(list(found.values())).all()
    assert all(torch.isfinite(p).all() for p in method.parameters())


# Rows of METHODS differ from their classes in what comes after the network.
@every(
    lambda case: not case.name.startswith("row"),
    {"MaskedLanguage": "its network is made inside", "Probe": "its network is not run"},
)
def test_a_compiled_network_learns_what_another_does(case: Case) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]):
        graphs.append(graph)
        return graph.forward

    def compiled(network: Network) -> Network:
        return torch.compile(network, backend=backend)  # type: ignore[return-value]

    torch._dynamo.reset()
    methods = case.method(change=compiled), case.method()
    results = []
    for method in methods:
        torch.manual_seed(7)
        results.append(step(method, batch_of(case)))
    assert graphs
    close(*results, rel=1e-5, abs=1e-6)
    for one, other in zip(*(method.parameters() for method in methods), strict=True):
        torch.testing.assert_close(one, other)


# ---------------------------------------------------------------- batch statistics


def running(rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Running mean and variance after one batch, from 0 and 1 with momentum 0.1, by NumPy."""
    values = rows.numpy()
    return 0.1 * values.mean(axis=0), 0.9 + 0.1 * values.var(axis=0, ddof=1)


@every(lambda case: case.takes("batch_statistics"))
@pytest.mark.parametrize("mode", ["domain", "source"])
def test_statistics_of_a_domain_see_its_rows_alone(case: Case, mode: str) -> None:
    """The first layer normalises the input itself, so NumPy knows what it sees."""
    same = {"weak": identity_view, "strong": identity_view, "view": identity_view}
    method, batch = case.method(batch_statistics=mode, **same), batch_of(case)
    assert isinstance(batch, Batch)
    step(method, batch)
    views = 2 if case.takes("weak") and case.takes("strong") else 1  # both are rows of the target
    views = 3 if case.kind.__name__ == "CDAC" else views
    expected = {"source": batch.source_x, "target": batch.target_x.repeat(views, 1)}
    first = method.network.backbone[0]  # type: ignore[index]
    assert isinstance(first, DomainBatchNorm) == (mode == "domain")
    layers = {"source": first} if mode == "source" else dict(first.named_children())
    for name, layer in layers.items():
        mean, variance = running(expected[name])
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer.running_var, variance, rtol=1e-5)


def identity_view(x: Tensor) -> Tensor:
    return x


# ---------------------------------------------------------------- what stays


# What has no gradient and moves all the same: averages that follow the network.
FOLLOWERS = {
    "WeightAverage": ("network.",),
    "SWAD": ("network.", "segment.", "waiting."),
    "MeanTeacher": ("teacher.",),
    "MIC": ("teacher.",),
    "BiTuning": ("key_network.", "key_projection."),
    "CoTTA": ("teacher.",),
    "RoTTA": ("teacher.",),
    "AdaContrast": ("average.",),
}
# Parts that the documentation of a class promises to keep, batch statistics too.
KEPT = {
    "ADDA": ("source_network.", "network.head."),
    "SHOT": ("network.head.",),
    "Tent": ("start.", "network.head.", "network.backbone.1."),
    "Probe": ("network.",),
    "Regularize": ("source_network.",),
    "Delta": ("source_network.",),
    "EATA": ("start.", "network.head.", "network.backbone.1."),
    "SAR": ("start.", "network.head.", "network.backbone.1."),
    "DeYO": ("start.", "network.head.", "network.backbone.1."),
    "RoTTA": ("start.", "network.head.", "network.backbone.1."),
    "NOTE": ("start.", "network.head.", "network.backbone.1."),
    "CoTTA": ("start.",),
}


def with_frozen_layers(network: Network) -> Network:
    """The layers of the backbone learn no more, and statistics stay."""
    for place, layer in enumerate(network.backbone):  # type: ignore[arg-type]
        network.backbone[place] = Frozen(layer)  # type: ignore[operator]
    return network


# These say what learns: every scale and shift; their networks are often frozen altogether.
@every(
    lambda case: case.takes("network"),
    {
        "Tent": "learns all scales and shifts",
        "EATA": "learns all scales and shifts",
        "SAR": "learns all scales and shifts",
        "DeYO": "learns all scales and shifts",
        "RoTTA": "learns all scales and shifts",
        "NOTE": "learns all scales and shifts",
    },
)
def test_what_the_user_has_frozen_stays_bit_by_bit(case: Case) -> None:
    method = case.method(change=with_frozen_layers)
    frozen = {name for name in method.state_dict() if name.startswith("network.backbone.")}
    assert len(frozen) >= 7  # of a batch normalisation and a linear layer
    assert_kept(method, case, frozen)


@every()
def test_what_a_method_keeps_stays_bit_by_bit(case: Case) -> None:
    method = case.method()
    own = KEPT.get(case.kind.__name__, ())
    kept = {name for name in method.state_dict() if name.startswith(own)} if own else set()
    assert len(kept) >= len(own)
    followers = FOLLOWERS.get(case.kind.__name__, ("none",))
    still = {name for name, p in method.named_parameters() if not p.requires_grad}
    assert_kept(method, case, kept | {name for name in still if not name.startswith(followers)})


def assert_kept(method: Method, case: Case, names: set[str]) -> None:
    before = state(method)
    steps(method, batch_of(case), shuffled(batch_of(case), 1))
    after = method.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert not changed & names
    assert changed or case.name == "Probe"


# ---------------------------------------------------------------- order, repetition, restart

# What depends on the order, and is switched off: dropout draws for each place, and the gradient
# penalty of a critic draws points between the first rows of both halves.
ORDERLESS: dict[str, dict[str, object]] = {"WDGRL": {"penalty": 0.0}, "CoWA": {"alpha": 0.0}}


@every(
    but={
        "MaskedLanguage": "the gaps are drawn place by place",
        "AdaMatch": "the mixtures are drawn place by place",
        "DomainMixup": "pairs are drawn place by place",
        "MixStyle": "partners are drawn place by place",
        "RoTTA": "the memory takes one row after another",
        "NOTE": "the memory takes one row after another",
    }
)
def test_the_order_of_the_rows_does_not_matter(case: Case) -> None:
    results = []
    for seed in (1, 2):
        method = case.method(**ORDERLESS.get(case.kind.__name__, {}))
        for module in method.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        batches = [shuffled(batch_of(case), seed), shuffled(batch_of(case, 10, 7), seed)]
        results.append(steps(method, *batches))
    for found, expected in zip(*results, strict=True):
        close(found, expected, rel=1e-4, abs=1e-5)


# What depends on the number of batches: an average that moves once a batch.
BY_BATCH = {
    "PADA": "the shares of classes in the target are averaged batch by batch",
    "BA3US": "the shares of classes in the target are averaged batch by batch",
    "DANCE": "the memory takes each batch",
    "UniOT": "the memory takes each batch",
    "CoWA": "its labels are renewed after as many rows as the target has",
    "AdaMatch": "the shares of classes are averaged batch by batch",
    "ATDOC": "the memory takes each batch",
    "row atdoc": "the memory takes each batch",
    "CentroidATDOC": "the means take each batch",
    "CAN": "the memory takes each batch",
    "GroupDRO": "the weights of domains move batch by batch",
    "Fishr": "the variances are averaged batch by batch",
    "DomainMixup": "mixtures are drawn anew",
    "MixStyle": "mixtures are drawn anew",
    "MLDG": "the domain that is left out is drawn anew",
    "EATA": "the mean prediction is averaged batch by batch",
    "NOTE": "the memory takes one row after another",
}


@every(
    lambda case: not case.kind.followers,
    BY_BATCH
    | {
        "MaskedLanguage": "the gaps are drawn anew",
        "row sliced": "the directions are drawn anew",
    },
)
def test_a_batch_accumulated_with_itself_makes_the_same_step(case: Case) -> None:
    """The mean of two equal gradients is the gradient, move by move."""
    batch, found, methods = batch_of(case), [], []
    for several in (1, 3):
        method = case.method(norm=nn.LayerNorm, **ORDERLESS.get(case.kind.__name__, {}))
        for module in method.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        config = replace(CONFIG, accumulate=several)
        optimisation = Optimisation(method, config, launch(config))
        taken = [optimisation.step([batch] * several, t) for t in range(2)]
        found.append([{name: term.item() for name, term in terms.items()} for terms in taken])
        methods.append(method)
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, rel=1e-3, abs=1e-5)
    for one, other in zip(*(method.parameters() for method in methods), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@every()
def test_a_seed_decides_all(case: Case) -> None:
    batches = batch_of(case), shuffled(batch_of(case), 1)
    assert steps(case.method(seed=3), *batches) == steps(case.method(seed=3), *batches)


@every()
def test_a_state_dict_is_all_that_a_restart_needs(case: Case) -> None:
    first, second = case.method(seed=0), case.method(seed=1)
    steps(first, batch_of(case), shuffled(batch_of(case), 1))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    results = []
    for method in (first, second):
        torch.manual_seed(5)
        results.append(step(method, shuffled(batch_of(case), 2)))
    assert results[0] == results[1]
    after = second.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in first.state_dict().items())


# ---------------------------------------------------------------- gradients


@every(
    but={
        "Probe": "nothing moves",
        "WeightAverage": "its network follows another",
        "SWAD": "its network follows another",
    }
)
def test_gradients_are_finite_and_reach_all_that_learns(case: Case) -> None:
    method = case.method()
    optimizer = make_optimizer(method, CONFIG)
    learning = {id(p) for group in optimizer.param_groups for p in group["params"]}
    reached: set[int] = set()

    def note(parameter: nn.Parameter) -> None:
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all()
        reached.add(id(parameter))

    for parameter in method.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(note)  # type: ignore[arg-type]
    step(method, batch_of(case), optimizer)
    assert learning and learning <= reached
    assert {id(p) for p in method.network.parameters()} & reached
