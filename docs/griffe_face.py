"""An extension of Griffe, which reads the package for the API pages.

Docstrings get the forms that Griffe shows well. A face may hand on a function that has the name of
its module (`da.feature.coral`). Griffe then keeps the module; the extension puts the function in
its place.
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
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """Show functions, not the modules of the same name."""
        for face in list(pkg.modules.values()):
            for name in [str(name) for name in face.exports or []]:
                module = face.members.get(name)
                if isinstance(module, Module) and name in module.members:
                    function = module.members[name]
                    target = function.final_target if isinstance(function, Alias) else function
                    face.members[name] = Alias(name, target, parent=face)
