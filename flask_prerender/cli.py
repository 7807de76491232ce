"""``flask prerender``: options, progress, exit codes.

Exit codes: 0, everything planned is stored; 1, some pages are not, and the report says which and
why; 2, the call or the configuration is wrong.
"""

from __future__ import annotations

import json
import sys
import typing as t
from collections import Counter
from contextlib import closing
from contextlib import redirect_stdout
from pathlib import Path

import click
from flask import current_app
from flask.cli import AppGroup
from flask.cli import with_appcontext

from . import report
from .commands import make_commands
from .errors import ConfigError
from .errors import PrerenderError
from .errors import RouteError
from .errors import StoreError
from .generate import Build
from .options import HEADERS
from .page import Page
from .site import Site
from .site import site_of


class _Group(AppGroup):
    """A group whose errors of ours end in a sentence and not in a traceback."""

    def invoke(self, ctx: click.Context) -> t.Any:
        try:
            return super().invoke(ctx)
        except PrerenderError as error:
            click.secho(f"Error: {error}", err=True, fg="red")
            ctx.exit(2 if isinstance(error, ConfigError | RouteError) else 1)


def _site() -> Site:
    """Return the app's site, and see to it that its files are closed when the command ends: an
    index that was closed well can be read from a read-only directory."""
    site = site_of(current_app._get_current_object())  # type: ignore[attr-defined]
    click.get_current_context().call_on_close(site.close)
    return site


def make_group() -> click.Group:
    """Return the commands for one app."""
    group = _Group(
        "prerender",
        invoke_without_command=True,
        callback=_build,
        params=_BUILD_OPTIONS,
        help=_HELP,
        short_help="Render marked routes to files.",
    )
    group.add_command(_routes)
    group.add_command(_status)
    for command in make_commands(_site):
        group.add_command(command)
    return group


_HELP = """Render marked routes to files.

Without a command this builds: every URL of every marked route is rendered through the whole app and
stored. A page that fails keeps what was stored before.
"""

_BUILD_OPTIONS: list[click.Parameter] = [
    click.Option(
        ["--path", "paths"],
        multiple=True,
        metavar="URL",
        help="Only this URL, exact or with shell wildcards. May be given several times.",
    ),
    click.Option(
        ["--tag", "tags"],
        multiple=True,
        help="Only pages with this tag. May be given several times.",
    ),
    click.Option(
        ["--output"],
        type=click.Path(file_okay=False, path_type=Path),
        help="Write to this directory. Remembered, so that the server finds it.",
    ),
    click.Option(
        ["--style"],
        type=click.Choice(["dir_index", "file"]),
        help="File names: about/index.html or about.html. Remembered like --output.",
    ),
    click.Option(["--concurrency"], type=click.IntRange(1), help="Renders at a time, in threads."),
    click.Option(["--processes"], type=click.IntRange(1), help="Render in so many processes."),
    click.Option(
        ["--fork"],
        is_flag=True,
        help="Fork these processes: only for apps that have no connection open.",
    ),
    click.Option(["--json", "as_json"], is_flag=True, help="Print the report as JSON."),
    click.Option(["--dry-run"], is_flag=True, help="List the URLs and render nothing."),
    click.Option(["--fail-fast"], is_flag=True, help="Stop at the first page that is not stored."),
    click.Option(["--quiet", "-q"], is_flag=True, help="Print nothing but what went wrong."),
]


@with_appcontext
@click.pass_context
def _build(
    ctx: click.Context,
    /,
    output: Path | None,
    fork: bool,
    as_json: bool,
    dry_run: bool,
    quiet: bool,
    **options: t.Any,
) -> None:
    if ctx.invoked_subcommand is not None:
        given = [name for name, value in ctx.params.items() if value]
        if given:
            raise click.UsageError(f"{ctx.invoked_subcommand} takes no option of the build.")
        return
    site = _site()
    build = Build(
        site,
        output=output.absolute() if output else None,
        method="fork" if fork else "spawn",
        **options,
    )
    if dry_run:
        _list_plan(build, as_json)
        return
    if as_json:
        _run_as_json(build)
    else:
        _run(build, is_silent=quiet)
        report.show(build.report, site, quiet=quiet)
    ctx.exit(0 if build.report.is_good else 1)


def _run_as_json(build: Build) -> None:
    try:
        with redirect_stdout(sys.stderr):  # what views print is no part of the report
            _run(build, is_silent=True)
    except StoreError as error:
        build.report.error = str(error)
    click.echo(json.dumps(build.report.to_dict(), indent=2, default=str))


def _run(build: Build, *, is_silent: bool) -> None:
    with click.progressbar(
        build.run(),
        length=build.report.total,
        label="Prerendering",
        show_pos=True,
        item_show_func=lambda outcome: outcome.key[-40:] if outcome else "",
        hidden=is_silent,
    ) as outcomes:
        for _ in outcomes:
            outcomes.length = build.report.total  # it is counted anew where the build goes


def _list_plan(build: Build, as_json: bool) -> None:
    with closing(build):
        urls = (target.key for target in build.plan)
        if as_json:
            click.echo(json.dumps({"total": len(build.plan), "urls": list(urls)}))
        else:
            for url in urls:
                click.echo(url)
    report.show_problems(build.report)
    if not build.report.is_good:
        raise click.exceptions.Exit(1)


@click.command("routes")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--urls", is_flag=True, help="List every URL of every route.")
@with_appcontext
def _routes(as_json: bool, urls: bool) -> None:
    """List the marked routes and their URLs."""
    site = _site()
    counts: Counter[tuple[str, str]] = Counter()
    listed: dict[tuple[str, str], list[str]] = {}
    with closing(Build(site)) as build:
        for target in build.plan:
            name = (target.rule, target.endpoint)
            counts[name] += 1
            if urls or counts[name] <= 3:
                listed.setdefault(name, []).append(target.key)
    rows = [
        {
            "rule": rule.rule,
            "endpoint": rule.endpoint,
            "urls": counts[rule.rule, rule.endpoint],
            "fallback": mark.fallback,
            "revalidate": HEADERS if mark.respects else mark.revalidate,
            "visitors": mark.visitors,
            "examples": listed.get((rule.rule, rule.endpoint), []),
        }
        for rule, mark in site.routes.marked_rules()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        report.show_routes(rows, all_urls=urls)
    report.show_problems(build.report)


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "everything", is_flag=True, help="List every page, not only the oldest.")
@with_appcontext
def _status(as_json: bool, everything: bool) -> None:
    """Say what is stored, how old it is, and how large."""
    site = _site()
    now = site.clock()
    totals: Counter[str] = Counter()
    oldest: list[Page] = []
    for page in site.store.pages():
        totals["pages"] += 1
        totals["bytes"] += page.size
        totals[page.origin] += 1
        totals[page.state(now)] += 1
        oldest.append(page)
        if not everything and len(oldest) > 200:
            oldest = sorted(oldest, key=lambda one: one.checked_at)[:20]
    if not everything:
        oldest = sorted(oldest, key=lambda one: one.checked_at)[:20]
    facts = _status_facts(site, totals)
    if as_json:
        pages = [
            {
                "key": page.key,
                "endpoint": page.endpoint,
                "state": page.state(now),
                "age": round(page.age(now), 1),
                "bytes": page.size,
                "origin": page.origin,
            }
            for page in oldest
        ]
        click.echo(json.dumps({**facts, "listed": pages}, indent=2))
        return
    report.show_status(facts, oldest, now, everything=everything)


def _status_facts(site: Site, totals: Counter[str]) -> dict[str, t.Any]:
    return {
        "path": str(site.output),
        "style": site.style,
        "revision": site.coordination.revision(),
        "pages": totals["pages"],
        "bytes": totals["bytes"],
        "from_builds": totals["build"],
        "from_visits": totals["visit"],
        "fresh": totals["fresh"],
        "stale": totals["stale"],
        "expired": totals["expired"],
    }
