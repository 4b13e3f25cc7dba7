"""Pages from the templates of this folder: ``report.html`` and the model card, ``card.md``."""

from __future__ import annotations

__all__ = ["render"]


def render(template: str, **values: object) -> str:
    """Return a page with values in it, which HTML escapes.

    Args:
        template: name of the template's file.
        values: what is inserted, by name.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape

    pages = Environment(
        loader=PackageLoader("realnvp", "reports"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return pages.get_template(template).render(values)
