"""Benchmarks as data: which domains, how many samples, which classes in which order, which tasks, from where.

The class order here is the order of the labels in every domain, so that label 3 means the same class in all of them.
A count is checked whenever a domain is read: a copy that lost an image does not pass for the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations

_PYKALE = "https://raw.githubusercontent.com/pykale/data/f5bb59f4d837a0acd17aa9ba51b9634f194f4095/images/office"
_REVIEWS = "https://raw.githubusercontent.com/GRAAL-Research/domain_adversarial_neural_network/74eec5e0ae06bd6614bce048abba492c16a633e3/data"
_REVIEW_TEXTS = "https://raw.githubusercontent.com/yftah89/PBLM-Domain-Adaptation/2eef645/data"  # its digests say what a file must be
_JPDA = (
    "https://raw.githubusercontent.com/chamwen/JPDA/b056e5eca625fc480aa605242348809f9199d5f8/data"
)
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
            raise ValueError(
                f"{self.title} has no domain {domain!r}; it has {', '.join(self.domains)}"
            )
        counts = {**self.splits.get(domain, {}), "all": self.domains[domain]}
        if split not in counts:
            raise ValueError(
                f"{self.title} has no split {split!r} of {domain}; pass {' or '.join(repr(name) for name in counts)}"
            )
        return counts[split]

    def remedy(self, domain: str) -> str:
        """How to get the files of `domain`: one phrase for an error message."""
        fetched = f"fetch it with `python -m da.data.download {self.name} --data-root ROOT`"
        return self.by_hand.get(
            domain,
            fetched if self.sources else f"{self.title} has no pinned source: put its files there",
        )


def _all_pairs(domains: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
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
    classes=tuple(
        "backpack bike calculator headphones keyboard laptop monitor mouse mug projector".split()
    ),
    tasks=_all_pairs(_OFFICE_CALTECH_DOMAINS),
    citation="Gong, Shi, Sha, Grauman. Geodesic flow kernel for unsupervised domain adaptation. CVPR 2012.",
    # Office-31, of which three domains are the ten-class part, has another name for one class
    aliases={"laptop_computer": "laptop"},
    sources=_office_zips("office_caltech", {**_OFFICE_DIGESTS, **_CALTECH_DIGEST}),
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
    sources=(
        Source(
            f"{_USPS}/usps.h5",
            "734f88c541104a956d88be2c95d03b4a463ffd74ccc2ba9c80841fb98e3fcb36",
            "digits/usps.h5",
        ),
    ),
    by_hand={
        "mnist": "`torchvision.datasets.MNIST(data_root, download=True)` fetches it into MNIST/raw, which is read as it is "
        "(or put digits/mnist.npz there: x_train, y_train, x_test, y_test)",
        "mnist_m": "published by the authors of DANN at http://yaroslav.ganin.net; pack each part into digits/mnist_m_train.npz and "
        "digits/mnist_m_test.npz with x (n, 32, 32, 3) uint8 and y (n,)",
    },
)

JDA_DIGITS = Benchmark(
    name="digits_jda",
    title="the digits of the JDA paper",
    folder="digits_jda",
    domains={"mnist": 2000, "usps": 1800},
    classes=tuple("0123456789"),
    tasks=(("usps", "mnist"), ("mnist", "usps")),
    citation="Long, Wang, Ding, Sun, Yu. Transfer feature learning with joint distribution adaptation. ICCV 2013.",
    # one file has both domains; the other, for the opposite direction, holds the same samples
    sources=(
        Source(
            f"{_JPDA}/MNIST_vs_USPS.mat",
            "bdef022ad924be411fff228f24db6f20f86da3f6",
            "digits_jda/MNIST_vs_USPS.mat",
        ),
    ),
)

_REVIEW_COUNTS = {
    "books": {"train": 2000, "test": 4465},
    "dvd": {"train": 2000, "test": 3586},
    "electronics": {"train": 2000, "test": 5681},
    "kitchen": {"train": 2000, "test": 5945},
}
_REVIEW_DOMAINS = {domain: sum(counts.values()) for domain, counts in _REVIEW_COUNTS.items()}
_REVIEW_DIGESTS = {
    "books_train": "317f9a2ec34b81de770b63a84d8c5cc2dc16bd0be6e079d2ff5b5bad5213ea19",
    "books_test": "fe4605c7dcf0e0a9410fd2a32f247caaf9abb352cc6e4c3e0f400853163ad9c4",
    "dvd_train": "95f602aa08bf6b55758f7b0b18df3882fe30acb11987ee60b6b4bb3c44cba733",
    "dvd_test": "4fe1b1a15010f78d8d0c49fe362d35fd4677463a45f1ac02a9f410ae1e638060",
    "electronics_train": "7d0061f03ff3827e4f8036b051b5e5828fddc0cd115aa5b212cd28d624dc14e4",
    "electronics_test": "641783bc941839c3a111d3488a1b7e3bd820a61ec14a129e7429b47703aa961d",
    "kitchen_train": "a70b5ebfe1413e0e16280360905f5c3b64389c435cd20c0165dc9d7f293b31b5",
    "kitchen_test": "e1502b97a824eb12314be4447394fa736fecb781c0724e6529cd6733ac7ff6d8",
}

AMAZON_REVIEWS = Benchmark(
    name="amazon_reviews",
    title="Amazon reviews",
    folder="amazon_reviews",
    domains=_REVIEW_DOMAINS,
    classes=("negative", "positive"),
    tasks=_all_pairs(_REVIEW_DOMAINS),
    citation="Blitzer, Dredze, Pereira. Biographies, Bollywood, boom-boxes and blenders: domain adaptation for sentiment "
    "classification. ACL 2007. Word counts as Chen, Xu, Weinberger, Sha (ICML 2012) prepared them and the authors of DANN published them.",
    splits=_REVIEW_COUNTS,
    sources=tuple(
        Source(f"{_REVIEWS}/{part}.svmlight", digest, f"amazon_reviews/{part}.svmlight")
        for part, digest in _REVIEW_DIGESTS.items()
    ),
)

_TEXT_DIGESTS = {
    "books/negative": "c212e6f8601db51807baefc7db44e0c96c900fb53da16e57beaa7b96074a9c58",
    "books/positive": "b740263ec09f4e8b070ba82dd160306d0bd870eb394bc8d6e191d76986c30b98",
    "dvd/negative": "58c9e62eb5e97de4dbc7817d4549c6cd23fb947d6403eaddae1cebc7a8459b17",
    "dvd/positive": "3258e0b744068d5cf493b585edba40bd9f29ff457f7ff01be8b94c3af792047c",
    "electronics/negative": "f09930ad7cbf8e6e3be6add636c932c197ec7d55f351907d6c3cadc22bf4eeb0",
    "electronics/positive": "f4eee889891058bee5c0773f7c6862f8dc9ea59ef182d170ee42de2ff2c4844e",
    "kitchen/negative": "a73bb3dcbe165d18983aa37fa8afc1b745a643582b422b78d1d95ee4e0576318",
    "kitchen/positive": "bf12d5495293d490c61665111f55e33243cfa7281b96e62e467bc84d3b7e7a58",
}

AMAZON_REVIEW_TEXTS = Benchmark(
    name="amazon_reviews_text",
    title="Amazon reviews (texts)",
    folder="amazon_reviews_text",
    domains=dict.fromkeys(_REVIEW_DOMAINS, 2000),
    classes=AMAZON_REVIEWS.classes,
    tasks=AMAZON_REVIEWS.tasks,
    citation="Blitzer, Dredze, Pereira. Biographies, Bollywood, boom-boxes and blenders: domain adaptation for sentiment "
    "classification. ACL 2007. The labelled reviews themselves, as the authors of PBLM (Ziser, Reichart, NAACL 2018) published them.",
    splits={domain: {"negative": 1000, "positive": 1000} for domain in _REVIEW_DOMAINS},
    sources=tuple(
        Source(f"{_REVIEW_TEXTS}/{part}.parsed", digest, f"amazon_reviews_text/{part}.parsed")
        for part, digest in _TEXT_DIGESTS.items()
    ),
)
