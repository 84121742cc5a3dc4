"""Templates to text: the only module that knows Jinja2; layer 3."""

from __future__ import annotations

import functools
import html

import jinja2
import markupsafe

from estimator_lib.report import texts


def html_page(template: str, **values: object) -> str:
    """Returns a template filled in; all values are escaped for HTML, attributes included."""
    return _environment("html").get_template(template).render(values)


def markdown_page(template: str, **values: object) -> str:
    """Returns a template filled in; each value becomes one line that Markdown shows as it is."""
    return _environment("markdown").get_template(template).render(values)


@functools.cache
def _environment(form: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("estimator_lib.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_markdown if form == "markdown" else None,
    )
    for show in (texts.clipped, texts.count, texts.number, texts.seconds, texts.share):
        environment.filters[show.__name__] = show
    return environment


def _markdown(value: object) -> object:
    """A value without markup of Markdown or HTML; what a macro returns is clean already."""
    if isinstance(value, markupsafe.Markup):
        return value
    flat = html.escape(" ".join(str(value).split()), quote=False)
    safe = "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in flat)
    return markupsafe.Markup(safe)  # noqa: S704 - it was escaped in the line above
