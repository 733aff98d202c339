"""Image transforms.

Oracles: NumPy slices and np.flip, the closed form of normalisation, torch's interpolate, PIL's
resize, statistics.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from da.data.transforms import (
    HALF,
    IMAGENET,
    ImageTransform,
    centre_crop,
    identity,
    random_crop,
    random_flip,
    random_resized_crop,
)

WHOLE = (2.0, 2.0)  # an area that, clipped to the image, is all of it whatever the aspect ratio


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(seed))


def coordinates(n: int, height: int, width: int) -> Tensor:
    """Images whose two channels are row and column: a resampled pixel then says where it was."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns]).float().expand(n, 2, height, width)


def test_identity_converts_only() -> None:
    x = torch.arange(6, dtype=torch.float64).view(3, 2)
    assert torch.equal(identity(x, seeded()), x.float())


@settings(deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), data=st.data())
def test_centre_crop_is_the_middle_slice(height: int, width: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, min(height, width)))
    x = noise(2, 3, height, width)
    top, left = (height - size) // 2, (width - size) // 2
    assert np.array_equal(
        centre_crop(x, size).numpy(), x.numpy()[:, :, top : top + size, left : left + size]
    )


@settings(deadline=None)
@given(
    height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 1000), data=st.data()
)
def test_random_crop_is_a_slice(height: int, width: int, seed: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, min(height, width)))
    x = coordinates(3, height, width).to(torch.uint8)
    cropped = random_crop(x, size, seeded(seed)).numpy()
    assert cropped.shape == (3, 2, size, size) and cropped.dtype == np.uint8
    for image, window in zip(x.numpy(), cropped, strict=True):
        top, left = window[:, 0, 0]
        assert np.array_equal(window, image[:, top : top + size, left : left + size])


def test_random_crop_reaches_every_corner_evenly() -> None:
    corners = random_crop(coordinates(6000, 7, 6), 5, seeded())[:, :, 0, 0].numpy()
    counts = np.array(
        [[((corners == (top, left)).all(1)).sum() for left in range(2)] for top in range(3)]
    )
    assert counts.sum() == 6000
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(
        1000
    )  # five standard deviations of a uniform draw


def test_flip_is_np_flip_with_probability_one_half() -> None:
    x = noise(4000, 1, 3, 4)
    flipped = random_flip(x, seeded()).numpy()
    mirrored = np.array(
        [np.array_equal(a, np.flip(b, 2)) for a, b in zip(flipped, x.numpy(), strict=True)]
    )
    kept = np.array([np.array_equal(a, b) for a, b in zip(flipped, x.numpy(), strict=True)])
    assert (mirrored ^ kept).all()
    assert abs(mirrored.sum() - 2000) < 5 * math.sqrt(1000)


def test_flip_leaves_its_input_as_it_is() -> None:
    x = noise(20, 1, 3, 4)
    before = x.clone()
    random_flip(x, seeded())
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_whole_image_resized_to_its_own_size_is_itself(dtype: torch.dtype) -> None:
    x = noise(4, 3, 24, 24).to(dtype)
    whole = random_resized_crop(x, 24, seeded(), scale=WHOLE)
    assert whole.dtype == torch.float32
    torch.testing.assert_close(whole, x.float(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("size", [16, 37, 48])
def test_the_whole_image_resized_is_torch_interpolate(size: int) -> None:
    x = noise(2, 3, 32, 32)
    resized = random_resized_crop(x, size, seeded(), scale=WHOLE)
    expected = torch.nn.functional.interpolate(
        x.float(), size=(size, size), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(resized, expected, atol=5e-3, rtol=0)


def test_the_whole_smooth_image_enlarged_is_pils_resize() -> None:
    rows, columns = np.mgrid[:32, :32]
    image = (128 + 100 * np.sin(rows / 9) * np.cos(columns / 7)).astype(np.float32)
    resized = random_resized_crop(torch.from_numpy(image)[None, None], 48, seeded(), scale=WHOLE)[
        0, 0
    ]
    expected = np.asarray(Image.fromarray(image).resize((48, 48), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(resized.numpy(), expected, atol=5e-2)


def windows(
    x: Tensor, size: int, *, scale: tuple[float, float] = (0.08, 1.0)
) -> tuple[Tensor, ...]:
    """Top, left, height and width of each window in pixels, read off two resampled pixels."""
    found = random_resized_crop(x, size, seeded(), scale=scale)
    middle = size // 2
    pitch_y = found[:, 0, middle + 1, middle] - found[:, 0, middle, middle]
    pitch_x = found[:, 1, middle, middle + 1] - found[:, 1, middle, middle]
    top = found[:, 0, middle, middle] + 0.5 - (middle + 0.5) * pitch_y
    left = found[:, 1, middle, middle] + 0.5 - (middle + 0.5) * pitch_x
    return top, left, size * pitch_y, size * pitch_x


@pytest.mark.parametrize("shape", [(40, 40), (30, 60)])
def test_windows_stay_inside(shape: tuple[int, int]) -> None:
    top, left, height, width = windows(coordinates(500, *shape), 20)
    assert top.min() > -0.02 and left.min() > -0.02
    assert (top + height).max() < shape[0] + 0.02 and (left + width).max() < shape[1] + 0.02
    assert top.std() > 1 and left.std() > 1


def test_area_is_uniform_and_shape_log_uniform() -> None:
    """With small areas nothing is clipped.

    Area U(0.1, 0.5) has mean 0.3 and variance 0.4^2 / 12; the log ratio is U(-log 4/3, log 4/3).
    """
    _, _, height, width = windows(coordinates(4000, 40, 40), 10, scale=(0.1, 0.5))
    area, ratio = (height * width / 1600).double(), (width / height).log().double()
    assert abs(area.mean() - 0.3) < 0.01 and abs(area.std() - 0.4 / math.sqrt(12)) < 0.005
    assert area.min() > 0.099 and area.max() < 0.501
    bound = math.log(4 / 3)
    assert (
        abs(ratio.mean()) < 0.02
        and abs(ratio.std() - bound / math.sqrt(3)) < 0.01
        and ratio.abs().max() < bound + 0.01
    )


def test_windows_differ_between_the_images_of_a_batch() -> None:
    out = random_resized_crop(noise(1, 1, 16, 16).expand(6, 1, 16, 16), 8, seeded())
    assert len({image.numpy().tobytes() for image in out}) == 6


@pytest.mark.parametrize("mean, std", [IMAGENET, HALF, ((0.5,), (0.5,))])
def test_normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    x = noise(3, 3, 10, 12)
    before = x.clone()
    out = ImageTransform(8, mean, std)(x, seeded())
    m, s = (
        np.broadcast_to(np.array(v, dtype=np.float64), (3,))[:, None, None] for v in (mean, std)
    )
    expected = (x.numpy()[:, :, 1:9, 2:10] / 255.0 - m) / s
    assert out.dtype == torch.float32 and torch.equal(x, before)
    np.testing.assert_allclose(out.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("augmentation", ["none", "flip", "crop", "resized_crop"])
def test_the_generator_decides_everything(augmentation: str) -> None:
    transform = ImageTransform(12, *IMAGENET, augmentation=augmentation)  # type: ignore[arg-type]
    x = noise(16, 3, 16, 16)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one, same, other = (transform(x, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert torch.equal(one, other) == (augmentation == "none")
    assert torch.equal(state, torch.get_rng_state())
    assert one.shape == (16, 3, 12, 12) and one.dtype == torch.float32


def test_evaluation_draws_nothing() -> None:
    generator = seeded()
    before = generator.get_state()
    ImageTransform(8)(noise(2, 1, 8, 8), generator)
    assert torch.equal(generator.get_state(), before)


def test_flip_and_crop_together() -> None:
    """Every output of the crop augmentation is a normalised slice or a mirrored one."""
    x = noise(30, 1, 9, 9)
    out = ImageTransform(7, (0.0,), (1 / 255,), "crop")(x, seeded()).round().to(torch.uint8).numpy()
    for image, found in zip(x.numpy(), out, strict=True):
        slices = [image[:, i : i + 7, j : j + 7] for i in range(3) for j in range(3)]
        assert any(np.array_equal(found, s) or np.array_equal(found, s[:, :, ::-1]) for s in slices)


@pytest.mark.parametrize("shape", [(9, 20), (20, 9)])
@pytest.mark.parametrize("augmentation", ["none", "flip", "crop", "resized_crop"])
def test_images_that_are_too_small(shape: tuple[int, int], augmentation: str) -> None:
    with pytest.raises(
        ValueError,
        match=rf"size: the stored images are {shape[0]} x {shape[1]} and cannot be cropped to 10",
    ):
        transform = ImageTransform(10, augmentation=augmentation)  # type: ignore[arg-type]
        transform(noise(2, 1, *shape), seeded())


def test_the_crops_themselves_refuse_small_images() -> None:
    with pytest.raises(ValueError, match="size"):
        centre_crop(noise(1, 1, 4, 9), 5)
    with pytest.raises(ValueError, match="size"):
        random_crop(noise(1, 1, 4, 9), 5, seeded())


def test_other_types_and_channels_are_refused() -> None:
    with pytest.raises(TypeError, match="uint8"):
        ImageTransform(4)(torch.rand(2, 3, 4, 4), seeded())
    with pytest.raises(ValueError, match="mean and std"):
        ImageTransform(4, *IMAGENET)(noise(2, 1, 4, 4), seeded())
    with pytest.raises(ValueError, match="mean and std"):
        ImageTransform(4, (0.5, 0.5, 0.5), (0.5,))(noise(2, 3, 4, 4), seeded())
