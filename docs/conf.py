"""How the documentation is built: ``sphinx-build -W docs site``."""

from ppfacerec import __version__

project = "ppfacerec"
version = release = __version__
project_copyright = "the authors of ppfacerec, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples"]  # shown inside the pages
default_role = "code"  # `name` in docstrings
highlight_language = "none"  # of indented commands; Python stands in fences
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"ppfacerec {release}"
html_show_sphinx = False
