"""Benchmarks of texts as data: the Amazon reviews, as counts of words and as texts."""

from __future__ import annotations

from da.data.benchmarks import Benchmark, Source, all_pairs

_GITHUB = "https://raw.githubusercontent.com"
_REVIEWS = (
    f"{_GITHUB}/GRAAL-Research/domain_adversarial_neural_network/"
    "74eec5e0ae06bd6614bce048abba492c16a633e3/data"
)
# The address names a commit by a prefix; the files' digests say what they must be.
_REVIEW_TEXTS = f"{_GITHUB}/yftah89/PBLM-Domain-Adaptation/2eef645/data"

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
    tasks=all_pairs(_REVIEW_DOMAINS),
    citation="Blitzer, Dredze, Pereira. Biographies, Bollywood, boom-boxes and blenders: domain "
    "adaptation for sentiment classification. ACL 2007. Word counts as Chen, Xu, Weinberger, Sha "
    "(ICML 2012) prepared them and the authors of DANN published them.",
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
    citation="Blitzer, Dredze, Pereira. Biographies, Bollywood, boom-boxes and blenders: domain "
    "adaptation for sentiment classification. ACL 2007. The labelled reviews themselves, as the "
    "authors of PBLM (Ziser, Reichart, NAACL 2018) published them.",
    splits={domain: {"negative": 1000, "positive": 1000} for domain in _REVIEW_DOMAINS},
    sources=tuple(
        Source(f"{_REVIEW_TEXTS}/{part}.parsed", digest, f"amazon_reviews_text/{part}.parsed")
        for part, digest in _TEXT_DIGESTS.items()
    ),
)
