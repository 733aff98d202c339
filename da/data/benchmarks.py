"""Benchmarks as data: domains, sizes, classes and their order, tasks, and where to get the files.

The order of the classes is the order of the labels in every domain, so label 3 means the same class
in all of them. A count is checked whenever a domain is read: a copy that lost an image does not
pass for the benchmark. Further ones are in `photograph_benchmarks.py` and `text_benchmarks.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import permutations

from da.arrays.arguments import check_fields

_GITHUB = "https://raw.githubusercontent.com"
_PYKALE = f"{_GITHUB}/pykale/data/f5bb59f4d837a0acd17aa9ba51b9634f194f4095/images/office"
_JPDA = f"{_GITHUB}/chamwen/JPDA/b056e5eca625fc480aa605242348809f9199d5f8/data"
_USPS = (
    f"{_GITHUB}/niuers/Learning-From-Data-A-Short-Course/"
    "879a698b960e5867f7c2b11f8938fa89c3d21839/data"
)


@dataclass(frozen=True)
class Source:
    """One file at a public address that cannot change unnoticed.

    Attributes:
        url: The address.
        digest: A SHA-256 (64 hexadecimal digits) or a git blob id (40 digits: the SHA-1 of
            "blob <size>\\0" and the bytes).
        place: Where it belongs, relative to the data root: the file itself, or the folder that an
            archive becomes.
        unpack: Whether it is an archive. Default False.
    """

    url: str
    digest: str
    place: str
    unpack: bool = False


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A published benchmark: what it contains, and where its files come from.

    `read_domain` reads a domain of one with photographs or digits, `download` fetches it. Describe
    your own data the same way if you want the readers' checks for it.

    Attributes:
        name: Short name, as on the command line.
        title: Name in messages and tables.
        domains: Domain -> its number of samples; None if it is not known. Then whatever number is
            there is read, and the line about the cache says it.
        classes: Names of the classes; label k means class k in every domain.
        tasks: Pairs (source, target) that papers report.
        citation: The paper or papers that published it.
        folder: Its folder under the data root, or a whole path. Default "": none.
        splits: Domain -> split -> number of samples. Default: no splits.
        aliases: Another name of a class folder -> the class. Default: none.
        sources: Files that can be downloaded and verified. Default: none.
        by_hand: Domain without a verifiable public file -> where it is published and how to lay it
            out. Default: none.
        lists: Where, below its folder, a text file may lie that lists the images of a domain, such
            as "{domain}_{split}.txt", a path and a label a line. The first that exists is read.
            Default: none, the images lie in class folders.
        ignored: Names of class folders that are left out. Default: none; such a folder is an error.
        exif_orientation: Whether photographs are turned as their EXIF orientation says. Default
            True. It is False where published results are those of the pixels as stored, as in
            `OFFICE_CALTECH10` and `OFFICE_HOME`.

    Example:
        >>> from da.data import OFFICE31
        >>> OFFICE31.domains
        {'amazon': 2817, 'dslr': 498, 'webcam': 795}
        >>> OFFICE31.count("dslr"), len(OFFICE31.classes), len(OFFICE31.tasks)
        (498, 31, 6)
    """

    name: str
    title: str
    domains: Mapping[str, int | None]
    classes: tuple[str, ...]
    tasks: tuple[tuple[str, str], ...]
    citation: str
    folder: str = ""
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    by_hand: Mapping[str, str] = field(default_factory=dict)
    lists: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    exif_orientation: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def count(self, domain: str, split: str = "all") -> int | None:
        """Look up the number of samples.

        Args:
            domain: A name in `domains`.
            split: A name in the domain's `splits`, or "all" (default).

        Returns:
            Number of samples of `domain` in `split`; None if it is not known.

        Raises:
            ValueError: The benchmark has no such domain or split.
        """
        if domain not in self.domains:
            raise ValueError(
                f"{self.title} has no domain {domain!r}; it has {', '.join(self.domains)}"
            )
        counts: dict[str, int | None] = {**self.splits.get(domain, {}), "all": self.domains[domain]}
        if split not in counts:
            names = " or ".join(repr(name) for name in counts)
            raise ValueError(f"{self.title} has no split {split!r} of {domain}; pass {names}")
        return counts[split]

    def remedy(self, domain: str) -> str:
        """Say in one phrase, for an error message, how to get the files of `domain`."""
        if domain in self.by_hand:
            return self.by_hand[domain]
        if self.sources:
            return f"fetch it with `python -m da download {self.name} --data-root ROOT`"
        return f"{self.title} has no pinned source: put its files there"


def all_pairs(domains: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Every pair (source, target) of different domains."""
    return tuple(permutations(domains, 2))


def _office_zips(folder: str, digests: Mapping[str, str]) -> tuple[Source, ...]:
    return tuple(
        Source(f"{_PYKALE}/{domain}.zip", digest, f"{folder}/{domain}", unpack=True)
        for domain, digest in digests.items()
    )


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
        """back_pack bike bike_helmet bookcase bottle calculator desk_chair desk_lamp
        desktop_computer file_cabinet headphones keyboard laptop_computer letter_tray mobile_phone
        monitor mouse mug paper_notebook pen phone printer projector punchers ring_binder ruler
        scissors speaker stapler tape_dispenser trash_can""".split()
    ),
    tasks=all_pairs(_OFFICE31_DOMAINS),
    citation="Saenko, Kulis, Fritz, Darrell. Adapting visual category models to new domains. "
    "ECCV 2010.",
    sources=_office_zips("office31", _OFFICE_DIGESTS),
)

_OFFICE_CALTECH_DOMAINS = {"amazon": 958, "caltech": 1123, "dslr": 157, "webcam": 295}

OFFICE_CALTECH10 = Benchmark(
    name="office_caltech10",
    title="Office-Caltech10",
    folder="office_caltech",
    domains=_OFFICE_CALTECH_DOMAINS,
    classes=tuple(
        "backpack bike calculator headphones keyboard laptop monitor mouse mug projector".split()
    ),
    tasks=all_pairs(_OFFICE_CALTECH_DOMAINS),
    citation="Gong, Shi, Sha, Grauman. Geodesic flow kernel for unsupervised domain adaptation. "
    "CVPR 2012.",
    # Three domains are the ten-class part of Office-31, which has another name for one class.
    aliases={"laptop_computer": "laptop"},
    sources=_office_zips("office_caltech", {**_OFFICE_DIGESTS, **_CALTECH_DIGEST}),
    # One image of 2,533 has an orientation, caltech/mug/041_0006.jpg, and it would fall over.
    exif_orientation=False,
)

_SURF_DIGESTS = {
    "amazon": "f7b9f80031fca5169388f05346ba7ac279280968",
    "caltech": "c722e73ad53f8480bdf8bfe8447c4c91b82752fb",
    "dslr": "944902f10891e355beed167f54d14c345453e38b",
    "webcam": "81bb7794911595f6c452b9ae7749fb5c4fba57b4",
}

OFFICE_CALTECH_SURF = Benchmark(
    name="office_caltech_surf",
    title="Office-Caltech10 SURF",
    folder="office_caltech_surf",
    domains=_OFFICE_CALTECH_DOMAINS,
    classes=OFFICE_CALTECH10.classes,
    tasks=OFFICE_CALTECH10.tasks,
    citation=OFFICE_CALTECH10.citation,
    sources=tuple(
        Source(
            f"{_JPDA}/Office/{domain}_SURF_L10.mat",
            digest,
            f"office_caltech_surf/{domain}_SURF_L10.mat",
        )
        for domain, digest in _SURF_DIGESTS.items()
    ),
)

_OFFICE_HOME_DOMAINS = {"art": 2427, "clipart": 4365, "product": 4439, "real_world": 4357}

OFFICE_HOME = Benchmark(
    name="office_home",
    title="Office-Home",
    folder="office_home",
    domains=_OFFICE_HOME_DOMAINS,
    classes=tuple(
        """Alarm_Clock Backpack Batteries Bed Bike Bottle Bucket Calculator Calendar Candles Chair
        Clipboards Computer Couch Curtains Desk_Lamp Drill Eraser Exit_Sign Fan File_Cabinet
        Flipflops Flowers Folder Fork Glasses Hammer Helmet Kettle Keyboard Knives Lamp_Shade Laptop
        Marker Monitor Mop Mouse Mug Notebook Oven Pan Paper_Clip Pen Pencil Postit_Notes Printer
        Push_Pin Radio Refrigerator Ruler Scissors Screwdriver Shelf Sink Sneakers Soda Speaker
        Spoon TV Table Telephone ToothBrush Toys Trash_Can Webcam""".split()
    ),
    tasks=all_pairs(_OFFICE_HOME_DOMAINS),
    citation="Venkateswara, Eusebio, Chakraborty, Panchanathan. Deep hashing network for "
    "unsupervised domain adaptation. CVPR 2017.",
    by_hand=dict.fromkeys(
        _OFFICE_HOME_DOMAINS,
        "published by its authors at https://www.hemanthdv.org/officeHomeDataset.html; "
        "unpack it so that office_home/ holds the folders Art, Clipart, Product and Real World",
    ),
    exif_orientation=False,
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
    citation="LeCun, Bottou, Bengio, Haffner. Gradient-based learning applied to document "
    "recognition. Proc. IEEE 1998 (MNIST). "
    "Hull. A database for handwritten text recognition research. TPAMI 1994 (USPS). "
    "Ganin et al. Domain-adversarial training of neural networks. JMLR 2016 (MNIST-M).",
    splits=_DIGITS,
    sources=(
        Source(
            f"{_USPS}/usps.h5",
            "734f88c541104a956d88be2c95d03b4a463ffd74ccc2ba9c80841fb98e3fcb36",
            "digits/usps.h5",
        ),
    ),
    by_hand={
        "mnist": "`torchvision.datasets.MNIST(data_root, download=True)` fetches it into "
        "MNIST/raw, which is read as it is (or put digits/mnist.npz there: x_train, y_train, "
        "x_test, y_test)",
        "mnist_m": "published by the authors of DANN at http://yaroslav.ganin.net; pack each part "
        "into digits/mnist_m_train.npz and digits/mnist_m_test.npz with x (n, 32, 32, 3) uint8 and "
        "y (n,)",
    },
)

JDA_DIGITS = Benchmark(
    name="digits_jda",
    title="the digits of the JDA paper",
    folder="digits_jda",
    domains={"mnist": 2000, "usps": 1800},
    classes=tuple("0123456789"),
    tasks=(("usps", "mnist"), ("mnist", "usps")),
    citation="Long, Wang, Ding, Sun, Yu. Transfer feature learning with joint distribution "
    "adaptation. ICCV 2013.",
    # One file has both domains; the other, for the opposite direction, holds the same samples.
    sources=(
        Source(
            f"{_JPDA}/MNIST_vs_USPS.mat",
            "bdef022ad924be411fff228f24db6f20f86da3f6",
            "digits_jda/MNIST_vs_USPS.mat",
        ),
    ),
)
