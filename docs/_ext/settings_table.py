"""``.. prerender-settings::`` renders the table of flask_prerender/settings.py.

Run as a script, it prints what the directive renders.
"""

from __future__ import annotations

import re
from dataclasses import fields
from dataclasses import MISSING

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from flask_prerender.settings import KEYS
from flask_prerender.settings import Settings

# Defaults that another machine computes otherwise.
_COMPUTED = {"PRERENDER_CONCURRENCY": "the number of processors, at most 4"}


def table() -> str:
    """Return the settings as reStructuredText."""
    known = {item.name: item for item in fields(Settings)}
    entries = []
    for key, name in KEYS.items():
        item = known[name]
        if item.default is not MISSING:
            default = item.default
        else:
            assert item.default_factory is not MISSING
            default = item.default_factory()
        told = _COMPUTED.get(key, f"``{default!r}``")
        text = re.sub(r"([*`|_\\])", r"\\\1", item.metadata["help"])
        entries.append(f".. py:data:: {key}\n\n   {text}\n\n   Default: {told}.\n")
    return "\n".join(entries)


class SettingsDirective(SphinxDirective):
    """Put the table of settings here."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(__file__)
        return self.parse_text_to_nodes(table())


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("prerender-settings", SettingsDirective)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    print(table())
