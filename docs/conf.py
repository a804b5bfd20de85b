"""The site: `make site` writes it to build/site/, from the pages, notebooks and docstrings as they are committed."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import bengelib  # noqa: E402
from tools.links import declared_repository  # noqa: E402

project = "Data-efficient deep learning for Earth observation"
author = "the bengelib authors"
project_copyright = "the bengelib authors, BSD 3-Clause licence"
version = release = bengelib.__version__

# The source directory is the root: a page is the file that also stands on GitHub, and links hold in both places.
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CODE_OF_CONDUCT.md",
    "data/README.md",
    "docs/*.md",
    "docs/api/*.rst",
    "[0-9][0-9]-*/*.md",
    "[0-9][0-9]-*/lab_*.ipynb",
    "[0-9][0-9]-*/study/study.ipynb",
]
exclude_patterns = [
    ".*",
    "build",
    "data/*/**",
    "**.src.md",  # the notebooks are built from them
    "[0-9][0-9]-*/[0-9][0-9]_*.md",  # slides
]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "tools.site"]

nb_execution_mode = "off"  # what is shown is what is committed
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
suppress_warnings = [
    "misc.highlighting_failure",  # parts of programs, and Mermaid, which the site draws itself
    "myst.header",  # a lab's first heading stands below its badges
]
html_math_renderer = "mathml"

autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
default_role = "code"  # docstrings quote names in single backticks
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["site.css", "site.js"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options = {
    "repository_url": f"https://github.com/{declared_repository()}",
    "repository_branch": "main",
    "use_repository_button": True,
    "use_download_button": False,
    "show_navbar_depth": 1,
    "navbar_persistent": [],  # the theme has its search in the sidebar
}
