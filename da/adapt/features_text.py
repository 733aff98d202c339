"""Features of texts: TF-IDF of words and pairs of words, and their main directions.

Words and directions are learned from the texts of both sides; labels play no part. A word that only
the target has then lies near the words that it stands beside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from da.adapt.sides import Featurizer, Kind, Side

WORDS = 20_000  # the most frequent words and pairs
WIDE = 1_000  # more words than this become directions
DIRECTIONS = 500


@dataclass(frozen=True)
class TextFeatures(Featurizer):
    """Texts as TF-IDF, projected on main directions if there are many words.

    Attributes:
        words: The words and pairs of words, by column.
        idf: The weight (w,) of each.
        directions: The main directions (d, w), or None if words are the features.
        text: The column that texts are read from.
        notes: What is worth knowing, in whole lines.

    Example:
        >>> from da.adapt.features_text import TextFeatures
        >>> from da.adapt.sides import Side
        >>> texts = ("a good book", "a bad book", "good film", "bad film")
        >>> side = Side("reviews.csv", "texts", tuple("0123"), None, texts, text="review")
        >>> TextFeatures.fit([side], side).transform(side).shape
        (4, 11)
    """

    words: tuple[str, ...]
    idf: np.ndarray
    directions: np.ndarray | None
    text: str | None
    notes: tuple[str, ...] = ()

    kind: Kind = "texts"

    @classmethod
    def fit(cls, sources: Sequence[Side], target: Side, *, seed: int = 0) -> TextFeatures:
        """Learn words and directions from the texts of all sides.

        Args:
            sources: Sides of kind "texts".
            target: Another one.
            seed: Of the random start of the directions.

        Raises:
            ValueError: The texts hold no word twice.
        """
        texts = [text for side in (*sources, target) for text in _texts(side)]
        vectorizer = _vectorizer()
        try:
            counts = vectorizer.fit_transform(texts)
        except ValueError as error:  # an empty vocabulary
            raise ValueError(
                f"{sources[0].path}: the texts of column {sources[0].text!r} have no word in "
                "common; is this the column of texts?"
            ) from error
        words = tuple(vectorizer.get_feature_names_out().tolist())
        directions = None
        if len(words) > WIDE:
            count = min(DIRECTIONS, len(texts) - 1)
            directions = TruncatedSVD(count, random_state=seed).fit(counts).components_
            directions = directions.astype(np.float32)
        notes = tuple(_unknown(side, vectorizer) for side in (*sources, target))
        return cls(words, vectorizer.idf_, directions, sources[0].text, tuple(filter(None, notes)))

    @property
    def description(self) -> str:  # type: ignore[override]
        """What is done, in a line."""
        if self.directions is None:
            return f"TF-IDF of {len(self.words)} words and pairs of words of both sides"
        return (
            f"{len(self.directions)} main directions of TF-IDF of {len(self.words)} words and "
            "pairs of words of both sides"
        )

    def transform(self, side: Side) -> np.ndarray:
        """Make the features (n, d) float32 of a side of texts."""
        if side.kind != "texts":
            raise ValueError(f"{side.path} must hold texts; it holds {side.kind}")
        vectorizer = _vectorizer(self.words)
        vectorizer.idf_ = self.idf
        counts = vectorizer.transform(_texts(side))
        if self.directions is None:
            return counts.toarray().astype(np.float32)
        return np.asarray(sparse.csr_matrix(counts) @ self.directions.T, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write features.json and features.npz."""
        content = {"kind": self.kind, "text": self.text, "notes": self.notes, "words": self.words}
        whole = json.dumps(content, ensure_ascii=False, indent=1)
        (folder / "features.json").write_text(whole, encoding="utf-8")
        arrays = {"idf": self.idf}
        if self.directions is not None:
            arrays["directions"] = self.directions
        np.savez(folder / "features.npz", **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, folder: Path, content: dict) -> TextFeatures:
        """Read what `save` wrote; `content` is that of features.json."""
        with np.load(folder / "features.npz", allow_pickle=False) as arrays:
            directions = arrays["directions"] if "directions" in arrays else None
            idf = arrays["idf"]
        words, notes = tuple(content["words"]), tuple(content["notes"])
        return cls(words, idf, directions, content["text"], notes)


def _vectorizer(words: Sequence[str] | None = None) -> TfidfVectorizer:
    """scikit-learn's TF-IDF. A word must stand in two texts; the logarithm damps repetitions."""
    return TfidfVectorizer(
        ngram_range=(1, 2),
        min_df=2 if words is None else 1,
        max_features=WORDS,
        sublinear_tf=True,
        strip_accents="unicode",
        token_pattern=r"(?u)\b\w+\b",
        vocabulary=None if words is None else list(words),
        dtype=np.float32,
    )


def _unknown(side: Side, vectorizer: TfidfVectorizer) -> str:
    """A line on texts without any known word; "" if there are none."""
    empty = int((vectorizer.transform(_texts(side)).getnnz(axis=1) == 0).sum())
    return f"{side.path}: {empty} texts have no word that stands in two texts." if empty else ""


def _texts(side: Side) -> Sequence[str]:
    assert isinstance(side.content, tuple)
    return [str(text) for text in side.content]
