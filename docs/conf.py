"""The Sphinx configuration."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Flask-Prerender"
copyright = "2026 The Flask-Prerender developers"
author = "The Flask-Prerender developers"
release = version = installed_version("flask-prerender")

extensions = ["sphinx.ext.autodoc", "pallets_sphinx_themes", "settings_table"]
exclude_patterns = ["_build", "_ext"]
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_preserve_defaults = True

html_theme = "flask"
html_theme_options = {"index_sidebar_logo": False}
html_title = f"Flask-Prerender {release}"
html_show_sourcelink = False


def _issue(name, rawtext, text, lineno, inliner, options=None, content=None):  # type: ignore[no-untyped-def]
    return [nodes.inline(rawtext, f"#{text}")], []


def setup(app: Sphinx) -> None:
    app.add_role("issue", _issue)
