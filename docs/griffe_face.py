"""An extension of Griffe, which reads the package for the API pages.

Docstrings get the forms that Griffe shows well. A face may hand on a function that has the name of
its module (`da.feature.coral`). Griffe then keeps the module; the extension puts the function in
its place, and the module's other names below the function.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from griffe import Alias, Extension, Module, Object

sys.path.insert(0, str(Path(__file__).parent))

from docstring_sections import readable  # noqa: E402


class Face(Extension):
    """Make docstrings and faces readable."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object."""
        rewrite(obj)

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """Show functions, not the modules of the same name."""
        for face in list(pkg.modules.values()):
            for name in [str(name) for name in face.exports or []]:
                module = face.members.get(name)
                if isinstance(module, Module) and name in module.members:
                    face.members[name] = Alias(name, function_of(module), parent=face)


def function_of(module: Module) -> Object:
    """The function with the name of its module, as the parent of the module's other names."""
    found = module.members[module.name]
    function = found.final_target if isinstance(found, Alias) else found
    for name, member in module.members.items():
        function.members.setdefault(name, member)
        if isinstance(member, Object):
            rewrite(member)  # Griffe passes over what hangs below an alias
    return function


def rewrite(obj: Object) -> None:
    """Give an object's docstring its readable form; a second call changes nothing."""
    if obj.docstring is not None:
        obj.docstring.value = readable(obj.docstring.value)
