"""Pages made of templates: every value in them is text, but for markup that was built here.

A page's policy lets the style and the script in it run by their hashes. A script may be allowed to load more scripts,
which a page that lies on a disk can have its data from; nothing else is ever loaded, and no text becomes markup. In a
template a line break between elements, and before or after a `{% %}`, stands for nothing; elsewhere it is a space.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup, escape

from slmbench.leaderboard import texts
from slmbench.visible import visible

TRUSTED = "slmbench"
"""The policy of Trusted Types that the script makes, by which alone it loads data files."""

_IMPORT = re.compile(r'^import (?P<what>\{[^}]*\}) from "\./(?P<name>[a-z]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:function|const|class) (\w+)", re.MULTILINE)
_NO_SPACE = re.compile(r"(?<=[>}])\s*\n\s*|\s*\n\s*(?=<|\{%|\{#)")


class _Lines(Extension):
    """Takes the line breaks and indents of a template out, so that none of them is seen between two words."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        return re.sub(r"\s*\n\s*", " ", _NO_SPACE.sub("", source.strip()))


def render(
    template: str,
    *,
    title: str,
    styles: tuple[str, ...],
    script: str | None = None,
    loads: bool = False,
    **values: object,
) -> str:
    """A whole page. template: a file's name here, which extends `page.html.j2`; styles: other files here.

    script: what runs. loads: whether it loads data files by script elements of its own (`strict-dynamic`), whose
    addresses one function alone may make (Trusted Types, in browsers that have them).
    Raises jinja2.UndefinedError if the template wants a value that it isn't given.
    """
    style = "".join(asset(name) for name in styles)
    runs = "" if script is None else f"script-src {csp_hash(script)}; "
    if loads:
        runs = f"{runs[:-2]} 'strict-dynamic'; require-trusted-types-for 'script'; trusted-types {TRUSTED}; "
    policy = f"default-src 'none'; style-src {csp_hash(style)}; {runs}base-uri 'none'; form-action 'none'"
    code = None if script is None else Markup(script)
    page = _environment().get_template(template)
    return page.render(title=title, policy=policy, style=Markup(style), script=code, **values) + "\n"


@cache
def bundle(names: tuple[str, ...] = ("main.js",)) -> str:
    """A script of modules of `app/` and all that they import, each in a function of its own, after what it imports.

    Raises ValueError if they import each other in a ring.
    """
    done: dict[str, str] = {}

    def take(name: str, above: tuple[str, ...] = ()) -> None:
        if name in done:
            return
        if name in above:
            raise ValueError(f"{' imports '.join((*above, name))}: modules of a page can't import each other in a ring")
        source = asset(f"app/{name}")
        for found in _IMPORT.finditer(source):
            take(found["name"], (*above, name))
        done[name] = _enclosed(name, source)

    for name in names:
        take(name)
    return '"use strict";\n(() => {\nconst modules = {};\n' + "".join(done.values()) + "})();\n"


def _enclosed(name: str, source: str) -> str:
    """A module as a function that is called at once; what it exports is in `modules`."""
    exported = _EXPORT.findall(source)
    body = _IMPORT.sub(
        lambda found: f'const {found["what"].replace(" as ", ": ")} = modules["{found["name"]}"];', source
    )
    body = _EXPORT.sub(lambda found: found.group().removeprefix("export "), body)
    body = "\n".join(line for line in body.splitlines() if line.strip() and not line.lstrip().startswith("//"))
    return f'modules["{name}"] = (() => {{\n{body}\nreturn {{ {", ".join(exported)} }};\n}})();\n'


@cache
def _environment() -> Environment:
    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        extensions=[_Lines],
        loader=PackageLoader("slmbench.leaderboard", "pages"),
    )
    forms = (texts.count, texts.duration, texts.number, texts.size, texts.interval_text, texts.percent)
    made.filters.update({form.__name__: form for form in forms})
    made.filters.update(breakable=breakable, lines=lines, json_data=json_data)
    return made


def _shown(value: object) -> object:
    """value as it is escaped next: controls and direction marks of what isn't our own markup become visible."""
    return value if isinstance(value, Markup) else visible(str(value))


@cache
def asset(name: str) -> str:
    """A style sheet or a script of this folder."""
    content = files("slmbench.leaderboard.pages").joinpath(name).read_text(encoding="utf-8")
    # A checkout may have turned line ends; the browser turns them back before it takes a hash.
    return content.replace("\r\n", "\n")


def csp_hash(content: str) -> str:
    """The source expression of a content security policy that allows exactly this inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def breakable(value: str) -> Markup:
    """An identifier that may break after `/` and `_` in a narrow column."""
    return Markup(re.sub("([/_])", r"\1<wbr>", str(escape(visible(value)))))


def lines(value: str) -> Markup:
    """What a `<pre>` holds: lines and tabs stay; every other control character is visible."""
    # The parser drops one newline after <pre>; the first is meant for it.
    return Markup("\n") + escape(visible(value.replace("\r\n", "\n"), keep="\n\t"))


def json_data(value: object) -> Markup:
    """value as the content of an inert data block; no character of it can end the block or open a comment in it."""
    return Markup(script_json(texts.json_ready(value)))


def script_json(value: object) -> str:
    """value, which JSON has to have, as JSON that is safe in a script, in markup and in a file alike."""
    content = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        content = content.replace(character, f"\\u{ord(character):04x}")
    # ensure_ascii has escaped U+2028 and U+2029 too.
    return content
