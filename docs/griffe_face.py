"""An extension of Griffe, which reads the package for the API pages.

Docstrings get the forms that Griffe shows well. A constant on a face is described by its value.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from griffe import Alias, Docstring, Extension, Module, Object

sys.path.insert(0, str(Path(__file__).parent))

from docstring_sections import readable  # noqa: E402


class Face(Extension):
    """Make docstrings and faces readable."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object."""
        rewrite(obj)

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """Describe the constants of every face."""
        faces = [module for module in pkg.modules.values() if module.is_init_module]
        for face in faces:
            for name in [str(name) for name in face.exports or []]:
                describe(face, name)


def describe(face: Module, name: str) -> None:
    """Give a constant without a docstring one that says its value."""
    member = face.members[name]
    target = member.final_target if isinstance(member, Alias) else member
    if target.is_attribute and target.docstring is None:
        value = getattr(importlib.import_module(face.path), name)
        target.docstring = Docstring(in_words(value), parent=target)


def in_words(value: Any) -> str:
    """A constant in a sentence: a benchmark, a dict, or the choices of an option."""
    if hasattr(value, "citation"):
        sizes = ", ".join(f"{domain} {count:,}" for domain, count in value.domains.items())
        return f"{value.title}: {len(value.classes)} classes. Samples: {sizes}. {value.citation}"
    choices = value if isinstance(value, Mapping) else get_args(value)
    return f"One of {', '.join(f'`{choice}`' for choice in choices)}."


def rewrite(obj: Object) -> None:
    """Give an object's docstring its readable form; a second call changes nothing."""
    if obj.docstring is not None:
        obj.docstring.value = readable(obj.docstring.value)
