"""The rules of pages for a value: ``prerender.data``."""

from .decorator import Data as Data
from .decorator import Value as Value
from .fetches import Stats as Stats
from .pipeline import Pipeline as Pipeline
from .values import Fetched as Fetched

__all__ = ["Data", "Fetched", "Pipeline", "Stats", "Value"]
