"""The rules of pages for a value: ``prerender.data``.

The way of a call: ``decorator`` or ``pipeline`` names the value by a key, ``kept`` finds where the
app at hand has the values of this function, and ``source`` looks on its ``shelf``. What is not
there, or is stale, is fetched by one caller for all (``flights``, and ``turns`` over processes), in
an empty context (``fetching``), which also gives the page that is rendered its tags and its life.
"""

from .decorator import Data as Data
from .decorator import Value as Value
from .pipeline import Pipeline as Pipeline
from .values import Fetched as Fetched
from .values import Stats as Stats

__all__ = ["Data", "Fetched", "Pipeline", "Stats", "Value"]
