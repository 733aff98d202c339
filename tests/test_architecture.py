"""What the layout promises.

Oracles: Python's own parser on the sources, fresh processes, and small trees that break each rule.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A room is a file or a folder of da/; here is its level. Imports go to a lower level or stay in the
# room. Rooms of one level do not import each other. There are no exceptions.
LEVELS = {
    "arrays": 0, "records": 0, "_torchvision": 0,
    "kernels": 1, "data": 1, "networks": 1,
    "ops": 2, "train": 2, "instance": 2, "shallow": 2,
    "feature": 3, "model": 3, "select": 3, "shift": 3,
    "recipes": 4, "adapt": 4,
    "__main__": 5,
}  # fmt: skip
FAMILIES = ("feature", "instance", "model")
OUTSIDE = {"experiments", "paper_figures", "tests"}
LINES = 300


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of whatever a file imports, wherever in it.

    `from a import b` is a.b, and relative imports are resolved.
    """
    package = path.relative_to(root).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            whole = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{whole}.{name.name}") for name in node.names)


def room(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else ""


def broken_arrows(root: Path) -> list[str]:
    """Imports in da/ that go up, sideways or out of the package, and rooms without a level.

    da/__init__.py imports nothing of da.
    """
    found = []
    for path in python_files(root / "da"):
        place = path.relative_to(root)
        mine = (
            "" if place == Path("da/__init__.py") else room(".".join(place.with_suffix("").parts))
        )
        if mine and mine not in LEVELS:
            found.append(f"{place}: {mine} has no level; give it one in tests/test_architecture.py")
            continue
        for line, name in imports(path, root):
            top, other = name.split(".")[0], room(name)
            if top in OUTSIDE:
                found.append(f"{place}:{line}: da imports {name}")
            elif (
                top == "da"
                and other != mine
                and not (mine and other in LEVELS and LEVELS[other] < LEVELS[mine])
            ):
                found.append(f"{place}:{line}: {mine or 'da'} imports {name}")
    return found


def families_that_meet(root: Path) -> list[str]:
    """Imports of one family in another, whichever is lower."""
    found = []
    for family in FAMILIES:
        for path in python_files(root / "da" / family):
            others = [
                (line, name)
                for line, name in imports(path, root)
                if room(name) in FAMILIES and room(name) != family
            ]
            found += [f"{path.relative_to(root)}:{line}: {name}" for line, name in others]
    return found


def faces_used_inside(root: Path) -> list[str]:
    """Imports in da/ of a folder's face, which is for users, instead of the file that defines."""
    folders = {
        ".".join(path.parent.relative_to(root).parts)
        for path in python_files(root / "da")
        if path.name == "__init__.py"
    }
    found = []
    for path in python_files(root / "da"):
        for line, name in imports(path, root):
            module = name.rpartition(".")[0]
            defines = (
                name in folders or (root / Path(*name.split("."))).with_suffix(".py").is_file()
            )
            if module.startswith("da") and module in folders and not defines:
                found.append(f"{path.relative_to(root)}:{line}: {name}")
    return found


def faces_that_define(root: Path) -> list[str]:
    """Faces with more than a docstring, imports and __all__, or another __all__ than imports."""
    found = []
    for path in python_files(root / "da"):
        if path.name != "__init__.py" or path.parent == root / "da":
            continue
        body = ast.parse(path.read_text(encoding="utf-8")).body
        taken = {
            alias.asname or alias.name
            for node in body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        rest = [node for node in body[1:] if not isinstance(node, ast.ImportFrom)]
        listed = {
            name
            for node in rest
            if ast.unparse(node).startswith("__all__ = ")
            for name in ast.literal_eval(node.value)
        }
        if len(rest) != 1 or listed != taken:
            found.append(
                f"{path.relative_to(root)}: "
                f"{', '.join(sorted(listed ^ taken)) or 'more than imports and __all__'}"
            )
    return found


def names_twice(root: Path) -> list[str]:
    """Names on a face that are also a file or folder beside it.

    `da.model.delta` would be the function, or the file, by what was imported first.
    """
    found = []
    for path in python_files(root / "da"):
        if path.name != "__init__.py":
            continue
        beside = {other.stem for other in path.parent.iterdir()} - {"__init__"}
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names = {
            alias.asname or alias.name
            for node in body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        found += [f"{path.relative_to(root)}: {name}" for name in sorted(names & beside)]
    return found


def long_files(root: Path) -> list[str]:
    counts = {
        path.relative_to(root): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(root / "da")
    }
    return [f"{path}: {count} lines" for path, count in counts.items() if count > LINES]


def own_loops(root: Path) -> list[str]:
    """Scripts that differentiate or step by themselves; benchmarks of speed may."""
    scripts = [
        path for path in python_files(root / "experiments") if path.parent.name != "benchmarks"
    ]
    return [
        f"{path.name}: {call}"
        for path in scripts
        for call in _method_calls(path)
        if call in ("backward", "optimizer.step")
    ]


def _method_calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value).split(".")[-1]
            yield (
                "optimizer.step"
                if (node.func.attr, owner) in (("step", "optimizer"), ("step", "optimiser"))
                else node.func.attr
            )


def figures_with_networks(root: Path) -> list[str]:
    """Figures that import a network or the loop, or reach torch.nn through torch."""
    forbidden = ("da.networks", "da.train", "torch.nn")
    found = []
    for path in python_files(root / "paper_figures"):
        attributes = [
            n
            for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(n, ast.Attribute)
        ]
        names = [
            *imports(path, root),
            *((node.lineno, "torch.nn") for node in attributes if ast.unparse(node) == "torch.nn"),
        ]
        found += [
            f"{path.name}:{line}: {name}"
            for line, name in names
            if any(f"{name}.".startswith(f"{f}.") for f in forbidden)
        ]
    return found


def public(body: Iterable[ast.stmt]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Functions and classes whose name does not begin with an underscore."""
    yield from (
        node
        for node in body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    )


def undocumented(root: Path) -> list[str]:
    """Modules, and public functions and classes of a module, without a docstring."""
    found = []
    for path in python_files(root / "da"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [node.name for node in public(tree.body) if not ast.get_docstring(node)]
        found += [
            f"{path.relative_to(root)}: {name}"
            for name in ([] if ast.get_docstring(tree) else ["the module"]) + names
        ]
    return found


def unannotated(root: Path) -> list[str]:
    """Arguments and results without a type, in public functions and methods of public classes."""
    found = []
    for path in python_files(root / "da"):
        for node in public(ast.parse(path.read_text(encoding="utf-8")).body):
            functions = [node] if isinstance(node, ast.FunctionDef) else _methods(node)
            found += [
                f"{path.relative_to(root)}: {node.name}: {f.name}: {gap}"
                for f in functions
                for gap in _gaps(f)
            ]
    return found


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [
        f
        for f in node.body
        if isinstance(f, ast.FunctionDef)
        and (not f.name.startswith("_") or f.name.startswith("__"))
    ]


def _gaps(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        *filter(None, (arguments.vararg, arguments.kwarg)),
    ]
    gaps = [a.arg for a in every if a.annotation is None and a.arg not in ("self", "cls")]
    return gaps + ([] if function.returns is not None else ["return"])


RULES = [
    broken_arrows,
    families_that_meet,
    faces_used_inside,
    faces_that_define,
    names_twice,
    long_files,
    own_loops,
    figures_with_networks,
    undocumented,
    unannotated,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule: Callable[[Path], list[str]]) -> None:
    assert rule(ROOT) == []


def test_the_families_are_really_looked_at() -> None:
    """The rules are about something: there are files in each family, and they import."""
    for family in FAMILIES:
        files = python_files(ROOT / "da" / family)
        assert any(name.startswith("da.") for path in files for _, name in imports(path, ROOT))
    assert len(python_files(ROOT / "da")) > 20 and len(python_files(ROOT / "experiments")) > 0


GOOD = (
    '"""A module."""\n\nfrom da.arrays.matrices import like\n\n\n'
    'def good(x: int) -> int:\n    """Says it."""\n    return x\n'
)
BAD = {
    "up": ("da/kernels.py", "from da.train.method import Align\n", broken_arrows),
    "up inside a function": (
        "da/kernels.py",
        "def f():\n    import da.train.loop\n",
        broken_arrows,
    ),
    "family to family": (
        "da/feature/mine.py",
        "from da.instance.mean_matching import kmm\n",
        families_that_meet,
    ),
    "family to family by a relative import": (
        "da/feature/mine.py",
        "from ..model.l2sp import l2_sp\n",
        families_that_meet,
    ),
    "from da import": ("da/data/mine.py", "from da import networks\n", broken_arrows),
    "side by side": ("da/instance/mine.py", "import da.train.loop as loop\n", broken_arrows),
    "out of the package": (
        "da/records/mine.py",
        "from experiments.digits_mmd import Config\n",
        broken_arrows,
    ),
    "tests": ("da/records/mine.py", "import tests.problems\n", broken_arrows),
    "a re-export": ("da/__init__.py", "from da.networks.small import lenet\n", broken_arrows),
    "a face used inside": (
        "da/feature/mine.py",
        "from da.feature import fine\nfrom da.feature import good\n",
        faces_used_inside,
    ),
    "a face that defines": (
        "da/feature/__init__.py",
        '"""Face."""\n\nfrom da.feature.fine import good\n\nx = 1\n',
        faces_that_define,
    ),
    "a face without its list": (
        "da/feature/__init__.py",
        '"""Face."""\n\nfrom da.feature.fine import good\n',
        faces_that_define,
    ),
    "a name twice": (
        "da/feature/good.py",
        '"""A module of the name of a function on the face."""\n',
        names_twice,
    ),
    "a room without a level": ("da/attic.py", "x = 1\n", broken_arrows),
    "long": ("da/kernels.py", "x = 1\n" * 301, long_files),
    "own loop": ("experiments/mine.py", "loss.backward()\n", own_loops),
    "own step": ("experiments/mine.py", "self.optimizer.step()\n", own_loops),
    "a figure with a network": (
        "paper_figures/mine.py",
        "from da.networks.small import lenet\n",
        figures_with_networks,
    ),
    "a figure with torch.nn": (
        "paper_figures/mine.py",
        "from torch import nn\n",
        figures_with_networks,
    ),
    "a figure with torch.nn through torch": (
        "paper_figures/mine.py",
        "import torch\ntorch.nn.ReLU()\n",
        figures_with_networks,
    ),
    "no docstring": (
        "da/kernels.py",
        '"""M."""\ndef f(x: int) -> int:\n    return x\n',
        undocumented,
    ),
    "no module docstring": ("da/kernels.py", "x = 1\n", undocumented),
    "class without a docstring": ("da/kernels.py", '"""M."""\nclass F:\n    pass\n', undocumented),
    "no type of an argument": ("da/kernels.py", "def f(*, x) -> int:\n    return x\n", unannotated),
    "no type of a result": (
        "da/kernels.py",
        "class F:\n    def f(self, x: int):\n        return x\n",
        unannotated,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_broken_rule_is_found(case: str, tmp_path: Path) -> None:
    """A small tree that keeps every rule, then one file in it that breaks one."""
    place, content, rule = BAD[case]
    face = '"""A face."""\n\nfrom da.feature.fine import good\n\n__all__ = ["good"]\n'
    (tmp_path / "da/feature").mkdir(parents=True)
    (tmp_path / "da/feature/__init__.py").write_text(face)
    for path in ("da/kernels.py", "da/feature/fine.py", "experiments/benchmarks/speed.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(GOOD if path.startswith("da") else "loss.backward()\n")
    assert [r(tmp_path) for r in RULES] == [[]] * len(RULES)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(content)
    assert len(rule(tmp_path)) == 1, rule(tmp_path)


@pytest.mark.parametrize(
    "module, heavy",
    [
        ("da.records", {"torch", "torchvision", "wandb", "sklearn"}),
        ("da", {"torch", "numpy", "torchvision", "wandb"}),
        ("da.kernels", {"torchvision", "wandb", "sklearn", "lightning_fabric"}),
        ("da.feature.mmd", {"torchvision", "wandb", "sklearn", "lightning_fabric"}),
        ("da.train.method", {"torchvision", "wandb", "sklearn", "lightning_fabric"}),
    ],
)
def test_what_an_import_does_not_bring(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = set(done.stdout.split())
    assert module in loaded and not heavy & loaded
