"""The site of docs/: `make docs` builds it into docs/_build; a warning is an error."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import crdtbucket  # noqa: E402

project = "crdtbucket"
author = "The crdtbucket authors"
version = release = crdtbucket.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"crdtbucket {release}"
html_js_files = ["https://cdn.jsdelivr.net/npm/mermaid@11/dist/mermaid.min.js"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# Snippets show answers with "..." in them, which is no JSON.
suppress_warnings = ["misc.highlighting_failure"]

REPOSITORY = "https://github.com/crdtbucket/crdtbucket/blob/main/"


def for_the_site(app: Sphinx, name: str, source: list[str]) -> None:
    """Files of the project that are no page are linked where they are; drawings become drawings."""
    text = re.sub(r"\]\(\.\./([^)]+)\)", rf"]({REPOSITORY}\1)", source[0])
    source[0] = re.sub(r"^```mermaid\n(.*?)^```$", r'<pre class="mermaid">\n\1</pre>', text,
                       flags=re.MULTILINE | re.DOTALL)  # fmt: skip


def setup(app: Sphinx) -> None:
    """Sphinx calls this first."""
    app.connect("source-read", for_the_site)
