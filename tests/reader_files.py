"""Small honest files of every format that is read, with the functions that read them."""

from __future__ import annotations

import bz2
import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

from da.adapt.read_arrays import read_arrays
from da.adapt.read_tables import read_table
from da.data.files.features import read_features
from da.data.files.folders import naming
from da.data.files.image_lists import read_image_list
from da.data.files.mnist_usps import read_digit_file
from da.data.files.photographs import read_photographs
from da.data.files.reviews import _parse
from da.networks import load_weights
from da.records.packing import pack, read_packed
from da.records.predictions import read_predictions
from da.records.record import read_record
from da.records.run import Run
from da.train.saving import load_sealed, save_sealed

X = np.arange(12.0).reshape(4, 3) / 8
Y = np.array([0, 1, 1, 0])
DIGEST = "0123456789ab"


class Reader(NamedTuple):
    """A format.

    Attributes:
        make: Folder -> the honest file in it.
        read: The file -> what it says, as something that can be compared.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]


def plain(value: Any) -> Any:
    """Arrays and tensors as their bytes, so that == compares them."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value


def written(folder: Path, name: str, write: Callable[[Path], object]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    return path


# ---------------------------------------------------------------- images


def image(suffix: str, mode: str = "RGB", **options: Any) -> Reader:
    def make(folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).convert(mode)
        return written(folder, f"x{suffix}", lambda path: picture.save(path, **options))

    return Reader(make, lambda path: plain(read_photographs([path], size=6)))


# ---------------------------------------------------------------- arrays and tables


def make_npz(path: Path) -> None:
    np.savez_compressed(path, x=X, y=Y)


def make_mat73(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=X.T, compression="gzip")
        file["y"] = Y


def make_svmlight(path: Path) -> None:
    lines = [f"{y} " + " ".join(f"{k}:{z}" for k, z in enumerate(x)) for x, y in zip(X, Y)]  # noqa: B905
    path.write_text("\n".join(lines) + "\n")


def make_csv(path: Path) -> None:
    rows = [f"{a},{b},{c},{'cup' if y else 'mug'}" for (a, b, c), y in zip(X, Y, strict=True)]
    path.write_text("height,width,depth,label\n" + "\n".join(rows) + "\n")


def make_parquet(path: Path) -> None:
    import pandas

    pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "word": ["x", "y", None, "z"]}).to_parquet(path)


def features(suffix: str, make: Callable[[Path], object]) -> Reader:
    def read(path: Path) -> Any:
        found = read_features(path)
        return plain([found.x, found.labels, found.names])

    return Reader(lambda folder: written(folder, f"x{suffix}", make), read)


def arrays(suffix: str, make: Callable[[Path], object]) -> Reader:
    return Reader(
        lambda folder: written(folder, f"x{suffix}", make), lambda path: plain(read_arrays(path))
    )


def table(suffix: str, make: Callable[[Path], object]) -> Reader:
    def read(path: Path) -> Any:
        found, notes = read_table(path)
        return found.to_json(), notes

    return Reader(lambda folder: written(folder, f"x{suffix}", make), read)


# ---------------------------------------------------------------- benchmarks


def idx(folder: Path) -> Path:
    pixels = struct.pack(">HBB3I", 0, 8, 3, 2, 2, 2) + bytes(range(8))
    labels = struct.pack(">HBB1I", 0, 8, 1, 2) + bytes([3, 4])
    place = folder / "digits"
    written(place, "train-labels-idx1-ubyte.gz", lambda p: p.write_bytes(gzip.compress(labels)))
    return written(
        place, "train-images-idx3-ubyte.gz", lambda p: p.write_bytes(gzip.compress(pixels))
    )


def keras(folder: Path) -> Path:
    x, y = np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.array([3, 4], dtype=np.uint8)
    return written(folder / "digits", "mnist.npz", lambda p: np.savez(p, x_train=x, y_train=y))


def usps_h5(folder: Path) -> Path:
    import h5py

    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["train/data"] = np.linspace(0, 1, 512).reshape(2, 256)
            file["train/target"] = np.array([3, 4])

    return written(folder / "digits", "usps.h5", write)


def usps_bz2(folder: Path) -> Path:
    text = "".join(f"{y} 1:-1 2:0.5 256:1\n" for y in (4, 5))
    return written(
        folder / "digits", "usps.bz2", lambda p: p.write_bytes(bz2.compress(text.encode()))
    )


def digits(domain: str, make: Callable[[Path], Path]) -> Reader:
    return Reader(make, lambda path: plain(read_digit_file(domain, "train", path.parents[1])))


def make_list(folder: Path) -> Path:
    written(folder, "cup/1.png", lambda path: Image.new("RGB", (2, 2)).save(path))
    return written(folder, "list.txt", lambda path: path.write_text("data/cup/1.png 0\n"))


def read_list(path: Path) -> Any:
    files, labels = read_image_list(path, path.parent, 2)
    return [str(file.relative_to(path.parent)) for file in files], labels


def read_text_reviews(path: Path) -> list[str]:
    with naming(path):
        return _parse(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- records, checkpoints, weights


def finished(folder: Path, name: str = "result.json") -> Path:
    names = {"experiment": "toy", "method": "m", "source": "a", "target": "b", "seed": 0}
    run = Run.start(folder / "runs", {"rate": 0.5}, **names, wandb="disabled")  # type: ignore[arg-type]
    run.log(1, {"loss": 0.5})
    logits = np.array([[1.0, 2.0], [0.5, 0.25]], dtype=np.float32)
    np.savez_compressed(run.directory / "predictions.npz", target_logits=logits)
    run.finish({"selected": {"last": {"step": 1, "target_accuracy": 0.5}}})
    return run.directory / name


def record(name: str) -> Reader:
    def read(path: Path) -> Any:
        found = read_record(path.parent)
        about = (found.config, found.env, found.result, found.metrics())
        return about, plain(read_predictions(found))

    return Reader(lambda folder: finished(folder, name), read)


def unchecked(name: str) -> Reader:
    """Of a run from before there were checksums."""

    def make(folder: Path) -> Path:
        path = finished(folder, name)
        (path.parent / "checksums.json").unlink()
        return path

    return Reader(make, record(name).read)


def packed(name: str) -> Reader:
    def make(folder: Path) -> Path:
        finished(folder)
        pack(folder / "runs", folder / "packed")
        return folder / "packed" / name

    def read(path: Path) -> Any:
        found = read_packed(path.parent / "toy.jsonl")
        return [
            (each.config, each.env, each.result, each.metrics(), plain(read_predictions(each)))
            for each in found
        ]

    return Reader(make, read)


def make_checkpoint(folder: Path) -> Path:
    state = {"sealed": True, "step": 3, "weights": torch.arange(6.0)}
    previous = folder / "previous.pt"
    return written(
        folder,
        "checkpoint.pt",
        lambda path: save_sealed(state, path, digest=DIGEST, step=3, previous=previous),
    )


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def read_weights(path: Path) -> Any:
    module = network()
    load_weights(module, path)
    return plain(dict(module.state_dict()))


def make_safetensors(path: Path) -> None:
    from safetensors.torch import save_file

    save_file(network().state_dict(), path)


READERS: dict[str, Reader] = {
    "png": image(".png"),
    "png, palette": image(".png", "P"),
    "jpg": image(".jpg"),
    "tif": image(".tif", compression="tiff_deflate"),
    "tif, 16 bits": image(".tif", "I;16"),
    "gif": image(".gif", "P"),
    "bmp": image(".bmp"),
    "webp": image(".webp"),
    "ppm": image(".ppm"),
    "features npz": features(".npz", make_npz),
    "features npy": features(".npy", lambda path: np.save(path, X)),
    "features pt": features(".pt", lambda path: torch.save({"x": torch.from_numpy(X)}, path)),
    "features svmlight": features(".svmlight", make_svmlight),
    "features csv": features(".csv", make_csv),
    "arrays npz": arrays(".npz", make_npz),
    "arrays pt": arrays(".pt", lambda path: torch.save(torch.from_numpy(X), path)),
    "arrays mat": arrays(".mat", lambda path: savemat(path, {"x": X, "y": Y}, do_compression=True)),
    "arrays mat 7.3": arrays(".mat", make_mat73),
    "table csv": table(".csv", make_csv),
    "table parquet": table(".parquet", make_parquet),
    "mnist idx": digits("mnist", idx),
    "mnist npz": digits("mnist", keras),
    "usps h5": digits("usps", usps_h5),
    "usps bz2": digits("usps", usps_bz2),
    "image list": Reader(make_list, read_list),
    "reviews": Reader(
        lambda folder: written(
            folder, "x.parsed", lambda p: p.write_text("<reviews><review>a b</review></reviews>")
        ),
        read_text_reviews,
    ),
    **{
        f"record {name}": record(name)
        for name in (
            "result.json",
            "config.json",
            "env.json",
            "metrics.jsonl",
            "checksums.json",
            "predictions.npz",
        )
    },
    **{
        f"old record {name}": unchecked(name)
        for name in ("result.json", "env.json", "metrics.jsonl")
    },
    **{
        f"packed {name}": packed(name)
        for name in ("toy.jsonl", "toy.curves.jsonl", "toy.predictions.npz")
    },
    "checkpoint": Reader(make_checkpoint, lambda path: plain(load_sealed(path, DIGEST))),
    "weights": Reader(
        lambda folder: written(folder, "w.pt", lambda p: torch.save(network().state_dict(), p)),
        read_weights,
    ),
    "safetensors": Reader(
        lambda folder: written(folder, "w.safetensors", make_safetensors), read_weights
    ),
}
