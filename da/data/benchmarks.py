"""Benchmarks as data: which domains, how many samples, which classes in which order, which tasks, from where.

The class order here is the order of the labels in every domain, so that label 3 means the same class in all of them.
A count is checked whenever a domain is read: a copy that lost an image does not pass for the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations

_PYKALE = "https://raw.githubusercontent.com/pykale/data/f5bb59f4d837a0acd17aa9ba51b9634f194f4095/images/office"
_USPS = "https://raw.githubusercontent.com/niuers/Learning-From-Data-A-Short-Course/879a698b960e5867f7c2b11f8938fa89c3d21839/data"


@dataclass(frozen=True)
class Source:
    """One file at a public address that cannot change unnoticed.

    `digest` is a SHA-256 (64 hex digits) or a git blob id (40 hex digits: sha1 of "blob <size>\\0" and the bytes).
    `place` is where it belongs, relative to the data root: the file itself, or the folder that an archive becomes.
    """

    url: str
    digest: str
    place: str
    unpack: bool = False


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A published benchmark. `domains` maps a domain to its number of samples, `splits` to the numbers per split if it has splits.

    `folder` is its folder under the data root, if it has one. `aliases` maps another name of a class folder to the class.
    `by_hand` maps a domain without a verifiable public source to where it is published and how to lay it out.
    """

    name: str
    title: str
    domains: Mapping[str, int]
    classes: tuple[str, ...]
    tasks: tuple[tuple[str, str], ...]
    citation: str
    folder: str = ""
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    by_hand: Mapping[str, str] = field(default_factory=dict)

    def count(self, domain: str, split: str = "all") -> int:
        """Number of samples of `domain` in `split`. Raises ValueError for a domain or split that the benchmark does not have."""
        if domain not in self.domains:
            raise ValueError(f"{self.title} has no domain {domain!r}; it has {', '.join(self.domains)}")
        counts = {**self.splits.get(domain, {}), "all": self.domains[domain]}
        if split not in counts:
            raise ValueError(f"{self.title} has no split {split!r} of {domain}; pass {' or '.join(repr(name) for name in counts)}")
        return counts[split]

    def remedy(self, domain: str) -> str:
        """How to get the files of `domain`: one phrase for an error message."""
        fetched = f"fetch it with `python -m da.data.download {self.name} --data-root ROOT`"
        return self.by_hand.get(domain, fetched if self.sources else f"{self.title} has no pinned source: put its files there")


def _all_pairs(domains: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    return tuple(permutations(domains, 2))


def _office_zips(folder: str, digests: Mapping[str, str]) -> tuple[Source, ...]:
    return tuple(Source(f"{_PYKALE}/{domain}.zip", digest, f"{folder}/{domain}", unpack=True) for domain, digest in digests.items())


_OFFICE_DIGESTS = {
    "amazon": "9ab7adf9e31478fab0b2e675cf627ab7e2e55f2b",
    "dslr": "5f0453108d866c083fc36bc69491f01cc6fa3d6b",
    "webcam": "1da96979eb196c0aacb416b8a2902fb0ec8a504f",
}
_CALTECH_DIGEST = {"caltech": "5512b08469d3ba6255581b7904caa987492bdf27"}

_OFFICE31_DOMAINS = {"amazon": 2817, "dslr": 498, "webcam": 795}

OFFICE31 = Benchmark(
    name="office31",
    title="Office-31",
    folder="office31",
    domains=_OFFICE31_DOMAINS,
    classes=tuple(
        """back_pack bike bike_helmet bookcase bottle calculator desk_chair desk_lamp desktop_computer file_cabinet headphones
        keyboard laptop_computer letter_tray mobile_phone monitor mouse mug paper_notebook pen phone printer projector punchers
        ring_binder ruler scissors speaker stapler tape_dispenser trash_can""".split()
    ),
    tasks=_all_pairs(_OFFICE31_DOMAINS),
    citation="Saenko, Kulis, Fritz, Darrell. Adapting visual category models to new domains. ECCV 2010.",
    sources=_office_zips("office31", _OFFICE_DIGESTS),
)

_OFFICE_CALTECH_DOMAINS = {"amazon": 958, "caltech": 1123, "dslr": 157, "webcam": 295}

OFFICE_CALTECH10 = Benchmark(
    name="office_caltech10",
    title="Office-Caltech10",
    folder="office_caltech",
    domains=_OFFICE_CALTECH_DOMAINS,
    classes=tuple("backpack bike calculator headphones keyboard laptop monitor mouse mug projector".split()),
    tasks=_all_pairs(_OFFICE_CALTECH_DOMAINS),
    citation="Gong, Shi, Sha, Grauman. Geodesic flow kernel for unsupervised domain adaptation. CVPR 2012.",
    # Office-31, of which three domains are the ten-class part, has another name for one class
    aliases={"laptop_computer": "laptop"},
    sources=_office_zips("office_caltech", {**_OFFICE_DIGESTS, **_CALTECH_DIGEST}),
)

_OFFICE_HOME_DOMAINS = {"art": 2427, "clipart": 4365, "product": 4439, "real_world": 4357}

OFFICE_HOME = Benchmark(
    name="office_home",
    title="Office-Home",
    folder="office_home",
    domains=_OFFICE_HOME_DOMAINS,
    classes=tuple(
        """Alarm_Clock Backpack Batteries Bed Bike Bottle Bucket Calculator Calendar Candles Chair Clipboards Computer Couch
        Curtains Desk_Lamp Drill Eraser Exit_Sign Fan File_Cabinet Flipflops Flowers Folder Fork Glasses Hammer Helmet Kettle
        Keyboard Knives Lamp_Shade Laptop Marker Monitor Mop Mouse Mug Notebook Oven Pan Paper_Clip Pen Pencil Postit_Notes
        Printer Push_Pin Radio Refrigerator Ruler Scissors Screwdriver Shelf Sink Sneakers Soda Speaker Spoon TV Table Telephone
        ToothBrush Toys Trash_Can Webcam""".split()
    ),
    tasks=_all_pairs(_OFFICE_HOME_DOMAINS),
    citation="Venkateswara, Eusebio, Chakraborty, Panchanathan. Deep hashing network for unsupervised domain adaptation. CVPR 2017.",
    by_hand=dict.fromkeys(
        _OFFICE_HOME_DOMAINS,
        "published by its authors at https://www.hemanthdv.org/officeHomeDataset.html; "
        "unpack it so that office_home/ holds the folders Art, Clipart, Product and Real World",
    ),
)

_DIGITS = {
    "mnist": {"train": 60000, "test": 10000},
    "usps": {"train": 7291, "test": 2007},
    "mnist_m": {"train": 59001, "test": 9001},
}

MNIST_USPS = Benchmark(
    name="mnist_usps",
    title="MNIST-USPS",
    folder="digits",
    domains={domain: sum(counts.values()) for domain, counts in _DIGITS.items()},
    classes=tuple("0123456789"),
    tasks=(("mnist", "usps"), ("usps", "mnist"), ("mnist", "mnist_m")),
    citation="LeCun, Bottou, Bengio, Haffner. Gradient-based learning applied to document recognition. Proc. IEEE 1998 (MNIST). "
    "Hull. A database for handwritten text recognition research. TPAMI 1994 (USPS). "
    "Ganin et al. Domain-adversarial training of neural networks. JMLR 2016 (MNIST-M).",
    splits=_DIGITS,
    sources=(Source(f"{_USPS}/usps.h5", "734f88c541104a956d88be2c95d03b4a463ffd74ccc2ba9c80841fb98e3fcb36", "digits/usps.h5"),),
    by_hand={
        "mnist": "`torchvision.datasets.MNIST(data_root, download=True)` fetches it into MNIST/raw, which is read as it is "
        "(or put digits/mnist.npz there: x_train, y_train, x_test, y_test)",
        "mnist_m": "published by the authors of DANN at http://yaroslav.ganin.net; pack each part into digits/mnist_m_train.npz and "
        "digits/mnist_m_test.npz with x (n, 32, 32, 3) uint8 and y (n,)",
    },
)
