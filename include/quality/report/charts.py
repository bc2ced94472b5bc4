"""Charts as inline SVG, without text: the page beside them has it, and so have the tooltips of their points.

Values are scaled to 0..1 here: for values around 1e17, pygal would look for its own scale in an endless loop.
"""

from collections.abc import Iterable, Sequence
from typing import Any

Number = float | None
Mark = tuple[str, str] | None
"""The class and the tooltip of a point."""


def line(
    values: Sequence[Number], bounds: Sequence[Sequence[Number]], marks: Sequence[Mark], label: str, *, from_zero: bool
) -> str:
    """Draw a trend and its bounds; a marked point is a dot, at the bottom where it has no value."""
    scale = _Scale([*values, *(each for bound in bounds for each in bound), *([0, 1] if from_zero else [])])
    chart = _chart("Line", 300, 48, allow_interruptions=True, show_dots=False)
    heights = [scale.of(each) for each in values]
    dots = [
        _point(height or 0, mark or ("alone", "")) if mark or _alone(heights, index) else None
        for index, (height, mark) in enumerate(zip(heights, marks, strict=True))
    ]
    chart.add("values", heights)
    chart.add("marks", dots, stroke=False, show_dots=True)
    for bound in bounds:
        chart.add("bound", [scale.of(each) for each in bound])
    return _svg(chart, label)


def bars(values: Sequence[Number], marks: Sequence[Mark], label: str) -> str:
    """Draw a bar from zero for each value; none where there is no mark."""
    scale = _Scale([0, *values], flat=0)
    chart = _chart("Bar", 600, 90)
    chart.add("values", [mark and _point(scale.of(each) or 0, mark) for each, mark in zip(values, marks, strict=True)])
    return _svg(chart, label).replace("<svg ", '<svg preserveAspectRatio="none" ', 1)


class _Scale:
    def __init__(self, values: Iterable[Number], flat: float = 0.5) -> None:
        self.flat = flat
        halves = [each / 2 for each in values if each is not None]  # the difference of two floats can be no float
        self.low, self.high = min(halves, default=0), max(halves, default=0)

    def of(self, value: Number) -> Number:
        if value is None:
            return None
        return (value / 2 - self.low) / (self.high - self.low) if self.high > self.low else self.flat


def _alone(heights: Sequence[Number], index: int) -> bool:
    """Return whether a value has no neighbour, so that no line would show it."""
    return heights[index] is not None and not any(
        0 <= other < len(heights) and heights[other] is not None for other in (index - 1, index + 1)
    )


def _point(height: float, mark: tuple[str, str]) -> dict[str, Any]:
    state, tooltip = mark
    return {"value": height, "tooltip": tooltip, "node": {"class": state}}


def _chart(kind: str, width: int, height: int, **options: Any) -> Any:
    import pygal  # type: ignore[import-untyped]
    from pygal.etree import etree  # type: ignore[import-untyped]

    etree.to_etree()  # with lxml, which may be installed, the drawing would have one more namespace
    unseen = dict.fromkeys(("show_legend", "show_x_labels", "show_y_labels"), False)
    bare = {"js": [], "css": [], "no_prefix": True, "disable_xml_declaration": True}
    return getattr(pygal, kind)(width=width, height=height, margin=0, range=(0, 1), **unseen, **bare, **options)


def _svg(chart: Any, label: str) -> str:
    def plain(root: Any) -> Any:
        """Remove script, style, comments and text from pygal's drawing."""
        root.set("role", "img")
        root.set("aria-label", label)
        del root.attrib["id"]
        root.remove(root.find("title"))
        for node in reversed(list(root.iter())):
            for child in list(node):
                comment = callable(child.tag)
                empty = child.tag == "g" and not len(child)
                if comment or empty or child.tag in ("defs", "desc") or child.get("class") in ("background", "tooltip"):
                    node.remove(child)
        return root

    chart.add_xml_filter(plain)
    svg: str = chart.render()
    return svg
