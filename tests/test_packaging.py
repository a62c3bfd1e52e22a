"""What is built of the project can be installed, and is whole without the checkout."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import summiteer

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "summiteer"

pytest.importorskip("hatchling", reason="hatchling, which builds, is not installed")
# The wheel is built once: one process has all of these tests.
pytestmark = pytest.mark.xdist_group("packaging")


def done(*command, **options):
    """Run Python with arguments; what it printed."""
    ended = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **options,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist."""
    place = tmp_path_factory.mktemp("dist")
    done("-m", "hatchling", "build", "-d", place, cwd=ROOT)
    (wheel,), (sdist,) = place.glob("*.whl"), place.glob("*.tar.gz")
    return wheel, sdist


def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_package_and_nothing_else(built):
    found = names(built[0])
    files = [p for p in PACKAGE.rglob("*") if p.is_file()]
    ours = {
        p.relative_to(PACKAGE.parent).as_posix()
        for p in files
        if "__pycache__" not in p.parts
    }
    assert "summiteer/report/templates/page.html" in ours
    assert ours <= found
    rest = {name.split("/")[0] for name in found - ours}
    assert rest == {f"summiteer-{summiteer.__version__}.dist-info"}
    assert "summiteer/py.typed" in found
    ends = {name.rpartition("/")[2] for name in found}
    assert {"page.html", "page.css", "page.js", "LICENSE", "entry_points.txt"} <= ends


def test_the_sdist_makes_the_same_wheel(built, tmp_path):
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    for name in ("README.md", "LICENSE", "CITATION.cff", "pyproject.toml", "tests"):
        assert (source / name).exists()
    done("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "w", cwd=source)
    (again,) = (tmp_path / "w").glob("*.whl")
    assert names(again) == names(wheel)


def test_what_is_installed_runs_from_anywhere(built, tmp_path):
    """In a place of its own; what it depends on is not fetched again."""
    place, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    options = ("--no-deps", "--no-index", "--no-compile", "--target", place)
    done("-m", "pip", "-q", "install", *options, built[0])
    here = {"cwd": empty, "env": os.environ | {"PYTHONPATH": str(place)}}
    found = Path(done("-c", "import summiteer; print(summiteer.__file__)", **here))
    assert found.is_relative_to(place)
    said = f"summiteer {summiteer.__version__}\n"
    assert done("-m", "summiteer", "--version", **here) == said
    assert done(place / "bin" / "summiteer", "--version", **here) == said
    # Templates and plotly.js are found, too.
    code = (
        "from summiteer.report.document import Document\n"
        "from summiteer.report.page import page\n"
        "print(len(page(Document('t', (), ()))))"
    )
    assert int(done("-c", code, **here)) > 1000
    assert not any(empty.iterdir())
