"""The embedded benchmark.

Oracles: scikit-learn's load_digits itself, PIL's rotation, torch's interpolate, a fresh process.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from da.data.digits import DIGITS, read_digits

CHANGED = [domain for domain in DIGITS.domains if domain != "clean"]


def enlarged(small: np.ndarray) -> np.ndarray:
    """Images (n, 8, 8) in 0 ... 16 as float (n, 16, 16) in [0, 1], bilinearly by torch."""
    x = torch.from_numpy(small)[:, None] / 16
    return torch.nn.functional.interpolate(x, size=(16, 16), mode="bilinear", align_corners=False)[
        :, 0
    ].numpy()


def rows_of(x: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in x}


def originals() -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Of all 1,797 digits: the bytes of the clean version, the enlarged images, the labels."""
    images, labels = load_digits(return_X_y=True)
    big = enlarged(images.reshape(-1, 8, 8))
    return [image.tobytes() for image in np.round(big * 255).astype(np.uint8)], big, labels


@pytest.fixture(scope="module")
def halves() -> tuple[np.ndarray, np.ndarray]:
    """Positions in load_digits of the clean half and of the others, found by the clean images."""
    keys, _, _ = originals()
    clean = rows_of(read_digits("clean").x)
    member = np.array([key in clean for key in keys])
    return np.flatnonzero(member), np.flatnonzero(~member)


@pytest.mark.parametrize("domain", DIGITS.domains)
def test_shapes_counts_and_classes(domain: str) -> None:
    digits = read_digits(domain)
    n = DIGITS.domains[domain]
    assert digits.x.shape == (n, 1, 16, 16) and digits.x.dtype == torch.uint8
    assert digits.y.shape == (n,) and digits.y.dtype == torch.int64
    assert (
        sorted(set(digits.y.tolist())) == [int(name) for name in DIGITS.classes] == list(range(10))
    )


def test_counts_add_up_to_load_digits(halves: tuple[np.ndarray, np.ndarray]) -> None:
    assert [len(half) for half in halves] == [898, 899]
    assert DIGITS.domains["clean"] + DIGITS.domains["noisy"] == len(load_digits().target) == 1797
    assert all(DIGITS.domains[domain] == 899 for domain in CHANGED)


def test_tasks_go_from_clean_to_each_change() -> None:
    assert DIGITS.tasks == tuple(("clean", domain) for domain in CHANGED)


def test_the_clean_half_is_load_digits_enlarged(halves: tuple[np.ndarray, np.ndarray]) -> None:
    _, big, labels = originals()
    clean = read_digits("clean")
    np.testing.assert_allclose(clean.x[:, 0].numpy() / 255, big[halves[0]], atol=0.5 / 255 + 1e-6)
    assert np.array_equal(clean.y.numpy(), labels[halves[0]])


def test_halves_are_disjoint_digits_and_targets_are_the_other_half(
    halves: tuple[np.ndarray, np.ndarray],
) -> None:
    """Labels of the targets are those of the other half in order, and pixels fit those digits."""
    _, big, labels = originals()
    for domain in CHANGED:
        assert np.array_equal(read_digits(domain).y.numpy(), labels[halves[1]])
    blurred = read_digits("blurred").x[:, 0].numpy().reshape(899, -1).astype(float)
    noisy = read_digits("noisy").x[:, 0].numpy().reshape(899, -1).astype(float)
    everyone = big.reshape(1797, -1)
    for changed in (
        blurred,
        noisy,
    ):  # of all digits, the one that correlates most with a changed digit is its own original
        scores = np.corrcoef(changed, everyone)[:899, 899:]
        own = (scores.argmax(1) == halves[1]).mean()
        assert own > 0.6
        assert scores[np.arange(899), halves[1]].mean() > 0.5


def test_both_halves_are_stratified(halves: tuple[np.ndarray, np.ndarray]) -> None:
    labels = load_digits().target
    counts = [np.bincount(labels[half], minlength=10) for half in halves]
    assert np.abs(counts[0] - counts[1]).max() <= 1


@pytest.mark.parametrize("domain, degrees", [("rotated30", 30), ("rotated45", 45)])
def test_rotation_is_pils(domain: str, degrees: int, halves: tuple[np.ndarray, np.ndarray]) -> None:
    _, big, _ = originals()
    x = read_digits(domain).x[:, 0].numpy() / 255
    inside = (
        np.hypot(*(np.mgrid[:16, :16] - 7.5)) < 7
    )  # nearer the border the two fill in differently
    errors = {}
    for sign in (1, -1):
        turned = [
            Image.fromarray(big[i].astype(np.float32)).rotate(
                sign * degrees, Image.Resampling.BILINEAR
            )
            for i in halves[1][:50]
        ]
        errors[sign] = np.abs(x[:50] - np.stack([np.asarray(image) for image in turned]))[
            :, inside
        ].max()
    assert errors[1] < 0.5 / 255 + 1e-5 and errors[-1] > 0.5  # counter-clockwise


def test_noise_has_its_standard_deviation(halves: tuple[np.ndarray, np.ndarray]) -> None:
    """A pixel of 0.5 is clipped beyond one standard deviation: a truncated normal's variance."""
    _, big, _ = originals()
    clean, noisy = big[halves[1]], read_digits("noisy").x[:, 0].numpy() / 255
    middle = noisy[np.abs(clean - 0.5) < 0.02]
    draws = np.clip(0.5 + 0.5 * np.random.default_rng(9).standard_normal(10**6), 0, 1)
    assert len(middle) > 1000
    assert abs(middle.std() - draws.std()) < 0.02 and abs(middle.mean() - 0.5) < 0.03


def test_blur_keeps_the_mass_of_a_digit(halves: tuple[np.ndarray, np.ndarray]) -> None:
    _, big, _ = originals()
    blurred = read_digits("blurred").x[:, 0].numpy() / 255
    np.testing.assert_allclose(blurred.mean(), big[halves[1]].mean(), rtol=0.02)
    assert (
        np.abs(np.diff(blurred, axis=2)).mean()
        < 0.7 * np.abs(np.diff(big[halves[1]], axis=2)).mean()
    )


def test_photo_is_a_difference_to_a_half_bright_patch(
    halves: tuple[np.ndarray, np.ndarray],
) -> None:
    """|0.5 p - d| with p in [0, 1]: at most 0.5 for a black pixel, at least 0.5 for a white one."""
    _, big, _ = originals()
    photo = read_digits("photo").x[:, 0].numpy() / 255
    digit = big[halves[1]]
    assert photo[digit == 0].max() <= 0.5 + 0.003 and photo[digit == 0].std() > 0.05
    assert photo[digit == 1].min() >= 0.5 - 0.003


@pytest.mark.parametrize("size", [8, 28, 32])
def test_size_and_channels(size: int) -> None:
    small, large = read_digits("photo"), read_digits("photo", size=size, channels=3)
    assert large.x.shape == (899, 3, size, size) and large.x.dtype == torch.uint8
    assert torch.equal(large.x[:, 0], large.x[:, 1]) and torch.equal(large.x[:, 0], large.x[:, 2])
    assert torch.equal(large.y, small.y)
    for i in (
        0,
        500,
    ):  # PIL in float; its bilinear resize widens the filter when it shrinks, torch's does not
        if size > 16:
            image = Image.fromarray(small.x[i, 0].numpy().astype(np.float32)).resize(
                (size, size), Image.Resampling.BILINEAR
            )
            assert np.abs(np.asarray(image) - large.x[i, 0].numpy()).max() <= 0.51


def test_an_unknown_domain() -> None:
    with pytest.raises(ValueError, match="domain: digits has clean, rotated30.*got 'amazon'"):
        read_digits("amazon")


HASH = """
import hashlib
from da.data.digits import DIGITS, read_digits
for domain in DIGITS.domains:
    digits = read_digits(domain)
    content = digits.x.numpy().tobytes() + digits.y.numpy().tobytes()
    print(domain, hashlib.sha256(content).hexdigest())
"""


def test_a_fresh_process_has_the_same_arrays() -> None:
    fresh = subprocess.run(
        [sys.executable, "-c", HASH], capture_output=True, text=True, check=True
    ).stdout.split()
    for domain, digest in zip(fresh[::2], fresh[1::2], strict=True):
        digits = read_digits(domain)
        assert (
            hashlib.sha256(digits.x.numpy().tobytes() + digits.y.numpy().tobytes()).hexdigest()
            == digest
        )
    assert fresh[::2] == list(DIGITS.domains)
