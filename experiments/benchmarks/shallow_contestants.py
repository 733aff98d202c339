"""What `shallow.py` compares, and how one call is measured.

The contestants are da's shallow methods, and those of skada, adapt and the textbook. All get
float64 arrays. All contestants have the same gamma of a kernel exp(-gamma d): one over the width
for TCA, because skada has no other; half of that for KMM and KLIEP, which is about the median
rule's on these samples. All else is the default of each, but adapt's KMM solves for all rows at
once, as the others do, and not for blocks of a thousand.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
import torch
from mmd_contestants import Size, memory
from scipy.linalg import eigh
from torch import Tensor

from da.data.files import read_surf
from da.data.files.mat_files import standardise
from da.instance import kliep, kmm
from da.shallow import CORAL, JDA, TCA

LANDMARKS = 500
ANY = 10**9  # rows
TILE = 1000


class Problem(NamedTuple):
    """Two samples (n, d) and (m, d), with labels (n,) and (m,) if a method needs them.

    The labels of the target only judge a method.
    """

    name: str
    source: np.ndarray
    target: np.ndarray
    source_labels: np.ndarray | None = None
    target_labels: np.ndarray | None = None


def shifted(size: Size, *, classes: int = 0) -> Problem:
    """Two Gaussian samples that differ in mean and variance.

    With `classes` they have labels, and class k is moved along axis k.
    """
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, *size))
    if not classes:
        return Problem(str(size), x, 1.1 * y + 0.2)
    labels, centres = np.arange(size.n) % classes, 3 * np.eye(classes, size.d)
    return Problem(str(size), x + centres[labels], 1.1 * y + 0.2 + centres[labels], labels, labels)


def surf(root: Path) -> Problem:
    """caltech>amazon of Office-Caltech10 as SURF histograms, 1,123 and 958 rows of 800.

    Raises FileNotFoundError if there are no such files.
    """
    source, target = (read_surf(domain, root) for domain in ("caltech", "amazon"))
    x, y = (np.asarray(standardise(each.x)) for each in (source, target))
    name = f"{len(x)}+{len(y)}x{x.shape[1]}"
    return Problem(name, x, y, np.asarray(source.y), np.asarray(target.y))


def jda_by_the_book(problem: Problem, rounds: int = 10, components: int = 100) -> np.ndarray:
    """The target's pseudo-labels (m,) by JDA as its paper writes it.

    K, M and H are (n + m, n + m), and each round solves a generalised eigenproblem.
    """
    x, y, labels = problem.source, problem.target, problem.source_labels
    assert labels is not None
    n, z = len(x), np.concatenate([x, y])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    k, h, pseudo = z @ z.T, np.eye(len(z)) - 1 / len(z), None
    components = min(components, len(z))
    for _ in range(rounds):
        e = np.concatenate([np.full(n, 1 / n), np.full(len(y), -1 / len(y))])
        m = np.outer(e, e) * (1 if pseudo is None else len(np.unique(labels)))
        for label in np.intersect1d(labels, pseudo) if pseudo is not None else ():
            own, other = labels == label, pseudo == label
            e = np.concatenate([own / own.sum(), -(other / other.sum())])
            m += np.outer(e, e)
        m /= np.linalg.norm(m)
        highest = [len(z) - components, len(z) - 1]
        a = eigh(k @ h @ k, k @ m @ k + np.eye(len(z)), subset_by_index=highest)[1]
        embedded = k @ (a / np.linalg.norm(a, axis=0))  # (n + m, components)
        embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
        pseudo = labels[(embedded[n:] @ embedded[:n].T).argmax(axis=1)]  # rows have norm 1
    assert pseudo is not None
    return pseudo


def _jda(problem: Problem) -> np.ndarray:
    return JDA().fit(problem.source, problem.target, problem.source_labels).pseudo_labels_


def _tca(problem: Problem, n_landmarks: int | None = None) -> TCA:
    model = TCA(kernel="rbf", gamma=1 / problem.source.shape[1], n_landmarks=n_landmarks)
    return model.fit(problem.source, problem.target)


def _kmm(problem: Problem, n_landmarks: int | None = None) -> np.ndarray:
    settings = {"bandwidth": 1 / _half(problem), "n_landmarks": n_landmarks}
    return np.asarray(kmm(problem.source, problem.target, **settings))


def _kliep(problem: Problem) -> np.ndarray:
    return kliep(problem.source, problem.target, bandwidth=1 / _half(problem))


def _kliep_chosen(problem: Problem) -> np.ndarray:
    return kliep(problem.source, problem.target)


def _half(problem: Problem) -> float:
    """gamma of KMM and KLIEP."""
    return 0.5 / problem.source.shape[1]


def _coral(problem: Problem) -> Any:
    return CORAL().fit(problem.source, problem.target).transform(problem.source)


def _skada(name: str, does: str, **options: Any) -> Callable[[Problem], Any]:
    """skada's adapter of this name. It does "fit", "fit_transform" or "weights" of the source."""

    def run(problem: Problem) -> Any:
        import skada

        n, m = len(problem.source), len(problem.target)
        x = np.concatenate([problem.source, problem.target])
        domain = np.repeat([1.0, -1.0], [n, m])
        gamma = {"gamma": _half(problem)} if does == "weights" else {}
        adapter = getattr(skada, f"{name}Adapter")(**gamma, **options)
        if does != "weights":
            return getattr(adapter, does)(x, sample_domain=domain)
        adapter = adapter.fit(x, sample_domain=domain)
        return adapter.compute_weights(x, sample_domain=domain)[:n]

    return run


def _adapt(room: str, name: str, does: str) -> Callable[[Problem], Any]:
    """adapt's class `name` in its module `room`. It does "fit_transform" or "fit_weights"."""

    def run(problem: Problem) -> Any:
        options: dict[str, Any] = {"gamma": _half(problem)} if does == "fit_weights" else {}
        if name == "TCA":
            options = {"gamma": 1 / problem.source.shape[1], "n_components": 100}
        if name == "KMM":
            options["max_size"] = len(problem.source)
        method = getattr(import_module(f"adapt.{room}"), name)(verbose=0, **options)
        return getattr(method, does)(problem.source, problem.target)

    return run


class Contestant(NamedTuple):
    """A way to the result of a method."""

    method: str
    name: str
    run: Callable[[Problem], Any]
    largest: int = ANY  # rows of each sample up to which it is run
    slow: int = 0  # the same in one round with --slow-peers
    package: str = "torch"  # without it the contestant is left out


TCA_OF_SKADA = _skada("TransferComponentAnalysis", "fit")
KMM_OF_SKADA = _skada("KMMReweight", "weights")
KLIEP_OF_SKADA = _skada("KLIEPReweight", "weights", random_state=0)
CORAL_OF_SKADA = _skada("CORAL", "fit_transform")
TCA_OF_ADAPT = _adapt("feature_based", "TCA", "fit_transform")
KMM_OF_ADAPT = _adapt("instance_based", "KMM", "fit_weights")
KLIEP_OF_ADAPT = _adapt("instance_based", "KLIEP", "fit_weights")
CORAL_OF_ADAPT = _adapt("feature_based", "CORAL", "fit_transform")
CONTESTANTS = (
    Contestant("JDA", "da", _jda),
    Contestant("JDA", "by the book", jda_by_the_book, 200, 2000),
    Contestant("TCA", "da", _tca, 3000),
    Contestant("TCA", "da, landmarks", lambda problem: _tca(problem, LANDMARKS)),
    Contestant("TCA", "skada", TCA_OF_SKADA, 1000, 3000, "skada"),
    Contestant("TCA", "adapt", TCA_OF_ADAPT, 200, 1000, "adapt"),
    Contestant("KMM", "da", _kmm, 10_000),
    Contestant("KMM", "da, landmarks", lambda problem: _kmm(problem, LANDMARKS)),
    Contestant("KMM", "skada", KMM_OF_SKADA, 3000, 10_000, "skada"),
    Contestant("KMM", "adapt", KMM_OF_ADAPT, 1000, 3000, "adapt"),
    Contestant("KLIEP", "da", _kliep),
    Contestant("KLIEP", "da, bandwidth chosen", _kliep_chosen),
    Contestant("KLIEP", "skada", KLIEP_OF_SKADA, 3000, 10_000, "skada"),
    Contestant("KLIEP", "adapt", KLIEP_OF_ADAPT, 3000, 10_000, "adapt"),
    Contestant("CORAL", "da", _coral),
    Contestant("CORAL", "skada", CORAL_OF_SKADA, package="skada"),
    Contestant("CORAL", "adapt", CORAL_OF_ADAPT, package="adapt"),
)


def reached(method: str, problem: Problem, result: Any) -> float | None:
    """How good a result is.

    For JDA it is the accuracy on the target, for KMM the squared MMD that is left, for others None.
    """
    if method == "JDA":
        return float((np.asarray(result) == problem.target_labels).mean())
    return squared_mmd(problem, np.asarray(result)) if method == "KMM" else None


def squared_mmd(problem: Problem, weights: np.ndarray) -> float:
    """|| 1/n sum_i w_i phi(x_i) - 1/m sum_j phi(y_j) ||^2 with KMM's kernel, in tiles."""
    n, m = len(problem.source), len(problem.target)
    z = torch.from_numpy(np.concatenate([problem.source, problem.target]))
    u = torch.from_numpy(np.concatenate([weights / n, np.full(m, -1 / m)]))

    def kernel(rows: Tensor) -> Tensor:
        return (-_half(problem) * torch.cdist(rows, z).square()).exp()

    tiles = zip(z.split(TILE), u.split(TILE), strict=True)
    return float(sum(part @ (kernel(rows) @ u) for rows, part in tiles))


class Times(NamedTuple):
    """Seconds of a call, its result and its first warning.

    `process` is the time of the processor in all threads.
    """

    wall: float
    process: float
    result: Any
    warning: str


def timed(contestant: Contestant, problem: Problem) -> Times:
    """Time one call. A warning is kept, because it tells that a solver gave up."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start, used = perf_counter(), process_time()
        result = contestant.run(problem)
        times = perf_counter() - start, process_time() - used
    outdated = (DeprecationWarning, FutureWarning)
    said = [str(each.message) for each in caught if not issubclass(each.category, outdated)]
    return Times(*times, result, " ".join(said[0].split()) if said else "")


class Job(NamedTuple):
    """A contestant at one size, for a process of its own."""

    method: str
    name: str
    size: Size
    threads: int


def peak(job: Job) -> float:
    """The megabytes (10^6 bytes) of resident memory that a call needs beyond its inputs.

    Raises OSError without /proc.
    """
    torch.set_num_threads(job.threads)
    (run,) = (each.run for each in CONTESTANTS if each[:2] == (job.method, job.name))
    problem = shifted(job.size)
    run(shifted(Size(64, job.size.d)))
    before = memory("cpu", reset=True)
    result = run(problem)
    after = memory("cpu")
    del result
    return (after - before) / 1e6


def in_a_process(job: Job) -> dict[str, Any]:
    """`peak` in a fresh process, or a note that says why there is none."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return {"extra_mb": pool.submit(peak, job).result()}
    except (BrokenProcessPool, OSError, MemoryError) as error:
        return {"note": f"no memory: {type(error).__name__}"}
