"""Packed records. Oracles: the bytes of the folders they were packed from, hashes taken by hashlib,
and configurations whose match is known by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_runs import store

from da.records.files import same_configuration
from da.records.packing import pack, packed_files, unpack
from da.records.reading import read_runs
from da.records.run import Run
from problems import ROOT

NAMES = {"experiment": "toy", "method": "mmd", "source": "a b", "target": "c,d", "seed": 0}
LAST = {"selected": {"last": {"step": 9, "target_accuracy": 0.1 + 0.2}}}
LINES = '{"step":1,"loss":1e-07,"rate":null}\n{"step":2,"loss":3,"rate":0.30000000000000004}\n'
ENV = {
    "cores": 2,
    "device": "a processor",
    "git": {"commit": "1a2b", "dirty": True},
    "started": "2026-01-02T03:04:05+00:00",
}


def files_of(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def some_runs(root: Path) -> Path:
    """Two experiments; settings that differ, are nested, or that one run alone has; two formats."""
    for seed in (0, 1, 10):
        config = {"steps": 9, "layers": [1, 2], "optimizer": {"name": "sgd", "rate": 0.1}}
        store(root, NAMES | {"seed": seed}, config, LAST, env=ENV, metrics=LINES)
    other = NAMES | {"method": "none"}
    store(root, other, {"steps": 9, "extra": None}, LAST | {"facts": {"é": 1.5}}, env={"cores": 4})
    store(root, NAMES | {"experiment": "more"}, {}, {"selected": {}}, env=ENV, metrics=LINES)
    run = Run.start(
        root, {"steps": 9, "rate": 0.5}, **other, defaults={"rate": 0.5}, wandb="disabled"
    )
    run.log(3, {"loss": float("nan")})
    run.finish(LAST)
    return root


def test_unpacked_runs_have_the_bytes_they_were_packed_from(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")
    written = pack(runs, tmp_path / "packed")
    names = ["more.jsonl", "more.curves.jsonl", "toy.jsonl", "toy.curves.jsonl"]
    assert [path.name for path in written] == names
    assert unpack(tmp_path / "packed", tmp_path / "back") == 6
    assert files_of(tmp_path / "back") == files_of(runs)
    assert unpack(tmp_path / "packed", tmp_path / "back") == 0
    pack(tmp_path / "back", tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(tmp_path / "packed")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=6),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5)
            | st.floats(allow_nan=False, allow_infinity=False),
            lambda children: st.lists(children, max_size=3)
            | st.dictionaries(st.text(max_size=4), children, max_size=3),
            max_leaves=6,
        ),
        max_size=5,
    )
)  # fmt: skip
def test_whatever_a_configuration_holds_comes_back(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]
) -> None:
    root = tmp_path_factory.mktemp("any")
    run = Run.start(root / "runs", config, **NAMES, wandb="disabled")
    run.finish(LAST)
    pack(root / "runs", root / "packed")
    unpack(root / "packed", root / "back")
    assert files_of(root / "back") == files_of(root / "runs")
    assert [record.config for record in read_runs(root / "packed")] == [config]


def test_packed_and_unpacked_runs_read_alike(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")
    pack(runs, tmp_path / "packed")
    folders, lines = read_runs(runs), read_runs(tmp_path / "packed")
    assert len(folders) == len(lines) == 6
    for folder, line in zip(folders, lines, strict=True):
        assert (folder.config, folder.env, folder.result) == (line.config, line.env, line.result)
        assert folder.defaults == line.defaults and folder.digest == line.digest
        assert str(folder.metrics()) == str(line.metrics())  # str, as NaN is not NaN
        place = line.directory.relative_to(tmp_path / "packed")
        assert folder.directory.relative_to(runs) == place
    assert [r.result["experiment"] for r in read_runs(tmp_path / "packed", experiment="more")] == [
        "more"
    ]


def test_packing_adds_to_what_is_packed_and_replaces_the_same_run(tmp_path: Path) -> None:
    store(tmp_path / "first", NAMES, {"steps": 9}, LAST, metrics=LINES)
    pack(tmp_path / "first", tmp_path / "packed")
    store(tmp_path / "second", NAMES | {"seed": 1}, {"steps": 9}, LAST)
    other = {"selected": {"last": {"step": 9, "target_accuracy": 0.75}}}
    store(tmp_path / "second", NAMES, {"steps": 9}, other)
    pack(tmp_path / "second", tmp_path / "packed")
    found = read_runs(tmp_path / "packed")
    accuracies = [r.result["selected"]["last"]["target_accuracy"] for r in found]
    assert accuracies == [0.75, 0.1 + 0.2] and found[0].metrics() == []


def test_a_run_in_a_folder_counts_more_than_the_packed_one(tmp_path: Path) -> None:
    store(tmp_path, NAMES, {"steps": 9}, LAST)
    pack(tmp_path, tmp_path)
    (record,) = read_runs(tmp_path)
    assert record.curves is None
    shutil.rmtree(tmp_path / "toy")
    (record,) = read_runs(tmp_path)
    assert record.curves is not None


def test_a_packed_run_is_found_finished_and_not_run_again(tmp_path: Path) -> None:
    store(tmp_path / "runs", NAMES, {"steps": 9}, LAST)
    pack(tmp_path / "runs", tmp_path / "packed")
    run = Run.start(tmp_path / "packed", {"steps": 9}, **NAMES, wandb="disabled")
    assert run.finished and run.result()["selected"] == LAST["selected"]
    assert not (tmp_path / "packed/toy").exists()
    assert not Run.start(tmp_path / "packed", {"steps": 8}, **NAMES, wandb="disabled").finished
    again = Run.start(tmp_path / "packed", {"steps": 9}, **NAMES, wandb="disabled", force=True)
    assert not again.finished and again.directory.is_dir()


@pytest.mark.parametrize(
    ("own", "stored", "same"),
    [
        ({"a": 1}, {"config": {"a": 1}}, True),
        ({"a": 2}, {"config": {"a": 1}}, False),
        ({"a": 1, "new": 0}, {"config": {"a": 1}}, True),  # it has its default
        ({"a": 1, "new": 3}, {"config": {"a": 1}}, False),
        ({"a": 1, "unknown": 0}, {"config": {"a": 1}}, False),
        ({"a": 1}, {"config": {"a": 1, "threads": 2, "log_every": 5}}, True),  # no result of theirs
        ({"a": 1}, {"format": 2, "config": {"a": 1, "threads": 2}, "defaults": []}, False),
        ({"a": 1}, {"config": {"a": 1, "gone": 0}}, False),
        ({"a": 1}, {"format": 2, "config": {"a": 1, "gone": 0}, "defaults": ["gone"]}, True),
    ],
)
def test_which_configurations_are_one_run(
    own: dict[str, Any], stored: dict[str, Any], same: bool
) -> None:
    assert same_configuration(own, stored, {"new": 0, "a": 1}) is same


def test_a_new_setting_at_its_default_leaves_old_runs_finished(tmp_path: Path) -> None:
    folder = store(tmp_path, NAMES, {"steps": 9, "threads": 1}, LAST)
    usual = {"steps": 5, "warmup": 0}
    run = Run.start(tmp_path, {"steps": 9, "warmup": 0}, **NAMES, defaults=usual, wandb="disabled")
    assert run.finished and run.directory == folder
    other = Run.start(
        tmp_path, {"steps": 9, "warmup": 1}, **NAMES, defaults=usual, wandb="disabled"
    )
    assert not other.finished and other.directory != folder


# ---- damage


def test_a_changed_number_in_any_line_is_found(tmp_path: Path) -> None:
    store(tmp_path / "runs", NAMES, {"steps": 9, "rate": 0.1}, LAST)
    store(tmp_path / "runs", NAMES | {"seed": 1}, {"steps": 9, "rate": 0.2}, LAST)
    pack(tmp_path / "runs", tmp_path)
    path = tmp_path / "toy.jsonl"
    whole = path.read_text()
    for old, new in (('"steps":9', '"steps":8'), ('"rate":0.2', '"rate":0.3'), ('"a b"', '"a"')):
        assert old in whole
        path.write_text(whole.replace(old, new))
        with pytest.raises(ValueError, match=r"toy.jsonl, line \d was changed or damaged"):
            read_runs(tmp_path)


@pytest.mark.parametrize("cut", [1, 20, 150, -150, -1, -40])
def test_a_packed_file_that_was_cut_off_is_named(tmp_path: Path, cut: int) -> None:
    store(tmp_path / "runs", NAMES, {"steps": 9}, LAST, metrics=LINES)
    pack(tmp_path / "runs", tmp_path)
    path = tmp_path / "toy.jsonl"
    whole = path.read_text()
    path.write_text(whole[:cut])
    if cut == -1:  # the last newline alone
        assert len(read_runs(tmp_path)) == 1
        return
    with pytest.raises(ValueError, match="toy.jsonl, line"):
        read_runs(tmp_path)


def test_metrics_that_are_gone_are_named(tmp_path: Path) -> None:
    store(tmp_path / "runs", NAMES, {"steps": 9}, LAST, metrics=LINES)
    pack(tmp_path / "runs", tmp_path)
    (tmp_path / "toy.curves.jsonl").write_text("")
    (record,) = read_runs(tmp_path)
    with pytest.raises(ValueError, match="has no metrics of the run"):
        record.metrics()


def test_files_of_other_hands_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = store(tmp_path / "runs", NAMES, {"steps": 9}, LAST)
    (folder / "env.json").write_text('{"cores":2}')
    with pytest.raises(ValueError, match="env.json was written by other hands"):
        pack(tmp_path / "runs", tmp_path / "packed")
    assert not list((tmp_path / "packed").iterdir())
    with pytest.raises(FileNotFoundError, match="no folder of runs"):
        pack(tmp_path / "nowhere", tmp_path / "packed")
    with pytest.raises(FileNotFoundError, match="no packed runs of toy"):
        unpack(tmp_path / "packed", tmp_path / "back", experiment="toy")


def test_a_changed_configuration_of_a_folder_is_found(tmp_path: Path) -> None:
    folder = store(tmp_path, NAMES, {"steps": 9}, LAST)
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"steps": 9', '"steps": 10'))
    with pytest.raises(ValueError, match="config.json was changed or damaged"):
        read_runs(tmp_path)


# ---- the stored records


def test_every_stored_record_is_whole() -> None:
    """All digests are computed again, and every run has its metrics."""
    records = read_runs(ROOT / "experiments/records")
    assert len(records) >= 2400
    assert len({record.digest for record in records}) == len(records)
    curves = {path: path.with_name(f"{path.stem}.curves.jsonl") for path in
              packed_files(ROOT / "experiments/records")}  # fmt: skip
    digests = {
        json.loads(line)["digest"]
        for path in curves.values()
        for line in path.open(encoding="utf-8")
    }
    assert {record.digest for record in records} == digests
