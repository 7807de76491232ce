"""What visitors write under a page: kept in the database, shown by the page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from datetime import UTC

from flask import abort
from flask import Blueprint
from flask import current_app
from flask import redirect
from flask import render_template
from flask import request
from flask import url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy import String
from sqlalchemy import Text
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.schema import CreateIndex
from sqlalchemy.schema import CreateTable

from .catalogue import catalogue
from .catalogue import Entry
from .catalogue import Module
from .extensions import Base
from .extensions import db

LIMITS = {"title": 80, "author": 40, "text": 2000}
LATEST = 50
bp = Blueprint("notes", __name__)


class Note(Base):
    """One note under one page."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    page: Mapped[str] = mapped_column(String(200), index=True)
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
    # The stored page does not have the note yet. A query it does not know goes to the app.
    place = url_for("library.module", module=thing.name, note=note.id)
    if isinstance(thing, Entry):
        place = url_for("library.entry", module=thing.module, name=thing.name, note=note.id)
    return redirect(f"{place}#note-{note.id}", 303)


def _field(name: str) -> str:
    return request.form.get(name, "").replace("\r\n", "\n").strip()
