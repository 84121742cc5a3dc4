"""Numbers and texts from data as people read them; standard library only."""

from __future__ import annotations


def count(value: float) -> str:
    """A number of rows, or a weight."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def seconds(value: float) -> str:
    """A duration."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def share(share: float) -> str:
    """A share as a percentage."""
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{100 * share:.1f}%" if share else "0%"


def number(value: float | None) -> str:
    """A number from data, three or four digits of it."""
    if value is None:
        return ""
    if value and (abs(value) >= 1e7 or abs(value) < 1):
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def clipped(text: str, limit: int = 24) -> str:
    """A text from data, in one line that is not too long."""
    flat = " ".join(text.split())
    if not flat:
        return repr(text) if text else "(empty)"
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"
