"""Statistics as one HTML page that needs nothing else: histograms, top values, missing rates.

Every field is a card with the splits side by side, the fields with the largest differences
first, for those are what one opens the page for.
"""

from __future__ import annotations

import dataclasses
import html
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow_metadata.proto.v0 import statistics_pb2

from estimator_lib.core import manifest, storage
from transforms.validating import anomalies

TOP = 8
"""Texts shown per field."""
_WIDTH, _HEIGHT = 320, 96
_NOTABLE = 0.1
"""A distance between splits from here on is marked."""

_STYLE = """
:root{--ink:#1b2430;--soft:#5c6977;--line:#e3e8ee;--card:#fff;--page:#f5f7fa;--mark:#b3401f;
--s0:#2f6fb2;--s1:#e08a1e;--s2:#3b9a6d}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf1;--soft:#9aa7b5;--line:#2b3643;--card:#1a222c;
--page:#11171e;--mark:#ff8a65;--s0:#6aa9e9;--s1:#f0a94b;--s2:#63c494}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:14px/1.45 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:22px;margin:0 0 4px}h2{font-size:15px;margin:0;overflow-wrap:anywhere}
p{margin:0;color:var(--soft)}.legend{display:flex;flex-wrap:wrap;gap:18px;margin:14px 0 22px}
.legend span::before{content:"";display:inline-block;width:10px;height:10px;border-radius:3px;
margin-right:6px;background:var(--c)}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:14px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.head{display:flex;justify-content:space-between;gap:10px;align-items:baseline;margin-bottom:8px}
.kind{color:var(--soft);font-size:12px;white-space:nowrap}.far{color:var(--mark);font-weight:600}
svg{display:block;width:100%;height:auto}table{width:100%;border-collapse:collapse;font-size:11px;
font-variant-numeric:tabular-nums;margin-top:8px}th{font-weight:500;color:var(--soft);
text-align:right;padding:2px 0 2px 6px}td{text-align:right;padding:2px 0 2px 6px;
border-top:1px solid var(--line)}th:first-child,td:first-child{text-align:left;padding-left:0}
td.split::before{content:"";display:inline-block;width:8px;height:8px;border-radius:2px;
margin-right:6px;background:var(--c)}
.some{color:var(--mark)}text{fill:var(--soft);font-size:10px}
.label{fill:var(--ink);font-size:11px}text.share{font-size:7.5px}td.split{white-space:nowrap}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Field:
    """One field: its statistics by split, and how far apart the splits are."""

    name: str
    by_split: Mapping[str, Any]
    distance: float

    @property
    def textual(self) -> bool:
        return next(iter(self.by_split.values())).WhichOneof("stats") == "string_stats"


def write(statistics_dir: str | pathlib.Path, path: str | pathlib.Path, *, title: str) -> None:
    """Writes the page of a statistics artifact.

    Args:
        statistics_dir: A finished artifact of kind "statistics".
        path: The HTML file to write.
        title: Its heading.

    Raises:
        DataError: the directory is no finished artifact.
    """
    names = manifest.read(statistics_dir, kind="statistics").metadata["splits"]
    by_split = {
        name: statistics_pb2.DatasetFeatureStatisticsList.FromString(
            storage.safe_join(statistics_dir, f"{name}.pb").read_bytes()
        )
        for name in names
    }
    storage.write_text(path, render(by_split, title=title))


def render(by_split: Mapping[str, Any], *, title: str) -> str:
    """Returns the page for DatasetFeatureStatisticsLists by split; the first is the reference."""
    fields = sorted(_fields(by_split), key=lambda f: (-round(f.distance, 3), f.name))
    splits = list(by_split)
    legend = "".join(
        f'<span style="--c:var(--s{i % 3})">{html.escape(name)}: '
        f"{by_split[name].datasets[0].num_examples:,} rows</span>"
        for i, name in enumerate(splits)
    )
    note = (
        f"{len(fields)} fields; those whose distribution differs most between the splits come "
        "first."
        if len(splits) > 1
        else f"{len(fields)} fields."
    )
    cards = "\n".join(_card(field, splits) for field in fields)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{html.escape(title)}</h1><p>{note}</p>"
        f'<div class="legend">{legend}</div><div class="grid">{cards}</div></main></body></html>\n'
    )


def _fields(by_split: Mapping[str, Any]) -> list[_Field]:
    found: dict[str, dict[str, Any]] = {}
    for split, statistics in by_split.items():
        for feature in statistics.datasets[0].features:
            found.setdefault(feature.path.step[0], {})[split] = feature
    result = []
    for name, stats in found.items():
        first, *others = stats.values()
        same = [o for o in others if o.WhichOneof("stats") == first.WhichOneof("stats")]
        far = max((anomalies.distance(first, other)[1] for other in same), default=0.0)
        result.append(_Field(name=name, by_split=stats, distance=far))
    return result


def _card(field: _Field, splits: Sequence[str]) -> str:
    kind = "text" if field.textual else "number"
    counts = [_common(feature, field) for feature in field.by_split.values()]
    most = max(common.max_num_values for common in counts)
    if most > 1:
        least = min(c.min_num_values for c in counts if c.max_num_values)
        kind += f", {least:,} to {most:,} per row" if least < most else f", {most:,} per row"
    far = (
        f'<span class="{"far" if field.distance >= _NOTABLE else ""}">'
        f"distance {field.distance:.2f}</span>"
        if len(splits) > 1
        else ""
    )
    picture = _bars(field, splits) if field.textual else _histogram(field, splits)
    return (
        f'<section class="card"><div class="head"><h2>{_short(field.name, 60)}</h2>'
        f'<span class="kind">{kind} {far}</span></div>{picture}{_table(field, splits)}</section>'
    )


def _common(feature: Any, field: _Field) -> Any:
    return (feature.string_stats if field.textual else feature.num_stats).common_stats


def _table(field: _Field, splits: Sequence[str]) -> str:
    titles = ("distinct", "length") if field.textual else ("mean", "std", "min", "median", "max")
    head = "".join(f"<th>{t}</th>" for t in ("", "missing", *titles))
    rows = []
    for i, split in enumerate(splits):
        if split not in field.by_split:
            continue
        feature = field.by_split[split]
        stats = feature.string_stats if field.textual else feature.num_stats
        common = stats.common_stats
        total = common.num_missing + common.num_non_missing
        share = common.num_missing / total if total else 0.0
        missing = f'<td class="{"some" if share else ""}">{_percent(share)}</td>'
        values = (
            (f"{stats.unique:,}", f"{stats.avg_length:.1f}")
            if field.textual
            else tuple(
                map(_number, (stats.mean, stats.std_dev, stats.min, stats.median, stats.max))
            )
        )
        cells = "".join(f"<td>{v}</td>" for v in values)
        rows.append(
            f'<tr><td class="split" style="--c:var(--s{i % 3})">{html.escape(split)}</td>'
            f"{missing}{cells}</tr>"
        )
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _histogram(field: _Field, splits: Sequence[str]) -> str:
    """Shares per bin as steps, the splits over each other on one scale."""
    several = {s: f.num_stats for s, f in field.by_split.items() if f.num_stats.histograms}
    if not several:
        return _empty()
    low = min(s.min for s in several.values())
    high = max(s.max for s in several.values())
    edges = np.linspace(low, high, 41) if low < high else np.array([low - 0.5, low + 0.5])
    shares = {split: _shares(stats, edges) for split, stats in several.items()}
    top = max(float(mass.max()) for mass in shares.values()) or 1.0
    shapes = []
    for i, split in enumerate(splits):
        if split not in shares:
            continue
        mass = shares[split] / top * (_HEIGHT - 22)
        step = _WIDTH / len(mass)
        points = " ".join(
            f"{x:.1f},{_HEIGHT - 16 - h:.1f}"
            for k, h in enumerate(mass)
            for x in (k * step, (k + 1) * step)
        )
        base = _HEIGHT - 16
        shapes.append(
            f'<polygon points="0,{base} {points} {_WIDTH},{base}" fill="var(--s{i % 3})" '
            f'fill-opacity=".28" stroke="var(--s{i % 3})" stroke-width="1.3">'
            f"<title>{html.escape(split)}</title></polygon>"
        )
    axis = (
        f'<text x="0" y="{_HEIGHT - 3}">{_number(low)}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 3}" text-anchor="end">{_number(high)}</text>'
    )
    return _svg(_HEIGHT, "".join(shapes) + axis, f"Histogram of {field.name}")


def _shares(stats: Any, edges: Any) -> Any:
    kind = statistics_pb2.Histogram.STANDARD
    histogram = next(h for h in stats.histograms if h.type == kind)
    total = sum(b.sample_count for b in histogram.buckets) or 1.0
    mass = np.zeros(len(edges) - 1)
    for bucket in histogram.buckets:
        if bucket.high_value > bucket.low_value:
            width = bucket.high_value - bucket.low_value
            below = np.clip((edges - bucket.low_value) / width, 0, 1)
            mass += np.diff(below) * bucket.sample_count / total
        else:
            place = int(np.searchsorted(edges, bucket.low_value, side="right")) - 1
            mass[min(place, len(mass) - 1)] += bucket.sample_count / total
    return mass


def _bars(field: _Field, splits: Sequence[str]) -> str:
    """The most frequent texts, one bar per split, and the rest as a number."""
    shares = {}
    for split, feature in field.by_split.items():
        stats = feature.string_stats
        total = stats.common_stats.tot_num_values or 1
        shares[split] = {b.label: b.sample_count / total for b in stats.rank_histogram.buckets}
    order: dict[str, float] = {}
    for of_split in shares.values():
        for text, share in of_split.items():
            order[text] = max(order.get(text, 0.0), share)
    texts = sorted(order, key=lambda t: (-order[t], t))[:TOP]
    if not texts:
        return _empty()
    top = max(order.values())
    row = 6 + 7 * len(splits)
    shapes = []
    for k, text in enumerate(texts):
        y = k * row
        shapes.append(
            f'<text class="label" x="118" y="{y + row / 2 + 2:.1f}" text-anchor="end">'
            f"{_short(text, 16)}<title>{html.escape(text[:200])}</title></text>"
        )
        for i, split in enumerate(splits):
            share = shares.get(split, {}).get(text, 0.0)
            width = share / top * 150
            shapes.append(
                f'<rect x="124" y="{y + 2 + 7 * i}" width="{width:.1f}" height="6" rx="1.5" '
                f'fill="var(--s{i % 3})"/><text x="{128 + width:.1f}" y="{y + 8 + 7 * i}" '
                f'class="share">{_percent(share)}</text>'
            )
    return _svg(len(texts) * row + 2, "".join(shapes), f"Top values of {field.name}")


def _empty() -> str:
    middle = f'<text x="{_WIDTH / 2}" y="28" text-anchor="middle">no values</text>'
    return _svg(48, middle, "no values")


def _svg(height: float, content: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'aria-label="{html.escape(title, quote=True)}">{content}</svg>'
    )


def _short(text: str, limit: int) -> str:
    plain = " ".join(text.split()) or repr(text)
    return html.escape(plain if len(plain) <= limit else plain[: limit - 1] + "…")


def _percent(share: float) -> str:
    if share and share < 0.001:
        return "<0.1%".replace("<", "&lt;")
    return f"{share:.1%}" if share else "0%"


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:,.2f}" if 1 <= abs(value) < 1e5 else f"{value:.3g}"
