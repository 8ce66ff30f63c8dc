"""Elements of HTML and SVG, in which text is text: whatever is not `Markup` is escaped."""

from html import escape

__all__ = ["Markup", "element", "joined", "void"]


class Markup(str):
    """HTML that is ready."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str | float | bool | None) -> Markup:
    """An element with an end tag; strings among its children become text.

    Args:
        name: of the element.
        children: its content.
        attributes: "_" becomes "-" and one at the end falls away (`class_`); None and False leave one
            out, True makes it bare.
    """
    return Markup(f"<{name}{_attributes(attributes)}>{joined(*children)}</{name}>")


def void(name: str, /, **attributes: str | float | bool | None) -> Markup:
    """An element without content, such as `<meta>`, or a shape of SVG."""
    return Markup(f"<{name}{_attributes(attributes)}/>")


def joined(*children: str) -> Markup:
    """Several, one after the other."""
    return Markup("".join(map(_escaped, children)))


def _escaped(child: str) -> str:
    return child if isinstance(child, Markup) else escape(child, quote=False)


def _attributes(attributes: dict[str, str | float | bool | None]) -> str:
    shown = ((name.removesuffix("_").replace("_", "-"), value) for name, value in attributes.items())
    return "".join(
        _attribute(name, value) for name, value in shown if value is not None and value is not False
    )


def _attribute(name: str, value: str | float) -> str:
    if value is True:
        return f" {name}"
    return f' {name}="{escape(value) if isinstance(value, str) else _number(value)}"'


def _number(value: float) -> str:
    """A tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")
