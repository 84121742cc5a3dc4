"""Small SVG charts for the report: no script, no external resource, coloured by its style sheet.

Layer 3. A chart is `<svg>` text with class names only: `c1`, `c2` are the two series, `ref` is
a reference line. All text is escaped here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover `low` to `high`, about `count` of them.

    Example:
        >>> ticks(0, 1)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(k * power for k in (1, 2, 2.5, 5, 10) if k * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def short(value: float) -> str:
    """A number as short as an axis needs it.

    Example:
        >>> short(12_000), short(0.25)
        ('12k', '0.25')
    """
    size = abs(value)
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= factor * 10 or (size >= factor and factor > 1e3):
            return f"{value / factor:.3g}{unit}"
    return f"{value:.4g}"


class Chart:
    """A plane with axes, 480 wide; draw from back to front, then `render`.

    Args:
        x: Smallest and largest x.
        y: Smallest and largest y.
        x_title: Below the x axis.
        y_title: Above the y axis.
        percent: Which axes are fractions to be written as percentages: "x", "y", "xy" or "".
        height: In units of the drawing.
    """

    width = 480
    left, right, top, bottom = 46, 14, 26, 40

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        x_title: str,
        y_title: str,
        percent: str = "",
        height: int = 310,
    ) -> None:
        self.x, self.y = _open(x), _open(y)
        self.height = height
        self.percent = percent
        self.parts: list[str] = []
        base = height - self.bottom
        for value in ticks(*self.y):
            at = self.sy(value)
            self.parts.append(
                f'<line class="grid" x1="{self.left}" x2="{self.width - self.right}" '
                f'y1="{at:.1f}" y2="{at:.1f}"/><text x="{self.left - 8}" y="{at + 4:.1f}" '
                f'text-anchor="end">{self._label(value, "y")}</text>'
            )
        for value in ticks(*self.x):
            self.parts.append(
                f'<text x="{self.sx(value):.1f}" y="{base + 18}" text-anchor="middle">'
                f"{self._label(value, 'x')}</text>"
            )
        self.parts.append(
            f'<line class="axis" x1="{self.left}" x2="{self.width - self.right}" y1="{base}" '
            f'y2="{base}"/><text class="name" x="{self.width - self.right}" y="{height - 4}" '
            f'text-anchor="end">{html.escape(x_title)}</text>'
            f'<text class="name" x="0" y="12">{html.escape(y_title)}</text>'
        )

    def _label(self, value: float, axis: str) -> str:
        if axis in self.percent:
            return f"{100 * value:.3g}%"
        return short(value)

    def sx(self, value: float) -> float:
        """Where an x lies in the drawing."""
        share = (value - self.x[0]) / (self.x[1] - self.x[0])
        return self.left + share * (self.width - self.left - self.right)

    def sy(self, value: float) -> float:
        """Where a y lies in the drawing."""
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def line(self, points: Points, kind: str) -> None:
        """A polyline."""
        self.parts.append(f'<path class="line {kind}" d="{self._path(points)}"/>')

    def area(self, points: Points, kind: str, base: float = 0.0) -> None:
        """A filled polyline down to `base`."""
        if points:
            closed = [(points[0][0], base), *points, (points[-1][0], base)]
            self.parts.append(f'<path class="area {kind}" d="{self._path(closed)}Z"/>')

    def bars(self, edges: Sequence[float], heights: Sequence[float], kind: str) -> None:
        """Bars between neighbouring edges, as one shape."""
        points: list[tuple[float, float]] = []
        for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
            points += [(low, height), (high, height)]
        self.area(points, kind)
        self.line(points, f"{kind} thin")

    def dot(self, x: float, y: float, kind: str, text: str) -> None:
        """A point with a text that appears when it is pointed at."""
        self.parts.append(
            f'<circle class="dot {kind}" cx="{self.sx(x):.1f}" cy="{self.sy(y):.1f}" r="4.5">'
            f"<title>{html.escape(text)}</title></circle>"
        )

    def whisker(self, x: float, low: float, high: float, kind: str) -> None:
        """A vertical interval."""
        self.parts.append(
            f'<line class="whisker {kind}" x1="{self.sx(x):.1f}" x2="{self.sx(x):.1f}" '
            f'y1="{self.sy(low):.1f}" y2="{self.sy(high):.1f}"/>'
        )

    def note(self, x: float, y: float, text: str, anchor: str = "start") -> None:
        """A quiet text inside the plane."""
        self.parts.append(
            f'<text class="note" x="{self.sx(x):.1f}" y="{self.sy(y):.1f}" '
            f'text-anchor="{anchor}">{html.escape(text)}</text>'
        )

    def render(self, label: str) -> str:
        """The SVG, with `label` for those who cannot see it."""
        return (
            f'<svg class="chart" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{html.escape(label)}">{"".join(self.parts)}</svg>'
        )

    def _path(self, points: Points) -> str:
        return "M" + "L".join(f"{self.sx(x):.1f} {self.sy(y):.1f}" for x, y in points)


def spark(series: Sequence[Sequence[float]], label: str) -> str:
    """A tiny histogram: the first series filled, the second as an outline.

    The series are shares of a whole each, so that splits of different size compare.
    """
    width, height = 132.0, 34.0
    top = max((max(share, default=0.0) for share in series), default=0.0) or 1.0
    parts = []
    for index, share in enumerate(series[:2]):
        step = width / max(1, len(share))
        points = []
        for i, value in enumerate(share):
            at = height - 1 - (height - 3) * value / top
            gap = 1.0 if step > 8 and index == 0 else 0.0
            points.append(f"{i * step + gap:.1f} {at:.1f}L{(i + 1) * step - gap:.1f} {at:.1f}")
            if gap:
                left, right = i * step + gap, (i + 1) * step - gap
                shape = f"M{left:.1f} {height}V{at:.1f}H{right:.1f}V{height}Z"
                parts.append(f'<path class="area c1" d="{shape}"/>')
        if index == 0 and step <= 8:
            parts.append(f'<path class="area c1" d="M0 {height}L{"L".join(points)}V{height}Z"/>')
        elif index == 1:
            parts.append(f'<path class="line c2 thin" d="M{"L".join(points)}"/>')
    return (
        f'<svg class="spark" viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none" '
        f'role="img" aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
    )


def _open(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return (low, high) if high > low else (low - 0.5, low + 0.5)
