"""Amazon reviews as texts.

    <root>/amazon_reviews_text/<domain>/{negative,positive}.parsed

A file holds reviews between <review> and </review>. A review is its title and its body in one
string, with white space of any kind as one space. `toy_reviews` makes some up.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from da.data.benchmarks import Benchmark
from da.data.files.folders import naming
from da.data.text_benchmarks import AMAZON_REVIEW_TEXTS

_REVIEW = re.compile(r"<review>(.*?)</review>", re.DOTALL)
_AROUND = re.compile(r"\s*<reviews>\s*</reviews>\s*")  # a file without its reviews

_NOUNS = {
    "books": "story chapter author plot novel hero page".split(),
    "dvd": "film actor scene sound picture ending cast".split(),
    "electronics": "battery screen cable remote signal button camera".split(),
    "kitchen": "pan knife kettle lid handle oven blender".split(),
}
_JUDGEMENTS = (
    "dull awful broken poor wrong useless".split(),
    "lovely great sturdy fine perfect useful".split(),
)


class Reviews(NamedTuple):
    """Texts with their labels.

    Attributes:
        texts: The reviews, n of them, each in one string.
        y: Labels (n,) int64 in the order of the benchmark's classes: 0 negative, 1 positive.

    Example:
        >>> import torch
        >>> from da.data.files import Reviews
        >>> Reviews(["a sturdy pan", "a dull plot"], torch.tensor([1, 0])).texts[1]
        'a dull plot'
    """

    texts: list[str]
    y: Tensor


def read_reviews(
    domain: str, root: str | Path, *, benchmark: Benchmark = AMAZON_REVIEW_TEXTS
) -> Reviews:
    """Read all reviews of a domain: the negative ones, then the positive ones.

    Args:
        domain: "books", "dvd", "electronics" or "kitchen".
        root: The folder of the data sets.
        benchmark: Its folder, classes and counts. Default `AMAZON_REVIEW_TEXTS`.

    Returns:
        Texts and labels, in the order of the files.

    Raises:
        FileNotFoundError: A file is missing; the message says how to get it.
        ValueError: The domain is unknown, or a file is not of this form or holds another number of
            reviews than the benchmark; the message names the file.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.data import Benchmark
        >>> from da.data.files import read_reviews
        >>> small = Benchmark(
        ...     name="small", title="Small", folder="small", domains={"books": 2},
        ...     classes=("negative", "positive"), tasks=(), citation="",
        ...     splits={"books": {"negative": 1, "positive": 1}},
        ... )
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "small" / "books").mkdir(parents=True)
        >>> for label, text in (("negative", "a dull plot"), ("positive", "a great plot")):
        ...     file = root / "small" / "books" / f"{label}.parsed"
        ...     _ = file.write_text(f"<reviews><review>{text}</review></reviews>")
        >>> read_reviews("books", root, benchmark=small)
        Reviews(texts=['a dull plot', 'a great plot'], y=tensor([0, 1]))
    """
    benchmark.count(domain)  # an unknown domain is an error before anything is read
    parts = [_read_part(benchmark, domain, Path(root), label) for label in benchmark.classes]
    counts = torch.tensor([len(part) for part in parts])
    labels = torch.arange(len(parts)).repeat_interleave(counts)
    return Reviews([text for part in parts for text in part], labels)


def _read_part(benchmark: Benchmark, domain: str, root: Path, label: str) -> list[str]:
    path = root / benchmark.folder / domain / f"{label}.parsed"
    if not path.is_file():
        raise FileNotFoundError(f"{benchmark.title}: no file {path}; {benchmark.remedy(domain)}")
    with naming(path):
        texts = _parse(path.read_text(encoding="utf-8"))
    if len(texts) != benchmark.count(domain, label):
        raise ValueError(
            f"{path}: {len(texts)} reviews, but {benchmark.title} has "
            f"{benchmark.count(domain, label)}; fetch it again"
        )
    return texts


def _parse(content: str) -> list[str]:
    """The reviews in the content of a file, with all white space as single spaces."""
    texts = [" ".join(text.split()) for text in _REVIEW.findall(content)]
    rest = _REVIEW.sub("", content)
    if not _AROUND.fullmatch(rest) or any("<review>" in text for text in texts):
        raise ValueError(
            "each review must be between <review> and </review>, and all of them between "
            "<reviews> and </reviews>"
        )
    if "" in texts:
        raise ValueError(f"review {texts.index('')} is empty")
    return texts


def toy_reviews(domain: str, n: int, *, seed: int) -> Reviews:
    """Make up reviews whose answer is known: only the words that judge tell, in every domain.

    A review has one to four sentences with nouns of the domain. "the kettle is sturdy . the lid is
    fine ." is a review of kitchen things. The words that judge are the same in all domains.

    Args:
        domain: "books", "dvd", "electronics" or "kitchen".
        n: Number of reviews; every other one is positive.
        seed: Seed of the words.

    Returns:
        Texts and labels.
    """
    draw = random.Random(f"{domain} {seed}")
    texts = [_toy_review(_NOUNS[domain], _JUDGEMENTS[row % 2], draw) for row in range(n)]
    return Reviews(texts, torch.arange(n) % 2)


def _toy_review(nouns: list[str], judgements: list[str], draw: random.Random) -> str:
    return " ".join(
        f"the {draw.choice(nouns)} is {draw.choice(judgements)} ."
        for _ in range(draw.randint(1, 4))
    )
