"""The Triton back-end.

Oracles: float64 double loops, the dense float64 formula in NumPy, and what the compiler reports.

Without a GPU the kernels run in Triton's interpreter. Triton reads once, at import, whether it
interprets. So it is imported afresh for these tests, and whatever other tests have of it is put
back afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from da.ops import fused, fused_tiles

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)

POWERS = (0.25, 0.5, 1.0, 2.0, 4.0)
IRREGULAR = (0.3, 1.0, 1.7)
KERNELS = "da.ops.fused_kernels"
FEW_BYTES = 16  # of a thread that may be spilled; compilers differ in a register or two


@contextlib.contextmanager
def fresh_kernels(*, interpret: bool) -> Iterator[ModuleType]:
    """The kernel module and Triton imported anew, interpreted or compiled.

    On leaving, the modules and the variable are as they were.
    """

    def stale() -> dict[str, ModuleType]:
        return {
            k: v
            for k, v in sys.modules.items()
            if k == KERNELS or (k.split(".")[0] == "triton" and not k.startswith("triton._C"))
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1") if interpret else patch.delenv(
            "TRITON_INTERPRET", raising=False
        )
        before = stale()
        for name in before:
            del sys.modules[name]
        try:
            yield importlib.import_module(KERNELS)
        finally:
            for name in stale():
                del sys.modules[name]
            sys.modules.update(before)


@pytest.fixture(scope="module")
def device() -> Iterator[str]:
    if torch.cuda.is_available() and fused.available("cuda"):
        yield "cuda"
        return
    with fresh_kernels(interpret=True):
        yield "cpu"


@pytest.fixture
def precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def problem(
    n: int, m: int, d: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows with mean squared distances about 1, weights of both signs; float32 held in float64."""
    random = np.random.default_rng(seed)
    x, y = (random.normal(size=(size, d)) / math.sqrt(2 * d) for size in (n, m))
    u, v = (random.uniform(-0.5, 1.0, size) / size for size in (n, m))
    return tuple(a.astype(np.float32).astype(np.float64) for a in (x, y, u, v))


def dense(x, y, u, v, scales) -> tuple[float, np.ndarray, np.ndarray]:
    """Value and both gradients from all differences, float64."""
    difference = x[:, None, :] - y[None, :, :]  # (n, m, d)
    d = (difference**2).sum(axis=2)
    kernel = sum(np.exp(-d / s) for s in scales)
    slope = sum(-np.exp(-d / s) / s for s in scales)
    pull = 2 * (u[:, None] * v * slope)[:, :, None] * difference
    return float(u @ kernel @ v), pull.sum(axis=1), -pull.sum(axis=0)


def double_loop(x, y, u, v, scales) -> tuple[float, np.ndarray, np.ndarray]:
    """The definition, term by term."""
    value, first, second = 0.0, np.zeros_like(x), np.zeros_like(y)
    for i in range(len(x)):
        for j in range(len(y)):
            for s in scales:
                term = u[i] * v[j] * math.exp(-sum((x[i] - y[j]) ** 2) / s)
                value += term
                first[i] -= term * 2 * (x[i] - y[j]) / s
                second[j] += term * 2 * (x[i] - y[j]) / s
    return value, first, second


def run(device, x, y, u, v, scales, *, symmetric=False, gradient=True):
    x, y, u, v = (torch.tensor(a, dtype=torch.float32, device=device) for a in (x, y, u, v))
    if symmetric:
        y, v = x, u
    value, first, second = fused.fused_block(
        x, y, scales, u, v, symmetric=symmetric, gradient=gradient
    )
    assert value.dtype == torch.float64 and value.shape == () and value.device == x.device
    return float(value), *(None if g is None else g.double().cpu().numpy() for g in (first, second))


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> bool:
    assert found.shape == expected.shape
    return bool(np.abs(found - expected).max() <= tolerance * np.abs(expected).max())


def size_of(u: np.ndarray, v: np.ndarray, scales) -> float:
    """What the value's terms can sum to: the scale of its rounding errors, whatever cancels."""
    return float(np.abs(u).sum() * np.abs(v).sum() * len(scales))


SHAPES = [
    (1, 1, 1),
    (1, 17, 5),
    (17, 1, 64),
    (70, 17, 5),
    (17, 70, 200),
    (70, 280, 64),
    (130, 70, 256),
    (70, 17, 300),
    (1, 150, 257),
]  # n, m, d


@pytest.mark.parametrize("n, m, d", SHAPES)
def test_a_block_of_two_samples(device: str, n: int, m: int, d: int) -> None:
    x, y, u, v = problem(n, m, d)
    value, first, second = run(device, x, y, u, v, POWERS)
    expected = dense(x, y, u, v, POWERS)
    assert value == pytest.approx(expected[0], abs=1e-6 * size_of(u, v, POWERS))
    assert close(first, expected[1]) and close(second, expected[2])


@pytest.mark.parametrize("n, d", [(2, 1), (17, 5), (70, 64), (300, 40), (130, 256), (140, 300)])
def test_a_block_of_one_sample(device: str, n: int, d: int) -> None:
    """The gradient is the total derivative: each row stands on both sides."""
    x, _, u, _ = problem(n, 1, d)
    value, first, second = run(device, x, x, u, u, POWERS, symmetric=True)
    expected, left, right = dense(x, x, u, u, POWERS)
    assert value == pytest.approx(expected, abs=1e-6 * size_of(u, u, POWERS)) and second is None
    assert close(first, left + right)


@pytest.mark.parametrize(
    "scales",
    [POWERS, POWERS[::-1], IRREGULAR, (0.7,), (0.5, 2.0), tuple(2.0**k for k in range(-5, 3))],
    ids=str,
)
@pytest.mark.parametrize("d", [3, 260])
def test_the_scales(device: str, d: int, scales: tuple[float, ...]) -> None:
    x, y, u, v = problem(5, 7, d)
    value, first, second = run(device, x, y, u, v, scales)
    expected = double_loop(x, y, u, v, scales)
    assert value == pytest.approx(expected[0], abs=1e-6 * size_of(u, v, scales))
    assert close(first, expected[1]) and close(second, expected[2])


@pytest.mark.parametrize("d", [6, 260])
def test_one_row_against_itself_is_exact(device: str, d: int) -> None:
    """The distance on the diagonal is 0 however small the scale.

    It is not the rounding error of |x|^2 + |x|^2 - 2<x, x>.
    """
    x = np.full((1, d), 1e3 / 3)
    value, first, _ = run(
        device, x, x, np.array([1.5]), np.array([1.5]), (1e-6, 1.0), symmetric=True
    )
    assert value == 2 * 1.5**2 and not first.any()


@pytest.mark.parametrize("d", [6, 260])
@pytest.mark.parametrize("symmetric", [True, False])
def test_rows_that_coincide(device: str, d: int, symmetric: bool) -> None:
    """Neither NaN nor a residue: all points on one spot do not pull."""
    x, u = np.repeat(problem(1, 1, d)[0], 20, axis=0), np.full(20, 0.05)
    value, first, second = run(device, x, x.copy(), u, u, POWERS, symmetric=symmetric)
    assert value == pytest.approx(len(POWERS), rel=1e-5)
    for g in (first,) if symmetric else (first, second):
        assert np.abs(g).max() < 1e-5


@pytest.mark.parametrize("n, m, d", [(70, 300, 64), (70, 17, 300)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_value_alone(device: str, n: int, m: int, d: int, symmetric: bool) -> None:
    x, y, u, v = problem(n, m, d)
    if symmetric:  # of the larger sample, so that whole tiles lie below the diagonal
        x, u = y, v
    value, first, second = run(device, x, y, u, v, IRREGULAR, symmetric=symmetric, gradient=False)
    assert first is None and second is None
    tolerance = 1e-6 * size_of(u, v, IRREGULAR)
    assert value == pytest.approx(dense(x, y, u, v, IRREGULAR)[0], abs=tolerance)
    assert value == pytest.approx(
        run(device, x, y, u, v, IRREGULAR, symmetric=symmetric)[0], abs=tolerance
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_several_panels(device: str, symmetric: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three panels of 128 rows, the last one ragged."""
    monkeypatch.setattr(fused_tiles, "PANEL_BYTES", 1)
    x, y, u, v = problem(300, 150, 264)
    assert fused_tiles.panel_height(300, 300, 4, symmetric=symmetric) == 128
    if symmetric:
        y, v = x, u
    value, first, second = run(device, x, y, u, v, POWERS, symmetric=symmetric)
    expected = dense(x, y, u, v, POWERS)
    assert value == pytest.approx(expected[0], abs=1e-6 * size_of(u, v, POWERS))
    assert close(first, expected[1] + expected[2] if symmetric else expected[1]) and (
        second is None if symmetric else close(second, expected[2])
    )


@pytest.mark.parametrize("name, tolerance", [("high", 2e-3), ("medium", 1e-2)])
@pytest.mark.parametrize("d", [64, 300])
@pytest.mark.parametrize("symmetric", [True, False])
def test_lower_precisions(
    device: str, precision: None, name: str, tolerance: float, d: int, symmetric: bool
) -> None:
    x, y, u, v = problem(70, 40, d)
    y, v = (x, u) if symmetric else (y, v)
    torch.set_float32_matmul_precision(name)
    value, first, second = run(device, x, y, u, v, POWERS, symmetric=symmetric)
    expected = dense(x, y, u, v, POWERS)
    assert value == pytest.approx(expected[0], abs=tolerance * size_of(u, v, POWERS))
    if symmetric:
        assert close(first, expected[1] + expected[2], tolerance)
    else:
        assert close(first, expected[1], tolerance) and close(second, expected[2], tolerance)
        assert not close(first, expected[1], 1e-6)  # the precision asked for was used


@pytest.mark.parametrize("name, precision_name", [("high", "tf32"), ("medium", "bf16")])
def test_lower_precisions_are_exact_on_rows_they_hold(
    device: str, precision: None, name: str, precision_name: str
) -> None:
    """NumPy rounds the rows: only W's rounding is left in the gradient, and none in the value."""
    x, y, u, v = problem(70, 40, 64)
    bits = {"tf32": 13, "bf16": 16}[precision_name]
    for a in (x, y):
        whole = a.astype(np.float32).view(np.uint32)
        a[:] = (whole >> bits << bits).view(np.float32)
    torch.set_float32_matmul_precision(name)
    value, _, _ = run(device, x, y, u, v, POWERS)
    assert value == pytest.approx(dense(x, y, u, v, POWERS)[0], abs=1e-6 * size_of(u, v, POWERS))


def test_repeated_runs_agree_to_the_bit(device: str) -> None:
    x, y, u, v = problem(70, 300, 24)
    first, second = (run(device, x, y, u, v, POWERS) for _ in range(2))
    assert first[0] == second[0] and (first[1] == second[1]).all() and (first[2] == second[2]).all()


def test_strides_and_autograd_do_not_matter(device: str) -> None:
    """Transposed rows, every second weight, required gradients: the same numbers, no graph."""
    x, y, u, v = problem(20, 30, 8)
    expected = dense(x, y, u, v, POWERS)
    a = torch.tensor(x.T, dtype=torch.float32, device=device).T.requires_grad_()
    b, w = (torch.tensor(z, dtype=torch.float32, device=device) for z in (y, v))
    weights = torch.tensor(np.repeat(u, 2), dtype=torch.float32, device=device)[::2]
    value, first, _ = fused.fused_block(a, b, POWERS, weights, w, symmetric=False, gradient=True)
    assert not value.requires_grad and not first.requires_grad
    assert float(value) == pytest.approx(expected[0], abs=1e-6) and close(
        first.double().cpu().numpy(), expected[1]
    )


@pytest.mark.parametrize(
    "scales, answer",
    [
        (POWERS, True),
        ((3.0,), True),
        ((1.0, 3.0), False),
        ((0.25, 1.0), False),
        ((1.0, 1.0), False),
    ],
)
def test_powers_of_two_are_recognised(scales: tuple[float, ...], answer: bool) -> None:
    assert fused.are_powers_of_two(sorted(scales, reverse=True)) is answer


def test_rounding_to_tf32_is_to_the_nearest() -> None:
    """1 + 2^-10 is the successor of 1.

    A quarter and three quarters of the way there go to either end, in both signs.
    """
    x = torch.tensor([1 + 2**-12, 1 + 3 * 2**-12, -1 - 2**-12, -1 - 3 * 2**-12, 0.0, 1.5])
    assert fused.rounded(x, "tf32").tolist() == [1, 1 + 2**-10, -1, -1 - 2**-10, 0, 1.5]


def test_available_asks_for_what_is_needed(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fused.available(device)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not fused.available("cpu")


def test_without_triton() -> None:
    """A process that cannot import it: `available` says no, `fused_block` says what to install."""
    code = """
import importlib.util, sys, torch
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "triton" else found(name, *rest)
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "triton": raise ModuleNotFoundError("No module named 'triton'", name="triton")
sys.meta_path.insert(0, Missing())
from da.ops.fused import available, fused_block
print(available("cpu"), available("cuda"))
x = torch.zeros(2, 2)
try: fused_block(x, x, (1.0,), x[0], x[0], symmetric=True, gradient=True)
except ImportError as error: print(error)
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=True,
    )
    message = (
        "da.ops.fused needs the package triton, which is not installed: pip install triton (Linux)"
    )
    assert done.stdout.splitlines() == ["False False", message]


def compiled(
    kernels: ModuleType,
    capability: int,
    precision: str,
    width: int,
    count: int,
    powers: bool,
    *,
    gradient: bool,
):
    """A kernel as launched on that capability, built without a GPU.

    It is `fused_rows` up to its width, `weight_panel` beyond and for values alone.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as build

    rows = "*bf16" if precision == "bf16" else "*fp32"
    whole = gradient and width <= fused.FUSED_WIDTH
    hopper = capability == 90
    tile = (
        fused_tiles.fused_tile(width, precision, hopper=hopper)
        if whole
        else fused_tiles.panel_tile(precision, hopper=hopper)
    )
    constants = {
        "WIDTH": width,
        "COUNT": count,
        "POWERS": powers,
        "SYMMETRIC": True,
        "PRECISION": precision,
        "UPCAST": False,
    }
    constants |= {"BLOCK_M": tile.rows, "BLOCK_N": tile.columns, "BLOCK_K": tile.step}
    signature = (
        dict.fromkeys(("x", "y"), rows)
        | dict.fromkeys(("x_squares", "y_squares", "u", "v", "rates"), "*fp32")
        | {"values": "*fp64"}
    )
    if whole:
        kernel, constants = kernels.fused_rows, constants | {"BLOCK_D": fused_tiles.padded(width)}
        signature |= {"gradients": "*fp32", "n": "i32", "m": "i32", "tiles_per_part": "i32"}
    else:
        kernel, constants = kernels.weight_panel, constants | {"GRADIENT": gradient, "GROUP": 8}
        signature |= {"panel": rows, "n": "i32", "m": "i32"}
    signature = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, kind in enumerate(signature.values())
        if kind.startswith("*")
    }
    source = ASTSource(
        kernel, signature, {(kernel.arg_names.index(k),): v for k, v in constants.items()}, aligned
    )
    return build(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": tile.warps, "num_stages": tile.stages},
    )


def spilled(program, capability: int, folder: Path) -> list[str]:
    """The assembler's lines on registers that did not fit, if they are more than a few."""
    path = folder / "kernel.ptx"
    path.write_text(program.asm["ptx"])
    name = f"sm_{capability}{'a' if capability >= 90 else ''}"
    from triton.backends.nvidia import compiler

    command = [
        compiler.get_ptxas(capability).path,
        "-v",
        f"--gpu-name={name}",
        str(path),
        "-o",
        os.devnull,
    ]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    lines = [line for line in report.splitlines() if "spill" in line]
    assert lines
    stores = [int(re.search(r"(\d+) bytes spill stores", line)[1]) for line in lines]
    return [line for line, number in zip(lines, stores, strict=True) if number > FEW_BYTES]


@pytest.mark.slow
@pytest.mark.parametrize("capability, shared", [(90, 227), (80, 99)])
@pytest.mark.parametrize("precision_name", ["ieee", "tf32", "bf16"])
@pytest.mark.parametrize("count, powers", [(5, True), (10, False)])
def test_kernels_compile_and_fit(
    capability: int, shared: int, precision_name: str, count: int, powers: bool, tmp_path: Path
) -> None:
    """For real GPUs, without one: within the shared memory, in KB, hardly a register spilled."""
    with fresh_kernels(interpret=False) as kernels, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path))
        for width, gradient in itertools.product((16, 64, 128, 256, 304), (True, False)):
            program = compiled(
                kernels, capability, precision_name, width, count, powers, gradient=gradient
            )
            assert program.metadata.shared <= shared * 1024, width
            assert spilled(program, capability, tmp_path) == [], width
