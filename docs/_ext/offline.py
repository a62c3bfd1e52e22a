"""Pages load nothing from elsewhere: MathJax is copied in, every page looked at."""

import importlib.util
import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

#: The one file of the package that is needed: MathJax 3 with its glyphs as SVG.
_MATHJAX = "static/mathjax/tex-svg.js"
#: What a browser fetches by itself; links that are clicked may lead anywhere.
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=["'](?:https?:)?//[^"']*"""
    r"""|<link\b(?=[^>]*rel=["'](?:stylesheet|preload|icon|preconnect))"""
    r"""[^>]*\bhref=["'](?:https?:)?//[^"']*""",
    re.IGNORECASE,
)
_STYLES = re.compile(r"""(?:@import|url\()\s*["']?(?:https?:)?//[^"')]*""")


def _finish(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise ExtensionError("pip install sphinx-mathjax-offline: it holds MathJax")
    out = Path(app.outdir)
    copy = out / "_static" / "mathjax" / "tex-svg.js"
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(package.origin).parent / _MATHJAX, copy)
    for pattern, suffix in ((_LOADED, "*.html"), (_STYLES, "*.css")):
        for page in out.rglob(suffix):
            found = pattern.search(page.read_text(encoding="utf-8"))
            if found:
                raise ExtensionError(f"{page} loads from elsewhere: {found[0]}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Look at the pages once they are written."""
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True}
