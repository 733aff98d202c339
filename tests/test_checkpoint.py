"""Checkpoints and run folders that are damaged.

Oracles: the bytes of a run that was never broken; files that are really cut, and bits that are
really flipped.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from da.data.batches import PairedBatches
from da.data.domain import Labelled
from da.data.transforms import identity
from da.feature.adversarial import DANN
from da.networks.small import mlp
from da.records.checksums import check_file
from da.records.predictions import FILE, read_predictions
from da.records.reading import read_runs, read_sound
from da.records.record import read_record
from da.records.run import Run
from da.train.checkpoint import NEWEST, PREVIOUS, kept_step
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.saving import DamagedError, load_sealed, read_seal

FLIPS = int(os.environ.get("DA_FLIPS", "40"))  # the page on reliability ran more
GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(40, 6, generator=GENERATOR), torch.arange(40) % 3
DOMAIN = Labelled(X, Y)
CONFIG = TrainConfig(steps=8, evaluate_every=2, log_every=1, accelerator="cpu", threads=1)
EVALUATION = Evaluation(DOMAIN, identity)
NAMES = {"experiment": "toy", "method": "dann", "source": "a", "target": "b"}


class Stop(Exception):
    pass


class Breaking(PairedBatches):
    """It breaks at step 7, when the checkpoints are of steps 6 and 4."""

    def batch(self, step: int, rank: int = 0, world_size: int = 1):  # type: ignore[no-untyped-def]
        if step == 7:
            raise Stop
        return super().batch(step, rank, world_size)


def train(folder: Path, kind: type[PairedBatches] = PairedBatches, seed: int = 0) -> Run:
    run = Run.start(folder, {"rate": 0.5}, **NAMES, seed=seed, wandb="disabled")  # type: ignore[arg-type]
    stream = kind(DOMAIN, DOMAIN.unlabelled(), batch_size=8, seed=seed, transform=identity)
    torch.manual_seed(seed)
    method = DANN(mlp(6, 3, hidden=8, features=8))
    try:
        fit(method, stream, CONFIG, run, EVALUATION)
    except Stop:
        run.close(failed=True)
    return run


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run but those that tell the time."""
    paths = (p for p in folder.rglob("*") if p.is_file())
    return {p.name: p.read_bytes() for p in paths if p.name not in ("env.json", "checksums.json")}


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_predictions_damaged_between_the_last_evaluation_and_the_result(
    tmp_path: Path, whole: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of the last step is whole; what lies beside it is made again."""

    def killed(run: Run, result: dict) -> None:
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(Run, "finish", killed)
        train(tmp_path)
    path = next(tmp_path.rglob(FILE))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content[:50] if damage == "cut" else content)
    if damage == "gone":
        path.unlink()
    assert contents(train(tmp_path).directory) == contents(whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("whole")).directory


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("broken"), Breaking).directory


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole checkpoint of the same step, of another seed."""
    folder = train(tmp_path_factory.mktemp("foreign"), Breaking, seed=1).directory
    return (folder / NEWEST).read_bytes()


def copied(folder: Path, root: Path) -> Path:
    """The folder of runs `root` with a copy of one run."""
    place = root / Path(*folder.parts[-4:])
    shutil.copytree(folder, place)
    return place


def rewritten(path: Path, change: Callable[[dict], None]) -> None:
    """A checkpoint of an earlier version, which had no seal, with something changed."""
    state = torch.load(path, weights_only=True)
    del state["sealed"], state["metrics_sha256"]
    change(state)
    torch.save(state, path)


def damaged(folder: Path, name: str, how: str, foreign: bytes) -> None:
    """Damage a file of an interrupted run."""
    path = folder / name
    content = path.read_bytes()
    if how.startswith("cut to"):
        path.write_bytes(content[: int(len(content) * float(how.split()[2]))])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "junk":
        path.write_bytes(bytes(range(256)) * 20)
    elif how == "without its last byte":
        path.write_bytes(content[:-1])
    elif how == "a byte more":
        path.write_bytes(content + b"\n")
    elif how == "of another seed":
        path.write_bytes(foreign)
    elif how == "without a key":
        rewritten(path, lambda state: state.pop("optimizer"))
    elif how == "of a later step":
        rewritten(path, lambda state: state.update(step=30))
    elif how == "no state":
        torch.save([1, 2], path)
    else:
        raise AssertionError(how)


HOW = (
    *(f"cut to {part}" for part in (0.2, 0.7, 0.999)),
    "empty", "junk", "without its last byte", "a byte more", "of another seed", "without a key",
    "of a later step", "no state",
)  # fmt: skip


def most_are_slow(cases: tuple, kept: tuple) -> list:
    """The cases of a parametrized test; the default suite takes those of `kept` alone."""
    return [case if case in kept else pytest.param(case, marks=pytest.mark.slow) for case in cases]


@pytest.mark.parametrize("how", most_are_slow(HOW, ("cut to 0.7", "of another seed")))
def test_a_damaged_checkpoint_is_left_out_and_the_one_before_counts(
    how: str, whole: Path, broken: Path, foreign: bytes, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = copied(broken, tmp_path)
    damaged(folder, NEWEST, how, foreign)
    assert contents(train(tmp_path).directory) == contents(whole)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("dann a>b seed 0: checkpoint.pt is left out, because ")
    assert first.endswith("; the run goes on from step 4") and "continues at step 4 of 8" in second


@pytest.mark.parametrize("how", most_are_slow(("empty", "of another seed"), ("empty",)))
def test_without_a_good_checkpoint_the_run_begins_again(
    how: str, whole: Path, broken: Path, foreign: bytes, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = copied(broken, tmp_path)
    damaged(folder, NEWEST, how, foreign)
    damaged(folder, PREVIOUS, how, foreign)
    assert contents(train(tmp_path).directory) == contents(whole)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" is left out")[0][17:] for line in lines] == [NEWEST, PREVIOUS]
    assert all(line.endswith("; the run begins again") for line in lines)


CUTS = ((-1, 4), (0.8, 4), (0.5, 0), (0.0, 0), ("gone", 0), ("changed", 0))


@pytest.mark.parametrize("case", most_are_slow(CUTS, CUTS[:1]))
def test_metrics_that_do_not_fit_are_cut_to_those_that_do(
    case: tuple[float | str, int], whole: Path, broken: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Lines of six steps: the newest checkpoint needs all of them, the one before four."""
    keep, step = case
    folder = copied(broken, tmp_path)
    path = folder / "metrics.jsonl"
    content = path.read_bytes()
    end = torch.load(folder / NEWEST, weights_only=True)["metrics_position"]
    if keep == "gone":
        path.unlink()
    elif keep == "changed":
        path.write_bytes(content.replace(b'"step":1,', b'"step":7,', 1))
    else:
        path.write_bytes(content[: end - 1 if keep == -1 else int(end * float(keep))])
    assert contents(train(tmp_path).directory) == contents(whole)
    said = capsys.readouterr().err
    assert "metrics.jsonl does not begin with the lines that were logged before it" in said
    assert f"goes on from step {step}" in said if step else "the run begins again" in said


def test_a_checkpoint_knows_its_step_and_run(broken: Path) -> None:
    seal = read_seal(broken / NEWEST)
    assert seal is not None
    assert (seal.step, seal.digest) == (6, broken.name.rpartition("-")[2])
    assert kept_step(broken) == 6 and read_seal(broken / PREVIOUS).step == 4  # type: ignore[union-attr]
    with pytest.raises(DamagedError, match="it is of the run"):
        load_sealed(broken / NEWEST, "0123456789ab")


def test_a_checkpoint_of_an_earlier_version_goes_on(
    whole: Path, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(broken, tmp_path)
    (folder / PREVIOUS).unlink()
    rewritten(folder / NEWEST, lambda state: state.pop("settings"))
    assert contents(train(tmp_path).directory) == contents(whole)
    (line,) = capsys.readouterr().err.splitlines()
    assert "continues at step 6 of 8" in line


def test_a_kill_between_the_two_renames_costs_one_checkpoint(
    whole: Path, broken: Path, tmp_path: Path
) -> None:
    folder = copied(broken, tmp_path)
    os.replace(folder / NEWEST, folder / PREVIOUS)
    assert kept_step(folder) == 6
    assert contents(train(tmp_path).directory) == contents(whole)


def test_a_finished_run_keeps_no_checkpoint_and_no_half_file(whole: Path, tmp_path: Path) -> None:
    names = {"result.json", "config.json", "env.json", "metrics.jsonl", "checksums.json"}
    every = names | {"network.pt", "features.npz", FILE}
    assert {path.name for path in whole.iterdir()} == every
    folder = copied(whole, tmp_path)
    for name in (NEWEST, PREVIOUS, "checkpoint.pt.0a1b.tmp"):  # a kill just after the result
        (folder / name).write_bytes(b"left behind")
    assert Run.start(tmp_path, {"rate": 0.5}, **NAMES, seed=0, wandb="disabled").finished  # type: ignore[arg-type]
    assert {path.name for path in folder.iterdir()} == every


# ---------------------------------------------------------------- flipped bits


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def some_bits(folder: Path, count: int, seed: int) -> list[tuple[str, int]]:
    """Bits of the files of a folder: as many of each file, and of each file the first and last."""
    chance, paths = random.Random(seed), sorted(p for p in folder.iterdir() if p.is_file())
    found = []
    for k in range(count):
        path = paths[k % len(paths)]
        bits = 8 * path.stat().st_size
        found.append((path.name, [0, bits - 1][k // len(paths)] if k < 2 * len(paths) else
                      chance.randrange(bits)))  # fmt: skip
    return found


def read_everything(folder: Path) -> object:
    """All that a finished run says, through the functions that read it."""
    record = read_record(folder)
    check_file(folder / "network.pt")
    check_file(folder / "features.npz")
    network = torch.load(folder / "network.pt", weights_only=True)
    with np.load(folder / "features.npz") as arrays:
        features = {name: arrays[name].tobytes() for name in arrays.files}
    predictions = {name: x.tobytes() for name, x in read_predictions(record).items()}
    weights = {name: value.numpy().tobytes() for name, value in network.items()}
    return (
        record.config,
        record.env,
        record.result,
        record.metrics(),
        features,
        predictions,
        weights,
    )


def check_flip(whole: Path, root: Path, name: str, bit: int) -> bool:
    """Whether a flipped bit is found; if it is not, everything reads as before."""
    folder = copied(whole, root)
    expected = read_everything(folder)
    flip(folder / name, bit)
    try:
        found = read_everything(folder)
    except ValueError as error:
        assert str(folder) in str(error)
        return True
    assert found == expected, (name, bit)
    return False


def test_a_flipped_bit_in_a_finished_run_is_found_when_it_is_read(
    whole: Path, tmp_path: Path
) -> None:
    bits = some_bits(whole, FLIPS, seed=0)  # 8 files
    found = [check_flip(whole, tmp_path / str(k), *bit) for k, bit in enumerate(bits)]
    print(f"{sum(found)} of {len(found)} flipped bits found, the others harmless")
    assert all(found)


@pytest.mark.slow
def test_a_flipped_bit_in_an_interrupted_run_changes_no_byte_of_its_end(
    whole: Path, broken: Path, tmp_path: Path
) -> None:
    count = max(FLIPS // 2, 12)
    for k, (name, bit) in enumerate(some_bits(broken, count, seed=1)):
        folder = copied(broken, tmp_path / str(k))
        flip(folder / name, bit)
        assert contents(train(tmp_path / str(k)).directory) == contents(whole), (name, bit)


@pytest.mark.slow
def test_a_file_that_was_cut_short_is_found_at_every_length(whole: Path, tmp_path: Path) -> None:
    """Of large files at 200 lengths."""
    for path in sorted(whole.iterdir()):
        size = path.stat().st_size
        for length in sorted({*range(0, size, max(size // 200, 1)), size - 1}):
            folder = copied(whole, tmp_path / f"{path.name}{length}")
            os.truncate(folder / path.name, length)
            with pytest.raises(ValueError):
                read_everything(folder)
            shutil.rmtree(folder)


# ---------------------------------------------------------------- one damaged run among others


def two_runs(root: Path) -> tuple[Path, Path]:
    return train(root, seed=0).directory, train(root, seed=1).directory


@pytest.mark.slow
def test_one_damaged_run_does_not_hide_the_others(tmp_path: Path) -> None:
    first, second = two_runs(tmp_path)
    for name in ("result.json", "env.json", "config.json"):
        kept = (first / name).read_bytes()
        for content in (None, b"", kept[: len(kept) // 2], kept.replace(b'"', b"'"), kept + b" "):
            (first / name).unlink() if content is None else (first / name).write_bytes(content)
            if (name, content) == ("result.json", None):
                continue  # an unfinished run
            records, problems = read_sound(tmp_path)
            assert [record.directory for record in records] == [second]
            (line,) = problems
            assert str(first / name) in line or str(first) in line
            with pytest.raises(ValueError):
                read_runs(tmp_path)
        (first / name).write_bytes(kept)
    assert len(read_runs(tmp_path)) == 2


def test_what_can_be_read_of_a_finished_run_is_not_overwritten(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(whole, tmp_path)
    kept = (folder / "result.json").read_bytes()
    (folder / "result.json").write_bytes(kept.replace(b"0.", b"1.", 1))
    with pytest.raises(ValueError, match="result.json was changed or damaged.*remove the folder"):
        train(tmp_path)
    (folder / "result.json").write_bytes(kept)
    (folder / "env.json").unlink()
    with pytest.raises(ValueError, match="env.json is gone.*remove the folder"):
        train(tmp_path)
    (folder / "result.json").write_bytes(kept[:30])
    assert contents(train(tmp_path).directory) == contents(whole)
    assert "dann a>b seed 0 begins again: its result is damaged" in capsys.readouterr().err


def test_an_interrupted_run_mends_its_configuration(
    whole: Path, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(broken, tmp_path)
    (folder / "config.json").write_bytes(b"{")
    (folder / "env.json").unlink()
    assert contents(train(tmp_path).directory) == contents(whole)
    said = capsys.readouterr().err
    assert "config.json" in said and "was damaged and is written again" in said


def test_metrics_are_on_the_disk_before_the_checkpoint_that_counts_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        order.append("to disk: " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        order.append("in place: " + Path(target).name)
        replace(source, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not tell the file of a descriptor")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    train(tmp_path)
    places = [k for k, what in enumerate(order) if what == f"in place: {NEWEST}"]
    assert len(places) == 4
    for before, place in zip([0, *places], places, strict=False):
        assert "to disk: metrics.jsonl" in order[before:place]
