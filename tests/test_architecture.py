"""The shape of the house: imports go upwards, one ascent loop, small files."""

import ast
import inspect
import re
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

import summiteer

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "summiteer"

#: Each line may import itself and the lines above it, never one below.
LAYERS = (
    "errors interruption _typing _version",
    "adapters",
    "tolerances confidence",
    "cells environment engine disk store driver",
    "_rows draws data bibliography",
    "regions",
    "networks",
    "objectives",
    "_caller passes precision",
    "inputs feasible",
    "problem",
    "until",
    "spaces",
    "_constants recurrence",
    "starts adversaries",
    "outcome trajectory",
    "ascent",
    "loop",
    "_ascend",
    "_snap cycle",
    "multi_target",
    "optimality",
    "analytic landscape",
    "findings",
    "searching",
    "screen settings memory",
    "examination",
    "population",
    "summary",
    "attack_summary auditing",
    "_attack _audit violation training",
    "planning",
    "exploring runs",
    "studies",
    "report",
    "cli",
    "__main__",
)
LAYER = {name: i for i, layer in enumerate(LAYERS) for name in layer.split()}
LONGEST_FILE, LONGEST_FUNCTION = 500, 60

FILES = sorted(PACKAGE.rglob("*.py"))
LOOPS = (ast.For, ast.While, ast.comprehension)


def _name(file: Path) -> str:
    """`regions/box.py` -> `regions.box`, `regions/__init__.py` -> `regions`."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(file): file for file in FILES}


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def _own_imports(node: ast.AST) -> set[str]:
    """The modules of this package that an import statement names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide where a name comes from"
        # `from summiteer.a import b` names the module a.b if there is one, else a.
        names = [
            f"{node.module}.{alias.name}"
            if f"{node.module}.{alias.name}".removeprefix("summiteer.") in MODULES
            else str(node.module)
            for alias in node.names
        ]
    else:
        return set()
    own = {name for name in names if name.split(".")[0] == "summiteer"}
    return {name.removeprefix("summiteer").removeprefix(".") for name in own}


GRAPH = {
    module: set().union(*(_own_imports(node) for node in ast.walk(_tree(file)))) - {""}
    for module, file in MODULES.items()
    if module
}


def _where(file: Path, node: ast.AST) -> str:
    return f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', '?')}"


def test_the_files_were_found():
    assert {"_ascend", "problem", "regions.l2_ball", "optimality"} <= set(MODULES)
    assert "problem" in GRAPH["_ascend"]
    assert "_rows" in GRAPH["_ascend"]  # from summiteer import _rows


def test_every_module_has_its_place():
    unknown = {name.split(".")[0] for name in GRAPH} - set(LAYER)
    assert not unknown, f"add {unknown} to LAYERS where their imports put them"


def test_imports_only_go_upwards():
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if LAYER[other.split(".")[0]] > LAYER[module.split(".")[0]]
    ]
    assert not wrong


def test_there_is_no_cycle():
    done, path = set(), []

    def visit(module: str) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module in done:
            return
        path.append(module)
        for other in sorted(GRAPH[module]):
            visit(other)
        path.pop()
        done.add(module)

    for module in GRAPH:
        visit(module)
    assert done == set(GRAPH)


def test_a_package_is_not_imported_from_within():
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if module.startswith(other + ".")
    ]
    assert not wrong


def test_own_modules_are_imported_at_the_top():
    wrong = [
        _where(file, node)
        for file in FILES
        if not (file.parent.name == "cli" or file == PACKAGE / "__init__.py")
        for function in ast.walk(_tree(file))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
        if _own_imports(node)
    ]
    assert not wrong


def _calls_in_loops(file: Path) -> list[ast.Call]:
    return [
        call
        for loop in ast.walk(_tree(file))
        if isinstance(loop, LOOPS)
        for call in ast.walk(loop)
        if isinstance(call, ast.Call)
    ]


def _is_step(call: ast.Call) -> bool:
    """adversary.step(rows, points, evaluation, state); optimizer.step() has none."""
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "step"
        and len(call.args) >= 3
    )


def test_there_is_one_ascent_loop():
    stepping = {f.name for f in FILES if any(map(_is_step, _calls_in_loops(f)))}
    assert stepping == {"_ascend.py"}
    counting = {
        file.name
        for file in FILES
        for loop in ast.walk(_tree(file))
        if isinstance(loop, ast.For | ast.comprehension)
        and "max_steps" in ast.unparse(loop.iter)
    }
    assert counting == {"_ascend.py"}


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body; docstring and signature are there to be read, not followed."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize(
    "folder", ["src", "tests", "benchmarks", "examples", "soundness", "chaos"]
)
def test_files_and_functions_are_short(folder):
    wrong = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        lines = len(file.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST_FILE:
            wrong.append(f"{file.relative_to(ROOT)}: {lines} lines")
        wrong += [
            f"{_where(file, node)} {node.name}: {_length(node)} lines"
            for node in ast.walk(_tree(file))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and _length(node) > LONGEST_FUNCTION
        ]
    assert not wrong


def test_no_absolute_path_is_written_down():
    pattern = re.compile(
        r"(?<![\w.:/$}!])/(?:work|home|tmp|usr|root|opt|mnt)/\w|[A-Z]:\\"
    )
    texts = {".py", ".toml", ".md", ".txt", ".yml", ".cff", ".html", ""}
    folders = [
        ROOT / name
        for name in (
            "src",
            "tests",
            "benchmarks",
            "soundness",
            "chaos",
            "examples",
            ".ci",
        )
    ]
    files = [f for folder in folders for f in folder.rglob("*") if f.is_file()]
    files += [file for file in ROOT.iterdir() if file.is_file()]
    read = [f for f in files if f.suffix in texts and "__pycache__" not in f.parts]
    assert PACKAGE / "_ascend.py" in read
    wrong = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in read
        for line in file.read_text(encoding="utf-8").splitlines()
        if pattern.search(line)
    ]
    assert not wrong


def test_no_module_hides_a_public_name():
    """Importing `summiteer.attack` would replace the function `summiteer.attack`."""
    modules = {name for name in MODULES if name and "." not in name}
    assert not modules & set(summiteer.__all__)


@pytest.mark.parametrize("name", summiteer.__all__)
def test_public_names_are_documented(name):
    value = getattr(summiteer, name)
    text = inspect.getdoc(value)
    assert text
    # A dataclass without a docstring is given its own signature.
    assert not text.startswith(f"{name}(")
    assert not name.startswith("_")


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = summiteer.nonsense
    assert set(summiteer.__all__) <= set(dir(summiteer))


def test_importing_the_package_imports_no_torch():
    code = "import sys, summiteer; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_layers_name_each_module_once():
    names = [name for layer in LAYERS for name in layer.split()]
    assert all(a != b for a, b in pairwise(sorted(names)))
