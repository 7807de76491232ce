"""What a view says of its page while it is rendered: its life, and its tags."""

from __future__ import annotations

from datetime import datetime

from flask import request

from .render import current_render
from .render import Render
from .revocations import is_tag
from .revocations import TAG_LENGTH


def revalidate_after(seconds: float | None) -> None:
    """Let the page be fresh for so many seconds, or fewer when somebody says fewer."""
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"revalidate_after({seconds!r}): seconds are wanted, as a number, or None")
    done = _current()
    if done is not None:
        done.fresh_for = min(seconds, seconds if done.fresh_for is None else done.fresh_for)


def expires_at(moment: datetime | float) -> None:
    """Let the page be gone at a moment, or earlier when somebody says so."""
    if isinstance(moment, bool) or not isinstance(moment, datetime | int | float):
        raise TypeError(f"expires_at({moment!r}): a datetime is wanted, or seconds since 1970")
    done = _current()
    if done is not None:
        at = moment.timestamp() if isinstance(moment, datetime) else float(moment)
        done.expires_at = min(at, at if done.expires_at is None else done.expires_at)


def add_tags(*tags: str) -> None:
    """Add tags to the page."""
    for tag in tags:
        if not isinstance(tag, str) or not is_tag(tag):
            raise TypeError(f"add_tags({tag!r}): a tag is a text of 1 to {TAG_LENGTH} characters")
    done = _current()
    if done is not None:
        done.tags.update(tags)


def _current() -> Render | None:
    return current_render(request.environ) if request else None
