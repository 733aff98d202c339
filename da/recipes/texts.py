"""What the scripts on texts share: reviews, and packages that are installed with da[text]."""

from __future__ import annotations

from da.data.files.reviews import Reviews, read_reviews, toy_reviews
from da.data.readers import data_root
from da.networks.extras import extra
from da.recipes.flags import CommonFlags

SMOKE_REVIEWS = 60


def reviews_of(flags: CommonFlags, domain: str) -> Reviews:
    """Read the Amazon reviews of a domain; a smoke test takes a few made-up ones.

    Args:
        flags: The flags of the script; `data_root` says where the reviews are.
        domain: "books", "dvd", "electronics" or "kitchen".

    Returns:
        Texts and labels.

    Raises:
        FileNotFoundError: A file is missing; the message says how to get it.
        ValueError: A file is not what it should be.

    Example:
        >>> from da.recipes import CommonFlags
        >>> from da.recipes.texts import reviews_of
        >>> len(reviews_of(CommonFlags(smoke_test=True), "books").texts)
        60
    """
    if flags.smoke_test:
        return toy_reviews(domain, SMOKE_REVIEWS, seed=0)
    return read_reviews(domain, data_root(flags.data_root))


def require(*packages: str) -> None:
    """Check that packages of da[text] are installed.

    Args:
        packages: Their names.

    Raises:
        ValueError: One is not; the message, which a command line shows, says how to install it.

    Example:
        >>> from da.recipes.texts import require
        >>> require("transformers")
    """
    for package in packages:
        try:
            extra(package)
        except ImportError as error:
            raise ValueError(str(error)) from error
