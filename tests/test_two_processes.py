"""Two processes that train one run. Oracle: one process with all rows; real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

# What both sides run: the methods, each with one batch, in float64. `arguments` are the rank, the
# number of processes and the folder of the result.
GRADIENTS = """
import sys
import torch
from torch import distributed, nn
from da.data.batches import Batch, LabelledBatch, TargetBatch
from da.data.domain import Unlabelled
from da.feature import BNM, CDAN, DANN, MCC, MCD, FixMatch, MeanTeacher, coral, mmd2
from da.instance import kmm
from da.model import SHOT, l2_sp
from da.networks import Network
from da.networks.synchronised import synchronise_statistics
from da.train import Align, Regularize, Reweight
from da.train.optimisation import _average_gradients

rank, count, folder, norm = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if count > 1:
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=count)

class Engine:
    world_size = count

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
n = 16
x, y = torch.randn(n, 5), torch.arange(n) % 3
z = torch.randn(n, 5) + 0.5
weights = torch.as_tensor(kmm(x.numpy(), z.numpy()))
rows = torch.arange(n)[rank::count]

def network():
    torch.manual_seed(1)
    layers = [nn.Linear(5, 8)] + ([nn.BatchNorm1d(8)] if norm != "none" else []) + [nn.Tanh()]
    body = nn.Sequential(*layers, nn.Linear(8, 6))
    return Network(body, nn.Identity(), nn.Linear(6, 3))

pair = Batch(x[rows], y[rows], z[rows], rows, rows)
labelled = LabelledBatch(x[rows], y[rows], rows)
target = TargetBatch(z[rows], rows)
view = lambda rows: rows + 0.1 * rows.cos()
cases = {
    "mmd": (lambda: Align(network(), mmd2, trade_off=2.0), pair),
    "coral": (lambda: Align(network(), coral), pair),
    "mcc": (lambda: MCC(network(), batch_statistics="domain"), pair),
    "bnm": (lambda: BNM(network(), batch_statistics="source"), pair),
    "dann": (lambda: DANN(network()), pair),
    "cdan": (lambda: CDAN(network()), pair),
    "mcd": (lambda: MCD(network()), pair),
    "weighted": (lambda: Reweight(network(), weights), pair),
    "fine-tuning": (lambda: Regularize(network(), None), labelled),
    "l2-sp": (lambda: Regularize(network(), l2_sp, strength=0.3), labelled),
    "mean teacher": (lambda: MeanTeacher(network(), view=view, threshold=0.0), pair),
    "fixmatch": (lambda: FixMatch(network(), weak=torch.tanh, strong=view, threshold=0.0), pair),
    "shot": (lambda: SHOT(network(), Unlabelled(z), torch.Tensor.double, beta=0.3), target),
}
found = {}
for name, (make, batch) in cases.items():
    torch.manual_seed(2)
    method = make().double().train()
    for module in method.modules():
        if isinstance(module, nn.Dropout):  # each process draws its own
            module.p = 0.0
    if norm == "synchronised":
        synchronise_statistics(method)
    moves = []
    for terms in method.step(batch, 0.5):
        method.zero_grad()
        torch.stack([value.double() for value in terms.values()]).sum().backward()
        _average_gradients(method, Engine)
        found_here = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
        moves.append(torch.cat(found_here))
    buffers = [b.double() for k, b in method.named_buffers() if "running" in k]
    found[name] = {"moves": moves, "buffers": buffers}
torch.save(found, f"{folder}/{norm}-{count}-{rank}.pt")
"""


def gradients(folder: Path, norm: str, count: int) -> list[dict]:
    """What each of `count` processes finds."""
    (folder / "worker.py").write_text(GRADIENTS)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(folder / "worker.py"), str(rank), str(count), str(folder), norm],
            env=environment,
        )
        for rank in range(count)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0] * count
    (folder / "store").unlink(missing_ok=True)
    return [torch.load(folder / f"{norm}-{count}-{rank}.pt") for rank in range(count)]


@pytest.mark.parametrize("norm", ["none", "synchronised"])
def test_gradients_of_two_processes_are_those_of_one(norm: str, tmp_path: Path) -> None:
    (alone,) = gradients(tmp_path, norm, 1)
    both = gradients(tmp_path, norm, 2)
    far: dict[str, float] = {}
    for name, expected in alone.items():
        for own in both:
            assert len(own[name]["moves"]) == len(expected["moves"]) > 0
            pairs = zip(own[name]["moves"], expected["moves"], strict=True)
            errors = [float((a - b).norm() / b.norm()) for a, b in pairs]
            far[name] = max(errors + [far.get(name, 0.0)])
            for a, b in zip(own[name]["buffers"], expected["buffers"], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    print(norm, {name: f"{error:.1e}" for name, error in far.items()})
    assert max(far.values()) < 1e-6, far


def test_without_it_each_process_normalises_by_its_own_rows(tmp_path: Path) -> None:
    (alone,) = gradients(tmp_path, "own", 1)
    both = gradients(tmp_path, "own", 2)
    error = (both[0]["mmd"]["moves"][0] - alone["mmd"]["moves"][0]).norm()
    assert error > 1e-3 * alone["mmd"]["moves"][0].norm()


# ---------------------------------------------------------------- whole runs

SCRIPT = """
import sys, time
from pathlib import Path
import torch
from torch import nn
from da.data.batches import PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature.mmd import mmd2
from da.networks import Network
from da.records.run import Run
from da.train import Align, Evaluation, TrainConfig, fit, launch
folder, devices, batch, wait = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
config = TrainConfig(steps=40, batch_size=batch, accelerator="cpu", devices=devices, threads=1,
                     evaluate_every=10, log_every=1, sync_batch_norm=True)
fabric = launch(config)
torch.manual_seed(0)
x = torch.randn(64, 6)
y = (x[:, 0] > 0).long()
source, target = Labelled(x, y), Labelled(x + 1, y)
body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
method = Align(Network(body, nn.Identity(), nn.Linear(4, 2)), mmd2, trade_off=3.0)

class Waiting(PairedBatches):
    def batch(self, step, rank, count):
        time.sleep(float(wait))
        return super().batch(step, rank, count)

names = dict(experiment="t", method="m", source="s", target="t", seed=0)
run = Run.start(folder, {}, **names, wandb="disabled", rank_zero=fabric.is_global_zero)
stream = Waiting(source, target.unlabelled(), batch_size=batch, seed=0, transform=identity)
print("rank", fabric.global_rank, __import__("os").getpid(), flush=True)
if not run.finished:
    fit(method, stream, config, run, Evaluation(target, identity), fabric=fabric)
"""


class Pair:
    """Two processes that train one run, slowly enough to be met at a step."""

    def __init__(self, folder: Path, wait: str = "0.1") -> None:
        self.folder = folder
        (folder / "script.py").write_text(SCRIPT)
        command = [sys.executable, str(folder / "script.py"), str(folder / "runs"), "2", "8", wait]
        self.process = subprocess.Popen(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True, cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.numbers: dict[int, int] = {}
        assert self.process.stdout is not None
        while len(self.numbers) < 2:
            words = self.process.stdout.readline().split()
            assert words, self.process.communicate()
            self.numbers[int(words[1])] = int(words[2])

    def wait_for_step(self, step: int) -> None:
        end, wanted = time.monotonic() + 200, f'"step":{step},'.encode()
        while not any(wanted in p.read_bytes() for p in self.folder.rglob("metrics.jsonl")):
            assert time.monotonic() < end
            time.sleep(0.05)

    def alive(self, rank: int) -> bool:
        self.process.poll()
        try:
            stat = Path(f"/proc/{self.numbers[rank]}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] not in "ZX"

    def end(self) -> str:
        """End whatever is left; what was said."""
        for number in self.numbers.values():
            try:
                os.kill(number, signal.SIGKILL)
            except OSError:
                continue
        return self.process.communicate(timeout=60)[1]


def contents(folder: Path) -> dict[str, bytes]:
    paths = (p for p in (folder / "runs").rglob("*") if p.is_file())
    return {p.name: p.read_bytes() for p in paths if p.name not in ("env.json", "checksums.json")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    pair = Pair(folder, wait="0")
    assert pair.process.wait(timeout=300) == 0
    return contents(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("kind", ["KILL", "INT", "TERM", "STOP"])
def test_what_happens_to_one_process_ends_the_other_and_the_run_goes_on(
    kind: str, rank: int, whole: dict[str, bytes], tmp_path: Path
) -> None:
    pair = Pair(tmp_path)
    pair.wait_for_step(22)
    os.kill(pair.numbers[rank], getattr(signal, f"SIG{kind}"))
    sent = time.monotonic()
    while pair.alive(1 - rank):
        assert time.monotonic() - sent < 60, "the other goes on"
        time.sleep(0.1)
    seconds = time.monotonic() - sent
    said = pair.end()
    print(f"{kind} to process {rank}: the other ended after {seconds:.0f} s")
    if kind == "STOP":
        assert f"error: process {rank} of 2" in said and "no sign of life" in said
        assert "Traceback" not in said
    again = Pair(tmp_path, wait="0")
    _, said = again.process.communicate(timeout=300)
    assert again.process.returncode == 0, said
    begun = "20" if kind in ("KILL", "STOP") else "2"  # a signal leaves a checkpoint of its step
    assert f"m s>t seed 0 continues at step {begun}" in said
    assert contents(tmp_path) == whole


def test_a_run_of_two_processes_with_synchronised_statistics_is_that_of_one(
    whole: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "runs"), "1", "16", "0"]
    subprocess.run(command, check=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    (tmp_path / "two.pt").write_bytes(whole["network.pt"])
    one = torch.load(next(tmp_path.rglob("network.pt")), weights_only=True)
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    assert one.keys() == two.keys() and "backbone.1.running_mean" in one
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5, msg=name)
