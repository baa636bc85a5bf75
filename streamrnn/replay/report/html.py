"""Words and figures as HTML: whatever comes from a file or a model is escaped, unless it is ``Html``."""

import html
from collections.abc import Iterable, Sequence


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def safe(value: object) -> Html:
    """A value as HTML."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(parts: Iterable[object], between: str = "") -> Html:
    return Html(between.join(safe(part) for part in parts))


def element(tag: str, *inside: object, **attributes: object) -> Html:
    """An element; ``_`` ends a name that Python has taken, and stands for ``-`` within one."""
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{named}>{join(inside)}</{tag}>")


def section(title: object, *inside: object, id_: str | None = None, class_: str | None = None) -> Html:
    return element("section", element("h2", title), *inside, id_=id_, class_=class_)


def paragraph(*inside: object, class_: str | None = None) -> Html:
    return element("p", *inside, class_=class_)


def table(head: Sequence[object], rows: Iterable[Sequence[object]], sides: str, caption: str) -> Html:
    """A table whose columns stand to their ``sides``: ``<`` left, ``>`` right, as figures do.

    The first column names its row; ``caption`` is for those who cannot see what stands around the table.
    """
    classes = [None if side == "<" else "figure" for side in sides]
    heads = (
        element("th", cell, scope="col", class_=class_) for cell, class_ in zip(head, classes, strict=True)
    )
    body = (
        element(
            "tr",
            element("th", row[0], scope="row", class_=classes[0]),
            *(element("td", cell, class_=class_) for cell, class_ in zip(row[1:], classes[1:], strict=True)),
        )
        for row in rows
    )
    inside = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads)),
        element("tbody", *body),
    )
    # what is too wide for a phone is scrolled by itself, by keyboard too
    return element("div", inside, class_="wide", tabindex="0", role="region", aria_label=caption)


def facts(pairs: Iterable[tuple[object, object]], class_: str | None = None) -> Html:
    """Names and what they are."""
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in pairs),
        class_=class_,
    )
