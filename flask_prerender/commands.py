"""``flask prerender revalidate``, ``purge``, ``refresh`` and ``why``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from .revalidate import refresh
from .revalidate import take_back
from .revalidate import Taken
from .site import Site
from .why import explain

Open = Callable[[], Site]


def make_commands(open_site: Open) -> list[click.Command]:
    """Return the commands that take pages back and explain them.

    :param open_site: gives the site of the current app.
    """
    return [
        _taking("revalidate", open_site, hard=False),
        _taking("purge", open_site, hard=True),
        _refresh(open_site),
        _why(open_site),
    ]


def _taking(name: str, open_site: Open, *, hard: bool) -> click.Command:
    text = (
        "Take pages back at once: the next visitor waits for a new render."
        if hard
        else "Mark pages stale: they are served on, and made new at their next visit."
    )

    @click.command(name, help=text)
    @_naming
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def command(as_json: bool, **given: Any) -> None:
        named = _named(given)
        taken = take_back(open_site(), hard=hard, **named)
        _show(taken, as_json)
        if taken.refused or taken.unknown:
            raise click.exceptions.Exit(1)

    return command


def _naming(command: Callable[..., None]) -> Callable[..., None]:
    """Add what names pages."""
    for option in (
        click.option("--all", "everything", is_flag=True, help="Every page."),
        click.option("--prefix", "prefixes", multiple=True, help="Pages at and under this path."),
        click.option("--endpoint", "endpoints", multiple=True, help="Pages of this endpoint."),
        click.option("--tag", "tags", multiple=True, help="Pages with this tag."),
        click.argument("paths", nargs=-1, metavar="[PATH]..."),
    ):
        command = option(command)
    return command


def _named(given: dict[str, Any]) -> dict[str, Any]:
    """Return what was named as the rooms below take it.

    :raises UsageError: nothing was.
    """
    if not any(given.values()):
        raise click.UsageError("Name a path, --tag, --endpoint, --prefix, or --all.")
    return {**given, "endpoints": [(endpoint, None) for endpoint in given["endpoints"]]}


def _show(taken: Taken, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(taken.to_dict(), indent=2))
        return
    for path in taken.affected:
        click.echo(f"{'purged' if taken.hard else 'stale'}: {path}")
    for tag in taken.tags:
        if not tag.startswith("path:"):
            click.echo(f"{'purged' if taken.hard else 'stale'}: every page with {tag}")
    for path in taken.unknown:
        click.secho(f"not stored: {path}", fg="yellow", err=True)
    for what, reason in taken.refused.items():
        click.secho(f"refused: {what}: {reason}", fg="red", err=True)


def _refresh(open_site: Open) -> click.Command:
    @click.command("refresh", help="Render pages now, and end when they are new.")
    @_naming
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def command(as_json: bool, **given: Any) -> None:
        named = _named(given)
        site = open_site()
        facts: list[dict[str, str]] = []
        is_good = True
        for one in refresh(site, site.regenerator, **named):
            is_good &= one.is_stored
            fact = {"path": one.key, "result": one.result, "reason": one.reason}
            facts.append({**fact, "detail": one.detail, "where": one.where})
            if not as_json:
                text = f"{one.result}: {one.key} {one.reason} {one.detail} {one.where}"
                click.echo(text.rstrip(), err=not one.is_stored)
        if as_json:
            click.echo(json.dumps(facts, indent=2))
        if not is_good:
            raise click.exceptions.Exit(1)

    return command


def _why(open_site: Open) -> click.Command:
    @click.command("why", help="Say why a URL is answered as it is.")
    @click.argument("url")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.option("--no-render", is_flag=True, help="Do not render the page to see what comes.")
    @click.option(
        "--header",
        "headers",
        multiple=True,
        metavar="'NAME: VALUE'",
        help="A header of the request, where pages differ by it.",
    )
    def command(url: str, as_json: bool, no_render: bool, headers: tuple[str, ...]) -> None:
        facts = explain(open_site(), url, _headers(headers), try_it=not no_render)
        if as_json:
            click.echo(json.dumps(facts, indent=2))
            return
        for name, value in facts.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            click.echo(f"{name.replace('_', ' '):>18}  {'for ever' if shown is None else shown}")

    return command


def _headers(lines: tuple[str, ...]) -> dict[str, str]:
    """
    :raises BadParameter: a line is no header.
    """
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{line!r} is not like 'Accept-Language: de'.")
        found[name.strip()] = value.strip()
    return found
