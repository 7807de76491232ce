"""How reports look in a terminal."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from collections.abc import Sequence

import click

from .options import HEADERS
from .page import Page
from .site import Site
from .tally import Report

_SHOWN = 20


def show(report: Report, site: Site, *, quiet: bool = False) -> None:
    """Print what a build did: totals, slowest pages, refusals and failures, problems."""
    if not quiet:
        _show_totals(report, site)
        _show_slowest(report)
    _show_turned_down(report)
    show_problems(report)
    if report.error:
        click.secho(f"error: {report.error}", fg="red", err=True)
    if not quiet and not site.has_public_url and site.settings.sitemap:
        click.echo(
            "No sitemap.xml: its addresses are absolute. Set PRERENDER_BASE_URL, such as "
            "'https://example.com'."
        )


def _show_totals(report: Report, site: Site) -> None:
    seconds = max(report.duration, 1e-9)
    click.echo(
        f"{report.count('published')} pages published, {report.count('unchanged')} unchanged, "
        f"{report.count('refused')} refused, {report.count('failed')} failed, "
        f"{report.removed} removed, in {report.duration:.1f} s "
        f"({report.total / seconds:.0f} pages/s, {size(report.bytes)})."
    )
    click.echo(f"Written to {site.output}.")


def _show_slowest(report: Report) -> None:
    slow = [one for one in report.slowest if one.duration >= 0.1][:5]
    if slow:
        click.echo("Slowest:")
    for one in slow:
        click.echo(f"  {one.duration:6.2f} s  {one.key}")


def _show_turned_down(report: Report) -> None:
    for outcome in report.turned_down[:_SHOWN]:
        colour = "red" if outcome.result == "failed" else "yellow"
        text = f"{outcome.result}: {outcome.key} ({outcome.endpoint}): {outcome.reason}"
        click.secho(f"{text}: {outcome.detail}" if outcome.detail else text, fg=colour, err=True)
        if outcome.where:
            click.echo(f"    at {outcome.where}", err=True)
    left = sum(report.reasons.values()) - min(len(report.turned_down), _SHOWN)
    if left > 0:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(report.reasons.items()))
        click.echo(f"... and {left} more ({reasons}). --json lists them.", err=True)


def show_problems(report: Report) -> None:
    for problem in report.problems:
        kind = "warning" if problem.is_warning else "error"
        colour = "yellow" if problem.is_warning else "red"
        click.secho(f"{kind}: {problem.message}", fg=colour, err=True)
    for path in report.unknown:
        click.secho(
            f"error: {path} belongs to no marked route, or names no page. "
            "flask prerender routes --urls lists the pages there are.",
            fg="red",
            err=True,
        )
    for tag in report.unknown_tags:
        click.secho(f"error: no page has the tag {tag!r}.", fg="red", err=True)


def show_routes(rows: Sequence[dict[str, t.Any]], *, all_urls: bool) -> None:
    if not rows:
        click.echo("No route is marked. Mark one with @app.prerender.")
    for row in rows:
        life = {None: "for ever", HEADERS: "as its headers say"}.get(row["revalidate"])
        life = life or f"{row['revalidate']:g} s"
        click.echo(
            f"{row['rule']}  {row['endpoint']}  {row['urls']} URLs, fresh {life}, "
            f"fallback {row['fallback']}, visitors {row['visitors']}"
        )
        for url in row["examples"]:
            click.echo(f"    {url}")
        if not all_urls and row["urls"] > len(row["examples"]):
            click.echo(f"    ... {row['urls'] - len(row['examples'])} more (--urls lists them)")


def show_status(
    facts: dict[str, t.Any], pages: Iterable[Page], now: float, *, everything: bool
) -> None:
    click.echo(f"{facts['pages']} pages in {facts['path']}, {size(facts['bytes'])}.")
    if not facts["pages"]:
        click.echo("Nothing is stored. Build with: flask prerender")
        return
    click.echo(
        f"{facts['from_builds']} from builds, {facts['from_visits']} from first visits; "
        f"{facts['fresh']} fresh, {facts['stale']} stale, {facts['expired']} expired."
    )
    click.echo("Every page:" if everything else "The oldest:")
    for page in pages:
        click.echo(
            f"  {age(page.age(now)):>8}  {size(page.size):>9}  {page.state(now):<7}  {page.key}"
        )


def size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def age(seconds: float) -> str:
    """Return a span as people read it."""
    for limit, length, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
