"""What visitors write under a page: kept in the database, shown by the page.

A commit that changes the notes of a page takes that page back, so that it shows them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from datetime import UTC
from typing import Any

from flask import abort
from flask import Blueprint
from flask import current_app
from flask import redirect
from flask import render_template
from flask import request
from flask.typing import ResponseReturnValue
from sqlalchemy import event
from sqlalchemy import inspect
from sqlalchemy import select
from sqlalchemy import String
from sqlalchemy import Text
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateIndex
from sqlalchemy.schema import CreateTable

from flask_prerender import StoreError

from .catalogue import catalogue
from .catalogue import Entry
from .catalogue import Module
from .extensions import Base
from .extensions import db
from .extensions import prerender
from .links import url_of

LIMITS = {"title": 80, "author": 40, "text": 2000}
LATEST = 50
CHANGED = "example_app.notes"
bp = Blueprint("notes", __name__)


class Note(Base):
    """One note under one page."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    # With its history, so that a note that moves is known to leave a page.
    page: Mapped[str] = mapped_column(String(200), index=True, active_history=True)
    title: Mapped[str] = mapped_column(String(LIMITS["title"]))
    author: Mapped[str] = mapped_column(String(LIMITS["author"]))
    text: Mapped[str] = mapped_column(Text)
    written_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))

    @property
    def thing(self) -> Entry | Module | None:
        """What the note is about, if this Python still has it."""
        return thing_of(self.page)


def thing_of(page: str) -> Entry | Module | None:
    """Return what a page such as ``library/json`` or ``library/json/loads`` is about."""
    match page.split("/"):
        case ["library", module]:
            return catalogue().by_name.get(module)
        case ["library", module, name]:
            return catalogue().entries.get((module, name))
    return None


def notes_on(page: str) -> list[Note]:
    """Return the notes under a page, oldest first."""
    _make_table()
    found = select(Note).where(Note.page == page).order_by(Note.id)
    return list(db.session.scalars(found))


def _make_table() -> None:
    # Several workers may come here at once: the database decides, and each asks it only once.
    if current_app.extensions.get("example_app.notes"):
        return
    table = Base.metadata.tables[Note.__tablename__]
    with db.engine.begin() as connection:
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))
    current_app.extensions["example_app.notes"] = True


def tag_of(page: str) -> str:
    """Return the tag of a page that shows notes."""
    return f"notes:{page}"


@event.listens_for(db.session, "after_flush")
def _collect(session: Session, context: Any) -> None:
    for note in {*session.new, *session.dirty, *session.deleted}:
        if isinstance(note, Note):
            left = inspect(note).attrs.page.history.deleted
            session.info.setdefault(CHANGED, set()).update([note.page, *left])


@event.listens_for(db.session, "after_commit")
def _take_back(session: Session) -> None:
    pages = session.info.pop(CHANGED, ())
    if not pages:
        return
    try:
        prerender.purge(tag=[tag_of(page) for page in sorted(pages)])
    except StoreError:
        # The note is safe, and the pages are made anew by time.
        current_app.logger.exception("The notes on %s show only later", ", ".join(sorted(pages)))


@event.listens_for(db.session, "after_rollback")
def _forget(session: Session) -> None:
    session.info.pop(CHANGED, None)


def problems_of(fields: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with a note, by field."""
    problems = {}
    for name, limit in LIMITS.items():
        length = len(fields[name])
        if not length:
            problems[name] = f"The {name} is missing."
        elif length > limit:
            problems[name] = f"The {name} has {length} characters; {limit} are possible."
    return problems


@bp.get("/notes/")
def latest() -> str:
    _make_table()
    found = db.session.scalars(select(Note).order_by(Note.id.desc()).limit(LATEST))
    return render_template("notes.html", notes=list(found))


@bp.post("/notes/<path:page>")
def post(page: str) -> ResponseReturnValue:
    thing = thing_of(page) or abort(404)
    fields = {name: _field(name) for name in LIMITS}
    problems = problems_of(fields)
    if problems:
        shown = render_template(
            "note_form.html", thing=thing, page=page, fields=fields, problems=problems
        )
        return shown, 422
    _make_table()
    note = Note(page=page, **fields)
    db.session.add(note)
    db.session.commit()
    return redirect(f"{url_of(thing)}#note-{note.id}", 303)


def _field(name: str) -> str:
    return request.form.get(name, "").replace("\r\n", "\n").strip()
