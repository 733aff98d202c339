"""Reviews as texts.

Oracles: files written here by hand, the counts and pins typed again, and the real files if DA_DATA
has them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch

from da.data.downloading import download
from da.data.files.reviews import Reviews, read_reviews, toy_reviews
from da.data.text_benchmarks import AMAZON_REVIEW_TEXTS, AMAZON_REVIEWS
from problems import real_data

SMALL = dataclasses.replace(
    AMAZON_REVIEW_TEXTS,
    domains={"books": 3},
    splits={"books": {"negative": 2, "positive": 1}},
    tasks=(),
    sources=(),
)
NEGATIVE = (
    "<reviews>\r\n\t<review>\tHorrible\r\n\tNo & never <b>again</b>.\r\n\r\nTwice.\r\n\t</review>"
    "<review>dull</review>\r\n</reviews>"
)
POSITIVE = "<reviews><review>\n\tFine \u2014 really\n</review>\n</reviews>\n"


def write(root: Path, negative: str = NEGATIVE, positive: str = POSITIVE) -> Path:
    folder = root / "amazon_reviews_text" / "books"
    folder.mkdir(parents=True)
    (folder / "negative.parsed").write_bytes(negative.encode())
    (folder / "positive.parsed").write_bytes(positive.encode())
    return root


def test_files_by_hand(tmp_path: Path) -> None:
    reviews = read_reviews("books", write(tmp_path), benchmark=SMALL)
    assert reviews.texts == [
        "Horrible No & never <b>again</b>. Twice.",
        "dull",
        "Fine \u2014 really",
    ]
    assert reviews.y.tolist() == [0, 0, 1] and reviews.y.dtype == torch.int64


@pytest.mark.parametrize(
    ("positive", "message"),
    [
        (
            "<reviews><review>a</review><review>b</review></reviews>",
            "2 reviews, but Amazon reviews .texts. has 1",
        ),
        ("<reviews></reviews>", "0 reviews, but"),
        (
            "<reviews><review>a</review><review>b</reviews>",
            r"positive\.parsed cannot be read .*between <review> and </review>",
        ),
        (
            "<reviews><review>a<review>b</review></reviews>",
            r"positive\.parsed cannot be read .*between <review>",
        ),
        (
            "<reviews><review>a</review>stray</reviews>",
            r"positive\.parsed cannot be read .*between <review>",
        ),
        ("<review>a</review>", r"positive\.parsed cannot be read .*<reviews> and </reviews>"),
        ("<html>not found</html>", r"positive\.parsed cannot be read"),
        ("", r"positive\.parsed cannot be read"),
        ("<reviews><review> \r\n\t</review></reviews>", "review 0 is empty"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, positive: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_reviews("books", write(tmp_path, positive=positive), benchmark=SMALL)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = write(tmp_path) / "amazon_reviews_text/books/positive.parsed"
    path.write_bytes(b"<reviews><review>caf\xe9</review></reviews>")
    with pytest.raises(ValueError, match=r"positive\.parsed cannot be read \(UnicodeDecodeError"):
        read_reviews("books", tmp_path, benchmark=SMALL)


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"no file .*negative\.parsed; fetch it .* da download amazon_reviews_text",
    ):
        read_reviews("books", tmp_path)


def test_an_unknown_domain_is_named_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="has no domain 'toys'; it has books, dvd, electronics, kitchen"
    ):
        read_reviews("toys", tmp_path / "nowhere")


def test_counts_as_published() -> None:
    """Blitzer et al.: four products, 1,000 positive and 1,000 negative reviews of each."""
    assert AMAZON_REVIEW_TEXTS.domains == {
        "books": 2000,
        "dvd": 2000,
        "electronics": 2000,
        "kitchen": 2000,
    }
    assert all(
        parts == {"negative": 1000, "positive": 1000}
        for parts in AMAZON_REVIEW_TEXTS.splits.values()
    )
    assert AMAZON_REVIEW_TEXTS.tasks == AMAZON_REVIEWS.tasks and AMAZON_REVIEW_TEXTS.classes == (
        "negative",
        "positive",
    )


def test_every_file_has_a_digest_of_its_own_and_its_place() -> None:
    parts = {
        f"{domain}/{label}.parsed"
        for domain in AMAZON_REVIEW_TEXTS.domains
        for label in ("negative", "positive")
    }
    assert {source.place for source in AMAZON_REVIEW_TEXTS.sources} == {
        f"amazon_reviews_text/{part}" for part in parts
    }
    assert all(
        source.url.endswith("/data" + source.place.removeprefix("amazon_reviews_text"))
        for source in AMAZON_REVIEW_TEXTS.sources
    )
    assert {len(source.digest) for source in AMAZON_REVIEW_TEXTS.sources} == {64}
    assert len({source.digest for source in AMAZON_REVIEW_TEXTS.sources}) == 8


def test_toy_reviews_are_told_by_their_words_alone() -> None:
    """Half of each class, the same for the same seed.

    The words of one class are never in the other's reviews.
    """
    first, again, other = (toy_reviews("kitchen", 60, seed=seed) for seed in (0, 0, 1))
    assert first.texts == again.texts != other.texts and first.y.bincount().tolist() == [30, 30]
    bad, good = (words(toy_reviews("kitchen", 200, seed=0), label) for label in (0, 1))
    bad_books, good_books = (words(toy_reviews("books", 200, seed=0), label) for label in (0, 1))
    assert bad & bad_books - good and good & good_books - bad, "words that judge in both domains"
    assert not (bad - good) & good_books and not (good - bad) & bad_books, (
        "and never the other way round"
    )
    assert bad & good - bad_books - good_books, (
        "words of one domain alone, in reviews of both kinds"
    )


def words(reviews: Reviews, label: int) -> set[str]:
    return {
        word
        for text, y in zip(reviews.texts, reviews.y.tolist(), strict=True)
        if y == label
        for word in text.split()
    }


def test_real_files_are_the_pinned_ones() -> None:
    root = real_data("amazon_reviews_text")
    for source in AMAZON_REVIEW_TEXTS.sources:
        assert hashlib.sha256((root / source.place).read_bytes()).hexdigest() == source.digest
    download(AMAZON_REVIEW_TEXTS, root)  # finds all of it there and asks no server


def test_real_reviews() -> None:
    reviews = read_reviews("books", real_data("amazon_reviews_text"))
    assert reviews.y.bincount().tolist() == [1000, 1000]
    assert reviews.texts[0].startswith(
        "Horrible book, horrible. THis book was horrible. If it was possible"
    )
    assert (
        reviews.texts[1].startswith("shallow self-indulgence I like to use")
        and min(map(len, reviews.texts)) > 20
    )
