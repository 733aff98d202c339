"""Amazon reviews as texts: `<root>/amazon_reviews_text/<domain>/{negative,positive}.parsed`, reviews between <review> and </review>.

A review is its title and its body in one string, white space of any kind as one space. `toy_reviews` makes some up.
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
_AROUND = re.compile(r"\s*<reviews>\s*</reviews>\s*")  # what a file holds besides its reviews

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
    """Texts, and their labels y (n,) int64 in the order of the benchmark's classes: 0 negative, 1 positive."""

    texts: list[str]
    y: Tensor


def read_reviews(
    domain: str, root: str | Path, *, benchmark: Benchmark = AMAZON_REVIEW_TEXTS
) -> Reviews:
    """All reviews of `domain`: the negative ones, then the positive ones, each in the order of its file.

    Raises FileNotFoundError that says how to get a file that is not there; ValueError, naming the file, for one that is not of this
    form or holds another number of reviews than the benchmark, and for an unknown domain.
    """
    benchmark.count(domain)  # names an unknown domain before anything is read
    parts = [_read_part(benchmark, domain, Path(root), label) for label in benchmark.classes]
    labels = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part) for part in parts]))
    return Reviews([text for part in parts for text in part], labels)


def _read_part(benchmark: Benchmark, domain: str, root: Path, label: str) -> list[str]:
    path = root / benchmark.folder / domain / f"{label}.parsed"
    if not path.is_file():
        raise FileNotFoundError(f"{benchmark.title}: no file {path}; {benchmark.remedy(domain)}")
    with naming(path):
        texts = _parse(path.read_text(encoding="utf-8"))
    if len(texts) != benchmark.count(domain, label):
        raise ValueError(
            f"{path}: {len(texts)} reviews where {benchmark.title} has {benchmark.count(domain, label)}; fetch it again"
        )
    return texts


def _parse(content: str) -> list[str]:
    texts = [" ".join(text.split()) for text in _REVIEW.findall(content)]
    rest = _REVIEW.sub("", content)
    if not _AROUND.fullmatch(rest) or any("<review>" in text for text in texts):
        raise ValueError(
            "reviews must stand between <review> and </review>, all of them between <reviews> and </reviews>"
        )
    if "" in texts:
        raise ValueError(f"review {texts.index('')} is empty")
    return texts


def toy_reviews(domain: str, n: int, *, seed: int) -> Reviews:
    """n made-up reviews, every other one positive, with a known answer: only the judging words tell, and they are alike in all domains.

    "the kettle is sturdy . the lid is fine ." is a review of kitchen things: one to four such sentences, nouns of the domain.
    """
    draw = random.Random(f"{domain} {seed}")
    texts = [_toy_review(_NOUNS[domain], _JUDGEMENTS[row % 2], draw) for row in range(n)]
    return Reviews(texts, torch.arange(n) % 2)


def _toy_review(nouns: list[str], judgements: list[str], draw: random.Random) -> str:
    return " ".join(
        f"the {draw.choice(nouns)} is {draw.choice(judgements)} ."
        for _ in range(draw.randint(1, 4))
    )
