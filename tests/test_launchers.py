"""Cells on other machines.

Oracles: the bytes of a table that one process fills, and sums by hand. Ray is real, with two nodes
of which one is killed. Slurm is not at hand: a stand-in for its three commands runs the tasks of
the array job here. What it is given is submitit's own script.
"""

from __future__ import annotations

import operator
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_filling import WORDS, metrics, results, wait_for

from da.recipes.flags import CommonFlags
from da.recipes.launchers import on_slurm, with_absolute_paths
from problems import ROOT, run_script

PATIENCE = 1200  # seconds; a minute is enough on an idle machine
SBATCH = """#!{python}
import os, re, subprocess, sys
script = sys.argv[-1]
first, last = map(int, re.search(r"--array=(\\d+)-(\\d+)", open(script).read()).groups())
for task in range(first, last + 1):
    names = {{"SLURM_JOB_ID": "77", "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(task),
             "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "here",
             "SLURM_NODEID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}}
    nowhere = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
    subprocess.Popen(["bash", script], env=os.environ | names, **nowhere)
print("Submitted batch job 77")
"""
SRUN = """#!/usr/bin/env bash
while [[ "$1" == -* ]]; do
  if [[ "$1" == *=* || "$1" == --unbuffered ]]; then shift; else shift 2; fi
done
exec "$@"
"""
SACCT = "#!/usr/bin/env bash\necho 'JobID|State|NodeList'\n"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"sbatch": SBATCH.format(python=sys.executable), "srun": SRUN, "sacct": SACCT}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_calls_are_one_array_job_and_results_find_their_calls(tmp_path: Path, stand_in: None):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install -e '.[slurm]'")
    folder = tmp_path / "jobs"
    options = ["timeout_min=7", "slurm_array_parallelism=2", "slurm_partition=gpu"]
    calls = [(1, 2), (3, 4), (5, 6)]
    found = dict(on_slurm(operator.add, calls, folder=folder, options=options))
    assert found == {0: 3, 1: 7, 2: 11}
    script = next(folder.glob("*.sh"))  # submitit keeps a copy beside it
    wanted = ("--array=0-2%2", "--time=7", "--partition=gpu")
    assert all(f"#SBATCH {line}" in script.read_text() for line in wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["timeout_min"], "slurm must be words option=value"),
        (["no_such_option=1"], "--launcher slurm: .*no_such_option"),
    ],
)
def test_a_wrong_option_of_the_array_job_is_told(tmp_path, stand_in, options, message):
    pytest.importorskip("submitit")
    with pytest.raises(ValueError, match=message):
        list(on_slurm(operator.add, [(1, 2)], folder=tmp_path / "jobs", options=options))


def test_without_slurm_here_the_launcher_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="--launcher slurm: .*slurm cluster"):
        list(on_slurm(operator.add, [(1, 2)], folder=tmp_path / "jobs", options=[]))


def test_paths_are_made_absolute_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    flags = with_absolute_paths(CommonFlags(runs_dir=Path("r"), data_root=Path("missing")))
    assert flags.runs_dir == tmp_path / "r" and flags.data_root == Path("missing")


@pytest.mark.slow
def test_a_lost_node_of_a_ray_cluster_costs_nothing_but_time(tmp_path: Path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    command = [sys.executable, str(ROOT / "experiments" / "digits_mmd.py"), *WORDS]
    process = subprocess.Popen(
        [*command, "--launcher", "ray"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_ADDRESS": cluster.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: results(tmp_path) or process.poll() is not None, PATIENCE)
        cluster.remove_node(second, allow_graceful=False)
        killed = time.time_ns()
        shown, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        cluster.shutdown()
    assert process.returncode == 0 and "Traceback" not in said, said
    assert any(written > killed for written in results(tmp_path).values()), "it was half-way"
    alone = tmp_path / "alone"
    local = run_script("digits_mmd.py", *WORDS, "--runs-dir", str(alone), timeout=PATIENCE)
    assert metrics(tmp_path / "runs") == metrics(alone) and len(metrics(alone)) == 6
    # Above the table Ray says itself that a node is gone.
    assert table_of(shown) == table_of(local.stdout) != ""


def table_of(text: str) -> str:
    return text[text.index("digits_mmd: target accuracy") :].partition("records:")[0]
