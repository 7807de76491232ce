"""Static prerendering and incremental static regeneration for Flask."""

from . import manifest as manifest
from . import signals as signals
from .compress import Compressor as Compressor
from .data import Fetched as Fetched
from .errors import BlobMissingError as BlobMissingError
from .errors import BudgetError as BudgetError
from .errors import CollisionError as CollisionError
from .errors import ConfigError as ConfigError
from .errors import DataError as DataError
from .errors import FencedError as FencedError
from .errors import MarkError as MarkError
from .errors import PrerenderError as PrerenderError
from .errors import RenderError as RenderError
from .errors import RouteError as RouteError
from .errors import StoreError as StoreError
from .errors import TagsError as TagsError
from .extension import Prerender as Prerender
from .generate import generate as generate
from .marks import mark as mark
from .page import Page as Page
from .problems import Problem as Problem
from .publish import Outcome as Outcome
from .revalidate import Taken as Taken
from .signals import attach_default_logger as attach_default_logger
from .tally import Report as Report

__all__ = [
    "BlobMissingError",
    "BudgetError",
    "CollisionError",
    "Compressor",
    "ConfigError",
    "DataError",
    "FencedError",
    "Fetched",
    "MarkError",
    "Outcome",
    "Page",
    "Prerender",
    "PrerenderError",
    "Problem",
    "RenderError",
    "Report",
    "RouteError",
    "StoreError",
    "TagsError",
    "Taken",
    "attach_default_logger",
    "generate",
    "manifest",
    "mark",
    "signals",
]
