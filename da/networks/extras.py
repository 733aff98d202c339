"""Packages of extras, which are imported where they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def extra(name: str, *, of: str = "text", which: str = "texts need") -> Any:
    """Import a package of an extra.

    Args:
        name: The package, such as "transformers".
        of: The extra in pyproject.toml. Default "text".
        which: Who needs it, for the error. Default "texts need".

    Returns:
        The module.

    Raises:
        ImportError: The package is not installed; the message says how to install it.
    """
    # transformers and timm import torchvision, which fails on some machines without this.
    import da._torchvision  # noqa: F401

    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{name} is not installed, which {which}; run: pip install -e ".[{of}]" ({error})'
        ) from error
