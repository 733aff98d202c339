"""Users' own arrays, tables, datasets and transforms as domains and streams.

Oracles: NumPy, pandas and PyTorch's own DataLoader on the same data, torchvision called plainly.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from da._torchvision import torchvision
from da.data.batches import LabelledBatches, PairedBatches, TargetBatches
from da.data.datasets import labels_of
from da.data.domain import Labelled, Unlabelled
from da.data.loading import load
from da.data.one_by_one import OneByOne, as_transform
from da.data.sampling import drawing_from, seeded
from da.data.transforms import ImageTransform, identity

import torchvision.transforms as v1  # isort: skip
import torchvision.transforms.v2 as v2  # isort: skip

X = torch.arange(12.0).reshape(6, 2)
Y = torch.tensor([0, 1, 2, 0, 1, 2])
ROWS = torch.tensor([4, 0])
TABLE = pd.DataFrame(X.numpy(), columns=["height", "weight"])


class Own(Dataset):
    """A dataset that says nothing of its labels."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return X[row], int(Y[row])


class Bare(Own):
    def __getitem__(self, row: int) -> Tensor:  # type: ignore[override]
        return X[row]


class Noisy(Own):
    """Every sample with noise of three global generators, as augmentations have."""

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        noise = torch.rand(2) + float(np.random.rand()) + torch.rand(())
        return X[row] + noise, int(Y[row])


class Endless(IterableDataset):
    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(X)


# ---------------------------------------------------------------- samples and labels


@pytest.mark.parametrize(
    "x",
    [
        X,
        X.numpy(),
        X.double().numpy(),
        X.numpy().astype(">f4"),
        X.tolist(),
        TABLE,
        TABLE.astype(np.int32),
        sparse.csr_matrix(X.numpy()),
        Bare(),
        TensorDataset(X, Y),
    ],
    ids=lambda x: type(x).__name__,
)
def test_samples_of_any_kind_give_their_rows(x: object) -> None:
    domain = Unlabelled(x)
    assert len(domain) == 6
    torch.testing.assert_close(domain.rows(ROWS).float(), X[ROWS])
    torch.testing.assert_close(domain.subset(ROWS).rows(torch.tensor([1])).float(), X[:1])


def test_columns_of_several_types_are_numbers() -> None:
    table = pd.DataFrame({"tall": [True, False], "height": [1.5, 0.5], "count": [3, 4]})
    assert Unlabelled(table).rows(torch.tensor([0, 1])).tolist() == [[1, 1.5, 3], [0, 0.5, 4]]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (TABLE.assign(city="Rome"), "the columns 'city' hold text"),
        (np.array([["a", "b"]]), "x must hold numbers; got <U1, such as"),
        (np.array([["2020-01-01"]], dtype="datetime64[D]"), "x must hold numbers"),
        (np.array([[None, 1.0], [object(), 2.0]]), "x must hold numbers"),
        (Endless(), "must be map-style"),
    ],
)
def test_samples_that_are_no_numbers_are_named(x: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Unlabelled(x)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32, np.int64, bool])
def test_whole_numbers_of_any_width_are_classes(kind: type) -> None:
    expected = (Y > 0).long() if kind is bool else Y
    for y in (Y.numpy().astype(kind), torch.from_numpy(Y.numpy().astype(kind))):
        assert torch.equal(Labelled(X, y).y, expected)
    assert Labelled(X, pd.Series(Y.numpy().astype(kind))).y.dtype == torch.int64


def test_floats_stay_numbers_and_keep_their_precision() -> None:
    for kind in (torch.float32, torch.float64):
        assert Labelled(X, Y.to(kind)).y.dtype == kind
        assert Labelled(X, Y.to(kind).numpy()).y.dtype == kind
    assert Labelled(X, Y.half()).y.dtype == torch.float32


@pytest.mark.parametrize(
    "y", [np.array(list("abcabc")), pd.Series(list("abcabc")).astype("category"), list("abcabc")]
)
def test_labels_that_are_text_say_how_to_number_them(y: object) -> None:
    with pytest.raises(TypeError, match="y must hold numbers; .*numpy.searchsorted"):
        Labelled(X, y)


def test_a_single_column_of_labels_says_ravel() -> None:
    with pytest.raises(ValueError, match=r"got \(6, 1\).*pass y.ravel\(\)"):
        Labelled(X, pd.DataFrame({"y": Y.numpy()}))


def test_labels_are_copied_from_arrays_that_cannot_be_written() -> None:
    y = Y.numpy().copy()
    y.flags.writeable = False
    assert torch.equal(Labelled(X, y).y, Y)


# ---------------------------------------------------------------- datasets


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (TensorDataset(X, Y), Y),
        (Own(), Y),
        (Subset(Own(), [5, 0]), Y[[5, 0]]),
        (Subset(TensorDataset(X, Y), [5, 0]), Y[[5, 0]]),
        (ConcatDataset([Own(), TensorDataset(X, Y + 3)]), torch.cat([Y, Y + 3])),
    ],
    ids=["tensors", "own", "subset", "subset of tensors", "several"],
)
def test_labels_of_datasets(dataset: Dataset, expected: Tensor) -> None:
    domain = Labelled.of(dataset)
    assert torch.equal(domain.y, expected)
    index = torch.arange(len(domain))
    read = torch.stack([dataset[row][0] for row in index.tolist()])
    assert torch.equal(domain.rows(index), read)


def test_datasets_without_labels() -> None:
    assert labels_of(Bare()) is None and labels_of(TensorDataset(X)) is None
    assert labels_of(ConcatDataset([Own(), Bare()])) is None
    with pytest.raises(ValueError, match="Bare has no labels"):
        Labelled.of(Bare())


def test_an_image_folder_is_a_domain(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for name, level in (("ant", 10), ("bee", 200)):
        (tmp_path / name).mkdir()
        for number in range(2):
            image = Image.fromarray(np.full((6, 8, 3), level + number, np.uint8))
            image.save(tmp_path / name / f"{number}.png")
    folder = torchvision.datasets.ImageFolder(tmp_path)
    domain = Labelled.of(folder)  # images of PIL of one size
    assert domain.x.shape == (4, 3, 6, 8) and domain.y.tolist() == [0, 0, 1, 1]
    assert domain.rows(torch.tensor([3]))[0, 0, 0].tolist() == [201] * 8
    tensors = torchvision.datasets.ImageFolder(tmp_path, transform=v1.ToTensor())
    stream = PairedBatches(tensors, tensors, batch_size=4, seed=0, transform=identity)
    batch = stream.batch(0)
    assert batch.source_y.tolist() == [int(level > 0.5) for level in batch.source_x[:, 0, 0, 0]]


def test_images_of_several_sizes_ask_for_a_transform() -> None:
    class Sizes(Own):
        def __getitem__(self, row: int) -> tuple[Image.Image, int]:  # type: ignore[override]
            return Image.new("RGB", (4 + row, 4)), 0

    domain = Labelled.of(Sizes())
    with pytest.raises(ValueError, match="the samples of Sizes must have one shape.*Resize"):
        domain.rows(torch.tensor([0, 1]))


def test_samples_of_a_dataset_that_are_no_arrays_are_named() -> None:
    class Dicts(Own):
        def __getitem__(self, row: int) -> dict:  # type: ignore[override]
            return {"image": X[row]}

    with pytest.raises(TypeError, match="the samples of Dicts must be tensors.*dict"):
        Unlabelled(Dicts())


def test_streams_take_datasets() -> None:
    data = TensorDataset(X, Y)
    options = {"batch_size": 3, "seed": 1, "transform": identity}
    pair = PairedBatches(data, data, **options).batch(1)  # type: ignore[arg-type]
    same = PairedBatches(Labelled(X, Y), Unlabelled(X), **options).batch(1)  # type: ignore[arg-type]
    assert torch.equal(pair.source_x, same.source_x) and torch.equal(pair.source_y, same.source_y)
    assert torch.equal(pair.target_x, same.target_x)
    assert torch.equal(
        LabelledBatches(Own(), **options).batch(0).x,  # type: ignore[arg-type]
        LabelledBatches(Labelled(X, Y), **options).batch(0).x,  # type: ignore[arg-type]
    )
    assert TargetBatches(Bare(), **options).batch(0).target_x.shape == (3, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (X, Unlabelled(X), "source must be a Labelled or a Dataset; got Tensor"),
        (Unlabelled(X), Unlabelled(X), "source must be a Labelled or a Dataset; got Unlabelled"),
        (Labelled(X, Y), X, "target must be an Unlabelled or a Dataset; got Tensor"),
    ],
)
def test_what_is_no_domain_is_named(source: object, target: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        PairedBatches(source, target, batch_size=2, seed=0, transform=identity)  # type: ignore[arg-type]


def test_random_datasets_are_the_same_for_any_number_of_workers() -> None:
    stream = PairedBatches(Noisy(), Noisy(), batch_size=3, seed=0, transform=identity)
    before = torch.get_rng_state()
    alone, shared = ([*load(stream, start=0, stop=4, workers=w)] for w in (0, 2))
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(alone, shared, strict=True):
        assert torch.equal(a.source_x, b.source_x) and torch.equal(a.target_x, b.target_x)
    noise = alone[0].source_x - X[alone[0].source_index]
    assert len(noise.unique()) == 6  # each value has noise of its own


def test_global_generators_return_after_drawing() -> None:
    import random

    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    draws = []
    for _ in range(2):
        with drawing_from(seeded(3)):
            draws.append((torch.rand(()).item(), random.random(), np.random.rand()))
    assert draws[0] == draws[1]
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()


# ---------------------------------------------------------------- transforms

IMAGES = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=seeded(0))
WEIGHTS = torchvision.models.ResNet18_Weights.DEFAULT


@pytest.mark.parametrize(
    "transform",
    [
        v1.Compose([v1.CenterCrop(6), v1.ConvertImageDtype(torch.float)]),
        v2.Compose([v2.CenterCrop(6), v2.ToDtype(torch.float, scale=True)]),
        nn.Sequential(v2.CenterCrop(6), v2.ToDtype(torch.float, scale=True)),
        WEIGHTS.transforms(crop_size=6, resize_size=8),
        lambda image: image.float() / 255,
    ],
    ids=["v1", "v2", "Sequential", "weights", "lambda"],
)
def test_torchvisions_transforms_are_applied_image_by_image(transform: object) -> None:
    expected = torch.stack([transform(image) for image in IMAGES])  # type: ignore[operator]
    found = as_transform(transform)(IMAGES, seeded(0))  # type: ignore[arg-type]
    assert torch.equal(found, expected)


def test_to_tensor_gets_images_of_pil() -> None:
    transform = v1.Compose([v1.Resize(8), v1.Compose([v1.ToTensor()])])
    found = as_transform(transform)(IMAGES, seeded(0))
    torch.testing.assert_close(found, IMAGES / 255)
    torch.testing.assert_close(
        as_transform(v1.ToTensor())(IMAGES[:, :1], seeded(0)), IMAGES[:, :1] / 255
    )
    with pytest.raises(ValueError, match="ToTensor takes images"):
        as_transform(v1.ToTensor())(X, seeded(0))


def test_random_transforms_follow_the_generator_and_differ_between_images() -> None:
    x = IMAGES[:1].expand(40, -1, -1, -1)
    transform = as_transform(v2.Compose([v2.RandomHorizontalFlip(), v2.ToDtype(torch.float)]))
    before = torch.get_rng_state()
    first, again, other = (transform(x, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    flipped = (first == x.flip(3)).flatten(1).all(dim=1)
    assert 8 <= int(flipped.sum()) <= 32  # 20 on average, deviation 3.2


def test_transforms_with_a_generator_stay_as_they_are() -> None:
    class Module(nn.Module):
        def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
            return x

    def optional(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return x

    for own in (identity, ImageTransform(6), Module(), optional, lambda x, _: x):
        assert as_transform(own) is own  # type: ignore[arg-type]
    for other in (torch.sigmoid, v1.ToTensor(), lambda x: x, lambda x, size=3: x):
        assert isinstance(as_transform(other), OneByOne)


@pytest.mark.parametrize("transform", [None, 3, ImageTransform])
def test_what_cannot_be_called_is_no_transform(transform: object) -> None:
    with pytest.raises(TypeError, match="transform must be a function"):
        PairedBatches(Labelled(X, Y), Unlabelled(X), batch_size=2, seed=0, transform=transform)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (WEIGHTS.transforms(), r"on a sample of shape \(1, 8, 8\).*transform\(x, generator\)"),
        (lambda x: (x, x), "transform must give a tensor; got tuple"),
        (v1.RandomCrop(20), "transform failed on a sample"),
    ],
)  # fmt: skip
def test_a_transform_that_fails_says_what_it_was_given(transform: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_transform(transform)(IMAGES[:, :1], seeded(0))  # type: ignore[arg-type]


def test_results_of_several_shapes_are_refused() -> None:
    sizes = iter((3, 4))
    with pytest.raises(ValueError, match="must give all samples one shape; got .*3.* and .*4"):
        as_transform(lambda x: torch.zeros(next(sizes)))(X[:2], seeded(0))
