"""The global batch over real processes. Oracle: one process with all rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from da.feature.joint_mmd import joint_mmd2
from da.feature.local_mmd import local_mmd2
from da.feature.mmd import mmd2
from da.train.distributed import gather_rows

SHARDS = ((5, 3), (7, 4))  # rows of source and target on each process, unequal

# What every process does: its rows through a small network, the loss of the gathered rows, the mean
# of the gradients.
WORKER = """
import sys
import torch
from torch import distributed, nn
from da.feature.joint_mmd import joint_mmd2
from da.feature.local_mmd import local_mmd2
from da.feature.mmd import mmd2
from da.train.distributed import gather_rows

rank, folder, loss = int(sys.argv[1]), sys.argv[2], sys.argv[3]
store = f"file://{folder}/store"
distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
data = torch.load(f"{folder}/data.pt")
network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
network.load_state_dict(data["network"])
x, y, labels = (data[name][rank] for name in ("source", "target", "labels"))
f, g = (gather_rows(network(z)) for z in (x, y))
labels = gather_rows(labels)
p = g.softmax(1)
value = {
    "mmd2": lambda: mmd2(f, g, estimator="unbiased"),
    "joint": lambda: joint_mmd2([f, f.softmax(1)], [g, p]),
    "local": lambda: local_mmd2(f, g, labels, p),
    "median": lambda: mmd2(f, g, bandwidth="median"),
}[loss]()
value.backward()
for parameter in network.parameters():
    distributed.all_reduce(parameter.grad)
    parameter.grad /= 2
gradients = [q.grad for q in network.parameters()]
found = {"value": value.detach(), "rows": f.detach(), "gradients": gradients}
torch.save(found, f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.parametrize(
    "loss",
    [
        "mmd2",
        "local",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("joint", "median")),
    ],
)
def test_two_processes_with_unequal_shards_are_one(loss: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    source = [torch.randn(n, 4, dtype=torch.float64) for n, _ in SHARDS]
    target = [torch.randn(m, 4, dtype=torch.float64) + 0.5 for _, m in SHARDS]
    labels = [torch.arange(n) % 3 for n, _ in SHARDS]
    torch.save(
        {"network": network.state_dict(), "source": source, "target": target, "labels": labels},
        tmp_path / "data.pt",
    )
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, str(tmp_path / "worker.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path), loss], env=environment)
        for rank in (0, 1)
    ]
    assert [p.wait(timeout=120) for p in processes] == [0, 0]

    f, g = network(torch.cat(source)), network(torch.cat(target))
    expected = {
        "mmd2": lambda: mmd2(f, g, estimator="unbiased"),
        "joint": lambda: joint_mmd2([f, f.softmax(1)], [g, g.softmax(1)]),
        "local": lambda: local_mmd2(f, g, torch.cat(labels), g.softmax(1)),
        "median": lambda: mmd2(f, g, bandwidth="median"),
    }[loss]()
    gradients = torch.autograd.grad(expected, list(network.parameters()))
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found["rows"], f.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found["value"], expected.detach(), rtol=1e-9, atol=1e-12)
        a, b = (torch.cat([g.flatten() for g in part]) for part in (found["gradients"], gradients))
        assert (
            (a - b).norm() <= 1e-6 * b.norm()
        )  # all together: that of the last bias is 0, since a shift of all rows changes nothing


def test_training_on_two_processes_is_training_on_one(tmp_path: Path) -> None:
    """The whole loop: an MMD of 2 x 8 rows is the MMD of 16."""
    script = tmp_path / "two.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nimport torch\n"
        "from da.data.batches import PairedBatches\n"
        "from da.data.domain import Labelled\n"
        "from da.data.transforms import identity\n"
        "from da.train.evaluation import Evaluation\n"
        "from da.feature.mmd import mmd2\n"
        "from da.train.align import Align\n"
        "from da.networks.small import mlp\n"
        "from da.records.run import Run\n"
        "from da.train import TrainConfig, fit, launch\n"
        "devices, batch, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])\n"
        "config = TrainConfig(steps=8, batch_size=batch, accelerator='cpu', devices=devices,\n"
        "                     evaluate_every=8, log_every=8)\n"
        "fabric = launch(config)\n"
        "torch.manual_seed(0)\n"
        "x = torch.randn(64, 6); y = (x[:, 0] > 0).long()\n"
        "source, target = Labelled(x, y), Labelled(x + 1, y)\n"
        "method = Align(mlp(6, 2), mmd2, trade_off=3.0)\n"
        "names = dict(experiment='t', method='m', source='s', target='t', seed=0)\n"
        "run = Run.start(folder, {}, **names, wandb='disabled', rank_zero=fabric.is_global_zero)\n"
        "unlabelled = target.unlabelled()\n"
        "stream = PairedBatches(source, unlabelled, batch_size=batch, seed=0, transform=identity)\n"
        "fit(method, stream, config, run, Evaluation(target, identity), fabric=fabric)\n"
    )
    states = []
    for devices, batch in ((1, 16), (2, 8)):
        folder = tmp_path / f"runs{devices}"
        command = [sys.executable, str(script), str(devices), str(batch), str(folder)]
        subprocess.run(
            command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True
        )
        states.append(torch.load(next(folder.rglob("network.pt")), weights_only=True))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_alone_the_rows_are_themselves() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert gather_rows(x) is x
