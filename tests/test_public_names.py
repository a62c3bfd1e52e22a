import ast
import subprocess
import sys
from pathlib import Path

import summiteer as sm


def test_what_type_checkers_see_is_what_there_is():
    tree = ast.parse(Path(sm.__file__).read_text())
    guard = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: f"{node.module}".removeprefix("summiteer.")
        for node in guard.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    modules = {name for name, home in seen.items() if home == "summiteer"}
    assert modules == set(sm._MODULES)
    seen = {name: home for name, home in seen.items() if name not in modules}
    assert seen == sm._MODULE_OF
    for name in sm.__all__:
        assert getattr(sm, name).__doc__


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, summiteer; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
