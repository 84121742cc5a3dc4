"""Charts as data: where each mark lies in a drawing of fixed size; layer 3.

`templates/marks.html` draws them as SVG and the style sheet colours them by class: `c1`, `c2` and
`c3` are series, `ref` is a reference line.
"""

from __future__ import annotations

import dataclasses
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Path:
    """A line, or a filled shape: an SVG path with classes of the style sheet."""

    style: str
    path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dot:
    """A circle; `text` appears when it is pointed at."""

    style: str
    x: float
    y: float
    radius: float = 4.5
    text: str = ""


class Chart:
    """A plane with axes, 480 wide; add marks from back to front.

    Args:
        x: Smallest and largest x.
        y: Smallest and largest y.
        label: What it shows, for those who cannot see it.
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
        label: str,
        x_title: str,
        y_title: str,
        percent: str = "",
        height: int = 310,
    ) -> None:
        self.x, self.y = _open(x), _open(y)
        self.label, self.x_title, self.y_title, self.height = label, x_title, y_title, height
        self.x_ticks = [(self.sx(v), _tick(v, "x" in percent)) for v in ticks(*self.x)]
        self.y_ticks = [(self.sy(v), _tick(v, "y" in percent)) for v in ticks(*self.y)]
        self.marks: list[Path | Dot] = []

    def sx(self, value: float) -> float:
        """Where an x lies in the drawing."""
        share = (value - self.x[0]) / (self.x[1] - self.x[0])
        return self.left + share * (self.width - self.left - self.right)

    def sy(self, value: float) -> float:
        """Where a y lies in the drawing."""
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def line(self, points: Points, style: str) -> None:
        """A polyline."""
        self.marks.append(Path(style=f"line {style}", path=self._path(points)))

    def area(self, points: Points, style: str) -> None:
        """A filled polyline down to zero."""
        if points:
            closed = [(points[0][0], 0.0), *points, (points[-1][0], 0.0)]
            self.marks.append(Path(style=f"area {style}", path=f"{self._path(closed)}Z"))

    def bars(self, edges: Sequence[float], heights: Sequence[float], style: str) -> None:
        """Bars between neighbouring edges, as one shape."""
        points: list[tuple[float, float]] = []
        for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
            points += [(low, height), (high, height)]
        self.area(points, style)
        self.line(points, f"{style} thin")

    def dot(self, x: float, y: float, style: str, text: str) -> None:
        """A point with a text that appears when it is pointed at."""
        self.marks.append(Dot(style=f"dot {style}", x=self.sx(x), y=self.sy(y), text=text))

    def ring(self, x: float, y: float, style: str) -> None:
        """A circle around a point."""
        self.marks.append(Dot(style=f"line {style}", x=self.sx(x), y=self.sy(y), radius=9))

    def whisker(self, x: float, low: float, high: float, style: str) -> None:
        """A vertical interval."""
        self.marks.append(Path(style=f"whisker {style}", path=self._path([(x, low), (x, high)])))

    def _path(self, points: Points) -> str:
        return "M" + "L".join(f"{self.sx(x):.1f} {self.sy(y):.1f}" for x, y in points)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spark:
    """A tiny histogram; stretched to where it stands."""

    label: str
    marks: Sequence[Path]
    width = 132
    height = 34


def spark(series: Sequence[Sequence[float]], label: str) -> Spark:
    """A tiny histogram: the first series filled, the others as outlines.

    Args:
        series: Shares of a whole each, so that splits of different size compare.
        label: What it shows, for those who cannot see it.
    """
    height = Spark.height
    top = max((max(shares, default=0.0) for shares in series), default=0.0) or 1.0
    marks = []
    for at, shares in enumerate(series):
        step = Spark.width / max(1, len(shares))
        heights = [height - 1 - (height - 3) * share / top for share in shares]
        if at == 0 and step > 8:  # few bars stand apart
            path = "".join(
                f"M{k * step + 1:.1f} {height}V{y:.1f}H{(k + 1) * step - 1:.1f}V{height}Z"
                for k, y in enumerate(heights)
            )
        else:
            steps = [f"{k * step:.1f} {y:.1f}L{(k + 1) * step:.1f} {y:.1f}"
                     for k, y in enumerate(heights)]  # fmt: skip
            path = "L".join(steps)
            path = f"M0 {height}L{path}V{height}Z" if at == 0 else f"M{path}"
        marks.append(Path(style=f"{'line thin' if at else 'area'} c{at + 1}", path=path))
    return Spark(label=label, marks=marks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """A common scale for the intervals in one column of a table.

    Attributes:
        low: Its left end.
        high: Its right end.
        whole: Where the dashed line is; None for none.
    """

    low: float
    high: float
    whole: float | None = None

    @classmethod
    def around(cls, values: Sequence[float | None], whole: float | None = None) -> Axis:
        """The scale that holds all of them."""
        ends = [value for value in (whole, *values) if value is not None]
        low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
        pad = 0.04 * (high - low) or 0.05
        return cls(low=low - pad, high=high + pad, whole=whole)

    def at(self, value: float) -> float:
        """Where a value lies, in percent."""
        return 100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def _tick(value: float, percent: bool) -> str:
    return f"{100 * value:.3g}%" if percent else short(value)


def _open(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return (low, high) if high > low else (low - 0.5, low + 0.5)
