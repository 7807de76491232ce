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
    @click.argument("paths", nargs=-1, metavar="[PATH]...")
    @click.option("--tag", "tags", multiple=True, help="Pages with this tag.")
    @click.option("--endpoint", "endpoints", multiple=True, help="Pages of this endpoint.")
    @click.option("--prefix", "prefixes", multiple=True, help="Pages at and under this path.")
    @click.option("--all", "everything", is_flag=True, help="Every page.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def command(
        paths: tuple[str, ...],
        tags: tuple[str, ...],
        endpoints: tuple[str, ...],
        prefixes: tuple[str, ...],
        everything: bool,
        as_json: bool,
    ) -> None:
        if not (paths or tags or endpoints or prefixes or everything):
            raise click.UsageError("Name a path, --tag, --endpoint, --prefix, or --all.")
        taken = take_back(
            open_site(),
            hard=hard,
            paths=paths,
            prefixes=prefixes,
            endpoints=[(endpoint, None) for endpoint in endpoints],
            tags=tags,
            everything=everything,
        )
        _show(taken, as_json)
        if taken.refused or taken.unknown:
            raise click.exceptions.Exit(1)

    return command


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
    @click.argument("paths", nargs=-1, required=True, metavar="PATH...")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def command(paths: tuple[str, ...], as_json: bool) -> None:
        site = open_site()
        outcomes = refresh(site, site.regenerator, paths)
        facts: list[dict[str, Any]] = [
            {
                "path": one.key,
                "result": one.result,
                "reason": one.reason,
                "detail": one.detail,
                "where": one.where,
            }
            for one in outcomes
        ]
        if as_json:
            click.echo(json.dumps(facts, indent=2))
        else:
            for one in outcomes:
                text = f"{one.result}: {one.key} {one.reason} {one.detail} {one.where}"
                click.echo(text.rstrip(), err=not one.is_stored)
        if not all(one.is_stored for one in outcomes):
            raise click.exceptions.Exit(1)

    return command


def _why(open_site: Open) -> click.Command:
    @click.command("why", help="Say why a URL is answered as it is.")
    @click.argument("url")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.option("--no-render", is_flag=True, help="Do not render the page to see what comes.")
    def command(url: str, as_json: bool, no_render: bool) -> None:
        facts = explain(open_site(), url, try_it=not no_render)
        if as_json:
            click.echo(json.dumps(facts, indent=2))
            return
        for name, value in facts.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            click.echo(f"{name.replace('_', ' '):>18}  {'for ever' if shown is None else shown}")

    return command
