"""Docstrings as HTML: paragraphs, lists, headings, examples, and links to what they name.

Every text goes through ``Markup``, so nothing a docstring says can become an element.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterator

from markupsafe import escape
from markupsafe import Markup

#: Finds the URL of a name; the flag says that the text marks it as code or as a call.
Resolve = Callable[[str, bool], str | None]

_UNDERLINE = re.compile(r"([=\-~^*#])\1{2,}$")
_ITEM = re.compile(r"(?:[-*+•]|\(?\d{1,2}[.)])\s+")
_WORD = r"\*{0,2}[A-Za-z_][\w.*]*"
_TERM = re.compile(
    rf"({_WORD}(?:(?:, | and |/){_WORD}){{0,4}}(?: ?\([^)]*\))?)\s*(?:(?::| --?) +(\S.*))?$"
)
_INLINE = re.compile(
    r"(?P<url>https?://[^\s<>\"'`]*[^\s<>\"'`.,;:)\]])"
    r"|``(?P<literal>[^`]+)``"
    r"|(?::[a-z:]+:)?`(?P<quoted>[^`'\n]+)[`']"
    r"|(?<![\w*(])\*(?P<stressed>\w+)\*(?![\w*])"
    r"|(?P<name>\b[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?P<call>\(\))?"
)
_URL = Markup('<a href="{0}" rel="external">{0}</a>')
_CODE = Markup("<code>{}</code>")
_LINK = Markup('<a class="ref" href="{}">{}</a>')


def prose(text: str, resolve: Resolve) -> Markup:
    """Return a docstring as HTML.

    :param resolve: where a name leads to, if it is known.
    """
    blocks = [_block(lines, resolve) for lines in _blocks(text)]
    return Markup("\n").join(blocks)


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield runs of lines without an empty one between, and what is indented as one run."""
    block: list[str] = []
    pending = 0
    for line in [*text.expandtabs().split("\n"), ""]:
        if not line.strip():
            pending += 1
            continue
        if pending and block:
            if block[-1][:1] == line[:1] and line.startswith((" ", ">>>")):
                block.append("")
            else:
                yield block
                block = []
        pending = 0
        block.append(line.rstrip())
    if block:
        yield block


def _is_set_off(lines: list[str]) -> bool:
    return all(not line or line.startswith((" ", ">>>")) for line in lines)


def _block(lines: list[str], resolve: Resolve) -> Markup:
    if not any(lines):
        return Markup()
    if len(lines) > 1 and _UNDERLINE.match(lines[1]) and not lines[0].startswith(" "):
        heading = Markup("<h4>{}</h4>").format(inline(lines[0], resolve))
        rest = lines[3:] if lines[2:3] == [""] else lines[2:]
        return heading + _block(rest, resolve)
    if any(line.lstrip().startswith(">>> ") for line in lines):
        return _example(lines, resolve)
    if _is_list(lines):
        return _items(lines, resolve)
    if _is_set_off(lines) or _is_table(lines):
        return _terms(lines, resolve) or _set_off(lines)
    if any(line.startswith(" ") for line in lines):
        return _led_in(lines, resolve)
    return _paragraph(lines, resolve)


def _paragraph(lines: list[str], resolve: Resolve) -> Markup:
    text = "\n".join(lines)
    if text.endswith("::"):
        text = text[:-1]
    return Markup("<p>{}</p>").format(inline(text, resolve))


def _is_table(lines: list[str]) -> bool:
    columns = [line for line in lines if re.search(r"^\S.* {3,}\S|^\S+\s+--? ", line)]
    return len(columns) > 1 or any("+--" in line or "---" in line for line in lines)


def _margin(lines: list[str]) -> int:
    return min(len(line) - len(line.lstrip()) for line in lines if line)


def _set_off(lines: list[str]) -> Markup:
    margin = _margin(lines)
    return Markup("<pre>{}</pre>").format("\n".join(line[margin:] for line in lines))


def _terms(lines: list[str], resolve: Resolve) -> Markup | None:
    """Return lines such as ``name: what it is`` as a list of terms, if they are such lines."""
    margin = _margin(lines)
    terms: list[tuple[str, list[str]]] = []
    for line in (line[margin:] for line in lines if line):
        match = _TERM.match(line)
        if match:
            terms.append((match[1], [match[2]] if match[2] else []))
        elif line.startswith(" ") and terms:
            terms[-1][1].append(line.strip())
        else:
            return None
    if not any(text for _, text in terms):
        return None
    rows = Markup().join(
        Markup("<dt>{}</dt><dd>{}</dd>").format(
            inline(term, resolve), inline("\n".join(text), resolve)
        )
        for term, text in terms
    )
    return Markup('<dl class="terms">{}</dl>').format(rows)


def _led_in(lines: list[str], resolve: Resolve) -> Markup:
    """Return lines at the margin as a paragraph and the indented ones after them apart."""
    start = next(i for i, line in enumerate(lines) if line.startswith(" "))
    ends = (i for i in range(start, len(lines)) if lines[i] and not lines[i].startswith(" "))
    end = next(ends, len(lines))
    runs = (lines[:start], lines[start:end], lines[end:])
    return Markup().join(_block(run, resolve) for run in runs)


def _is_list(lines: list[str]) -> bool:
    margin = _margin(lines)
    return all(_ITEM.match(line[margin:]) or line[margin:][:1] in ("", " ") for line in lines)


def _items(lines: list[str], resolve: Resolve) -> Markup:
    margin = _margin(lines)
    items: list[str] = []
    for line in (line[margin:] for line in lines):
        bullet = _ITEM.match(line)
        if bullet:
            items.append(line[bullet.end() :])
        else:
            items[-1] += "\n" + line.strip()
    made = (Markup("<li>{}</li>").format(inline(item, resolve)) for item in items)
    name = "ul" if lines[0].lstrip()[0] in "-*+•" else "ol"
    return Markup("<{0}>{1}</{0}>").format(name, Markup().join(made))


def _example(lines: list[str], resolve: Resolve) -> Markup:
    """Return a session at the prompt, with the words before it as a paragraph."""
    start = next(i for i, line in enumerate(lines) if line.lstrip().startswith(">>> "))
    margin = len(lines[start]) - len(lines[start].lstrip())
    ends = (i for i in range(start, len(lines)) if _ends_session(lines[i : i + 2]))
    end = next(ends, len(lines))
    session = Markup("\n").join(_session_line(line[margin:]) for line in lines[start:end])
    before, after = (_block(run, resolve) for run in (lines[:start], lines[end + 1 :]))
    return before + Markup('<pre class="session">{}</pre>').format(session) + after


def _ends_session(lines: list[str]) -> bool:
    return lines[0] == "" and not lines[-1].lstrip().startswith(">>>")


def _session_line(line: str) -> Markup:
    prompt = re.match(r"(?:>>>|\.\.\.)(?: |$)", line)
    if prompt is None:
        return Markup("<samp>{}</samp>").format(line) if line else Markup()
    return Markup("<b>{}</b>{}").format(prompt[0], line[prompt.end() :])


def inline(text: str, resolve: Resolve) -> Markup:
    """Return a text with its addresses, code and known names marked."""
    made: list[Markup] = []
    done = 0
    for match in _INLINE.finditer(text):
        made += (escape(text[done : match.start()]), _marked(match, resolve))
        done = match.end()
    made.append(escape(text[done:]))
    return Markup().join(made)


def _marked(match: re.Match[str], resolve: Resolve) -> Markup:
    if match["url"]:
        return _URL.format(match["url"])
    if match["stressed"]:
        return Markup("<em>{}</em>").format(match["stressed"])
    code = match["literal"] or match["quoted"]
    if code:
        url = resolve(code.removesuffix("()"), True)
        return _LINK.format(url, _CODE.format(code)) if url else _CODE.format(code)
    url = resolve(match["name"], match["call"] is not None)
    return _LINK.format(url, match[0]) if url else escape(match[0])
