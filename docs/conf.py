"""Sphinx configuration."""

from __future__ import annotations

project = "Dovetail"
author = "The Dovetail authors"
copyright = "The Dovetail authors; Apache-2.0"  # noqa: A001 (Sphinx reads this name)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = "Dovetail"
exclude_patterns = ["_build"]
