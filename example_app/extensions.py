"""The extensions of the site, made here and given their app in the factory."""

from __future__ import annotations

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from flask_prerender import Prerender


class Base(DeclarativeBase):
    """The base of the site's models."""


db = SQLAlchemy(model_class=Base)
prerender = Prerender()
