"""The documentation: `make docs` builds it into out/docs, without a network."""

import sys
from pathlib import Path

from summiteer import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Summiteer"
author = "The Summiteer developers"
project_copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    # Ours, in _ext.
    "docstrings",
    "literals",
    "works",
    "offline",
]
exclude_patterns = ["_ext", "_build"]
html_theme = "furo"
html_title = f"Summiteer {release}"
html_static_path = ["_static"]
html_css_files = ["summiteer.css"]
html_copy_source = False
html_show_sourcelink = False
# Console output is no Python; blocks that are Python say so.
highlight_language = "text"

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3

# One copy of MathJax that draws with SVG: it needs no fonts and asks for no other file.
mathjax_path = "mathjax/tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}

# The tutorial is run anew by each build; its errors are errors of the build.
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# "Warns:" and what else is no section of napoleon's own.
napoleon_custom_sections = [("Departures", "notes_style")]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"
