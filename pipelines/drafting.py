"""A run configuration drafted from a table: what is decided, why, and what a person looks at.

Decisions are pure functions of a `Table`; nothing here reads or writes.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.util
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import yaml

from estimator_lib.core import labels
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean, quote
from transforms.validating.table import Table, TableField

EVAL_FRACTION = 0.2
_VALIDATION_FRACTION = 0.15
_MAX_CLASSES = 50
_FEW = 10
"""A whole number with at most so many values is a class, as a label."""
_MOST_CATEGORIES = 0.5
"""A text of more different values per row is free text."""
_RARE = 5
_ID = re.compile(r"(^|[_\W])(id|uuid|guid|key|no|nr|num|number)$|[a-z](Id|ID)$", re.IGNORECASE)
_CODE = re.compile(r"(^|[_\W])(code|zip|zipcode|postcode|postal|id)$", re.IGNORECASE)
_INDEX = re.compile(r"^(Unnamed: ?\d+|index|rownames|row|rowid)$", re.IGNORECASE)

Task = Literal["binary", "classes", "number"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draft:
    """A configuration as text, and what is said of it.

    Attributes:
        name: Of the pipeline.
        text: The YAML file, with comments.
        said: What was decided: topic and sentence.
        look_at: What a person should look at.
    """

    name: str
    text: str
    said: Sequence[tuple[str, str]]
    look_at: Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Label:
    task: Task
    field: TableField
    section: Mapping[str, Any]
    sentence: str
    comment: str
    threshold: tuple[str, Mapping[str, float], str]
    """Metric, bound and what the bound is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Split:
    section: Mapping[str, Any]
    sentence: str
    by: str = ""
    """The field that is no feature for it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Column:
    """A feature column: its name, what it is declared as, and why."""

    name: str
    spec: Mapping[str, Any]
    comment: str = ""


def draft(table: Table, label: str, patterns: Sequence[str], source: str) -> Draft:
    """Returns a configuration that learns a field of a table.

    Args:
        table: What was seen of it.
        label: The field to predict.
        patterns: Its files, as the configuration names them.
        source: What the table is called, for the configuration's name.

    Raises:
        ConfigError: there is no such field.
        DataError: the field cannot be a label, or nothing is left to learn from.
    """
    target = _label(table, label)
    others = [field for name, field in table.fields.items() if name != label]
    split = _split(table, others)
    left_out: dict[str, str] = {}
    used: list[TableField] = []
    for field in others:
        reason = _unfit(field, table.rows) or _leak(field, target)
        if field.name == split.by and field.kind != "date":
            reason = "names the groups that the split keeps apart"
        if reason:
            left_out[field.name] = reason
        else:
            used.append(field)
    trees = importlib.util.find_spec("lightgbm") is not None
    columns = [column for field in used for column in _columns(field, split, trees)]
    if not columns:
        shown = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise DataError(
            f"No field of the table can predict {label!r}: {shown or 'there is no other field'}. "
            "Give a table with more fields, or another --delimiter.",
            reason=Reason.EMPTY_INPUT,
        )
    split = _hashed(split, used)
    return _written(table, target, split, columns, used, left_out, patterns, source, trees)


# --- What is learned -----------------------------------------------------------------------------


def _label(table: Table, name: str) -> _Label:
    if name not in table.fields:
        raise ConfigError(
            f"--label {quote(name)} is no field of the table.{did_you_mean(name, table.fields)}",
            reason=Reason.UNKNOWN_NAME,
        )
    field = table.whole(name)
    skip: dict[str, Any] = {"missing": "skip"} if field.missing else {}
    lacking = f"; {field.missing:,} rows without are skipped" if field.missing else ""
    distinct = field.distinct
    if distinct < 2:
        what = "has no values" if not distinct else f"is {quote(next(iter(field.counts)))} always"
        raise DataError(
            f"Label {name!r} {what}: expected at least two values. Give another field.",
            reason=Reason.LABEL_OUT_OF_RANGE,
        )
    if field.kind in ("int", "float") and not (distinct == 2 or _is_class(field, distinct)):
        own = field.numbers[~np.isnan(field.numbers)]
        spread = float(np.std(own))
        return _Label(
            task="number", field=field, section={"field": name, "kind": "number", **skip},
            sentence=f"{name}, a number from {own.min():g} to {own.max():g}{lacking}",
            comment="",
            threshold=("rmse", {"max": _up(spread)}, "a model that knows the mean alone has this"),
        )  # fmt: skip
    if distinct > _MAX_CLASSES or field.kind == "date":
        what = "dates" if field.kind == "date" else f"{distinct:,} different texts"
        example = quote(next(iter(field.counts)))
        raise DataError(
            f"Label {name!r} has {what}, such as {example}: expected a number, or at most "
            f"{_MAX_CLASSES} classes. Give another field, or group its values.",
            reason=Reason.LABEL_OUT_OF_RANGE,
        )
    counts: dict[str, int] = {}
    for text, rows in field.counts.items():
        own_name = labels.canonical(text)
        counts[own_name] = counts.get(own_name, 0) + rows
    whole = all(text.lstrip("-").isdecimal() for text in counts)
    names = sorted(counts, key=int if whole else str)
    total = sum(counts.values())
    entropy = -sum(rows / total * math.log(rows / total) for rows in counts.values())
    plain = names == list(labels.digits(len(names)))
    shares = ", ".join(f"{one} {counts[one] / total:.1%}" for one in names[:6])
    more = " and others" if len(names) > 6 else ""
    positive = f"; {names[-1]} is positive" if len(names) == 2 else ""
    return _Label(
        task="binary" if len(names) == 2 else "classes", field=field,
        section={"field": name, "classes": len(names) if plain else names, **skip},
        sentence=f"{name}, {len(names)} classes: {shares}{more}{positive}{lacking}",
        comment="the last class is the positive one" if len(names) == 2 else "",
        threshold=("loss", {"max": _up(entropy)}, "a model that knows the shares alone has this"),
    )  # fmt: skip


def _is_class(field: TableField, distinct: int) -> bool:
    return field.kind == "int" and distinct <= _FEW and field.present >= 10 * distinct


def _up(number: float) -> float:
    """A bound that a model which learns nothing does not go below."""
    if number == 0:
        return 0.0
    digits = 4 - math.ceil(math.log10(abs(number)))
    return round(number, max(digits, 0))


# --- How rows are divided ------------------------------------------------------------------------


def _split(table: Table, fields: Sequence[TableField]) -> _Split:
    """Time if there is a date, groups if there is an identifier that repeats, else at random."""
    dates = [field for field in fields if field.kind == "date" and not field.missing]
    for field in dates:
        found = _by_time(table.whole(field.name))
        if found is not None and "birth" not in field.name.lower():
            return found
    for field in fields:
        if _is_group(field):
            share = field.present / field.distinct
            return _Split(
                section={"hash": {"key": [field.name], "eval_fraction": EVAL_FRACTION}},
                sentence=f"by {field.name}, which has {share:.1f} rows each: all go the same way",
                by=field.name,
            )
    return _Split(section={}, sentence="")


def _by_time(field: TableField) -> _Split | None:
    moments = np.sort(field.numbers)
    distinct = np.unique(moments)
    if np.isnan(moments).any() or len(distinct) < 10:
        return None
    bounds = [
        float(distinct[np.searchsorted(distinct, np.quantile(moments, at))])
        for at in (1 - EVAL_FRACTION - _VALIDATION_FRACTION, 1 - EVAL_FRACTION)
    ]
    shares = [float(np.mean(moments >= bound)) for bound in bounds]
    if not (0.02 < shares[1] < shares[0] - 0.02 and shares[0] < 0.9):
        return None
    before, after = (_moment(bound) for bound in bounds)
    return _Split(
        section={"time": {"field": field.name, "validation_from": before, "eval_from": after}},
        sentence=f"by {field.name}: learned from before {before}, judged from {after} on",
        by=field.name,
    )


def _moment(seconds: float) -> str:
    at = datetime.datetime.fromtimestamp(math.floor(seconds), datetime.UTC)
    return at.strftime("%Y-%m-%d" if at.time() == datetime.time() else "%Y-%m-%d %H:%M:%S")


def _hashed(split: _Split, used: Sequence[TableField]) -> _Split:
    """A split at random needs no key: rows that are alike in all fields go the same way."""
    if split.section:
        return split
    keys = [field.name for field in used]
    return _Split(
        section={"hash": {"key": keys, "eval_fraction": EVAL_FRACTION}},
        sentence=f"at random, {EVAL_FRACTION:.0%} to judge by; rows alike in all fields together",
    )


def _is_group(field: TableField) -> bool:
    distinct = field.distinct
    return (
        field.kind in ("int", "text")
        and bool(_ID.search(field.name))
        and not field.missing
        and distinct >= max(50, field.present * 0.01)
        and field.present >= 1.5 * distinct
    )


# --- Which fields are features -------------------------------------------------------------------


def _unfit(field: TableField, rows: int) -> str:
    """Why a field is no feature; "" if it may be one."""
    distinct = field.distinct
    if field.kind == "several":
        return "has several values per row; declare a column for it by hand"
    if not distinct:
        return "has no values"
    if distinct == 1 and not field.missing:
        return f"is {quote(next(iter(field.counts)), 30)} always"
    if distinct == field.present == rows and rows >= 20:
        if field.kind == "text":
            return "is different in every row, an identifier or free text"
        if field.kind == "int" and (
            _ID.search(field.name) or _INDEX.match(field.name) or _counts_up(field)
        ):
            return "numbers the rows"
    if field.kind == "text" and distinct > _MOST_CATEGORIES * field.present:
        return f"has {distinct:,} different texts in {field.present:,} rows"
    return ""


def _counts_up(field: TableField) -> bool:
    return bool(np.ptp(field.numbers) == len(field.numbers) - 1)


def _leak(field: TableField, label: _Label) -> str:
    """Why a field looks as if it were known after the label only; "" if it does not."""
    told = f"tells {label.field.name} alone, as what is known only afterwards does"
    if len(field.texts) > len(label.field.texts):
        return ""
    texts = label.field.texts[: len(field.texts)].to_pylist()
    known = np.array([text is not None for text in texts])
    if known.sum() < 40:
        return ""
    if label.task == "number":
        goal = label.field.numbers[: len(field.texts)]
        both = ~np.isnan(field.numbers) & ~np.isnan(goal)
        if field.kind not in ("int", "float") or both.sum() < 40:
            return ""
        if np.std(field.numbers[both]) == 0 or np.std(goal[both]) == 0:
            return ""
        return told if abs(np.corrcoef(field.numbers[both], goal[both])[0, 1]) > 0.9999 else ""
    classes = np.array([text or "" for text in texts])[known]
    own = [text if text is not None else "\0" for text in field.texts.to_pylist()]
    mine = np.array(own, object)[known]
    chance = len(classes) - max(np.unique(classes, return_counts=True)[1])
    if field.distinct <= len(classes) / 20 and _wrong(mine, classes) < 0.01 * chance:
        return told
    if field.missing and _wrong(mine == "\0", classes) < 0.01 * chance:
        return told
    if label.task == "binary" and field.kind in ("int", "float"):
        numbers = field.numbers[known]
        there = ~np.isnan(numbers)
        if abs(_auc(numbers[there], classes[there]) - 0.5) > 0.4995:
            return told
    return ""


def _wrong(values: np.ndarray[Any, Any], classes: np.ndarray[Any, Any]) -> int:
    """Rows that the most frequent class of each value gets wrong."""
    _, at = np.unique(values.astype(str), return_inverse=True)
    _, of = np.unique(classes, return_inverse=True)
    table = np.zeros((at.max() + 1, of.max() + 1), np.int64)
    np.add.at(table, (at, of), 1)
    return int(table.sum() - table.max(1).sum())


def _auc(numbers: np.ndarray[Any, Any], classes: np.ndarray[Any, Any]) -> float:
    """Area under the ROC curve of a number by itself; 0.5 where that is not told."""
    yes = classes == max(classes, default="")
    if min(yes.sum(), (~yes).sum()) < 20:
        return 0.5
    _, at, rows = np.unique(numbers, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(rows) - (rows - 1) / 2)[at]
    n = int(yes.sum())
    return float((ranks[yes].sum() - n * (n + 1) / 2) / (n * (len(yes) - n)))


# --- Columns and model ---------------------------------------------------------------------------


def _columns(field: TableField, split: _Split, trees: bool) -> list[_Column]:
    """The feature columns of a field."""
    name = field.name
    if field.kind == "date":
        return _date_columns(field, split, trees)
    if field.kind == "text" or (
        field.kind == "int" and _CODE.search(name) and field.distinct <= 1_000
    ):
        spec: dict[str, Any] = {"kind": "vocabulary"}
        if field.distinct > 20:
            spec["min_count"] = _RARE
        comment = f"{field.distinct:,} values"
        if trees:
            return [_Column(name=name, spec=spec, comment=comment)]
        embedded = {"kind": "embedding", "of": name}
        return [_Column(name=name, spec=spec, comment=comment),
                _Column(name=f"{name}_vector", spec=embedded)]  # fmt: skip
    number: dict[str, Any] = {"kind": "numeric"}
    if not trees:
        number["normalize"] = "moments"
    if not field.missing:
        return [_Column(name=name, spec=number)]
    comment = f"missing in {field.missing / len(field.texts):.1%}"
    flag = {"kind": "missing_indicator", "field": name}
    return [_Column(name=name, spec=number | {"default": "mean"}, comment=comment),
            _Column(name=f"no_{name}", spec=flag)]  # fmt: skip


def _date_columns(field: TableField, split: _Split, trees: bool) -> list[_Column]:
    """What of a date may come again; and its age, unless later rows are judged by later ones."""
    name = field.name
    moments = field.numbers[~np.isnan(field.numbers)]
    parts = [("weekday", 86_400.0)]
    if len(np.unique(moments % 86_400)) > 1:
        parts.insert(0, ("hour", 3_600.0))
    if np.ptp(moments) > 2 * 366 * 86_400:
        parts.append(("month", 0.0))
    found = []
    for part, _ in parts:
        spec: dict[str, Any] = {"kind": "date_part", "field": name, "part": part}
        if not trees:
            spec["kind"] = "cyclic"
        found.append(_Column(name=f"{name}_{part}", spec=spec))
    if name != split.by:
        age: dict[str, Any] = {
            "kind": "age", "field": name, "until": _moment(float(moments.max())), "unit": "days",
        }  # fmt: skip
        if field.missing:
            age["default"] = "mean"
        if not trees:
            age["normalize"] = "moments"
        found.append(_Column(name=f"{name}_age", spec=age))
    return found


def _model(
    task: Task, columns: Sequence[_Column], rows: int, trees: bool
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The sections estimator and train, and what the model is."""
    ending = "Regressor" if task == "number" else "Classifier"
    if trees:
        names = [column.name for column in columns]
        args = {"feature_columns": names, "n_trees": 300}
        train = {"max_steps": 300, "evaluate_every_steps": 20, "early_stopping": {"patience": 2}}
        return (
            {"name": f"GradientBoostedTrees{ending}", "args": args},
            train,
            f"GradientBoostedTrees{ending}, until the loss gets no better",
        )
    dense = [column.name for column in columns if column.spec["kind"] != "vocabulary"]
    args = {
        "feature_columns": dense,
        "hidden_units": [128, 64],
        "optimizer": {"name": "Adam", "learning_rate": 0.002},
        "dropout": 0.1,
    }
    train = {"batch_size": 512 if rows > 50_000 else 256, "epochs": 50,
             "early_stopping": {"patience": 5}}  # fmt: skip
    said = f"TabM{ending}, a network, until the loss gets no better"
    return {"name": f"TabM{ending}", "args": args}, train, said


# --- The file ------------------------------------------------------------------------------------


def _written(
    table: Table,
    label: _Label,
    split: _Split,
    columns: Sequence[_Column],
    used: Sequence[TableField],
    left_out: Mapping[str, str],
    patterns: Sequence[str],
    source: str,
    trees: bool,
) -> Draft:
    estimator, train, model = _model(label.task, columns, table.rows, trees)
    name = _name(source)
    look_at = _look_at(table, label, used, left_out)
    seen = f"{table.rows:,} rows" if table.complete else f"the first {table.rows:,} rows"
    said = [
        ("table", f"{seen} of {len(table.fields)} fields{_dialect(table)}"),
        ("label", label.sentence),
        ("split", split.sentence),
        ("columns", _counted(columns)),
        ("model", model),
    ]
    metric, bound, why = label.threshold
    lines = [_line(f"# Drafted from {source}, {said[0][1]}.")]
    lines += ["# Look at:", *(_line(f"# - {one}") for one in look_at)] if look_at else []
    lines += [f"name: {name}", "", "data:"]
    lines += [f"  {key}: {_flow(value)}" for key, value in _data(table, used, patterns).items()]
    lines += [_line(f"  # {split.sentence}"), f"  split: {_flow(split.section)}", ""]
    lines += [f"label: {_flow(label.section)}{_comment(label.comment)}", "", "columns:"]
    lines += [f"  {_flow(c.name)}: {_flow(c.spec)}{_comment(c.comment)}" for c in columns]
    lines += [_line(f"  # left out: {field}: it {reason}") for field, reason in left_out.items()]
    lines += ["", "estimator:", f"  name: {estimator['name']}", "  args:"]
    lines += [f"    {key}: {_flow(value)}" for key, value in estimator["args"].items()]
    lines += ["", "train: # ends before, with the best weights, when the loss gets no better"]
    lines += [f"  {key}: {_flow(value)}" for key, value in train.items()]
    lines += ["", "evaluate:", f"  thresholds: {_flow({metric: dict(bound)})}{_comment(why)}"]
    return Draft(name=name, text="\n".join(lines) + "\n", said=said, look_at=look_at)


def _data(table: Table, used: Sequence[TableField], patterns: Sequence[str]) -> dict[str, Any]:
    layout = table.layout
    found: dict[str, Any] = {"files": list(patterns)}
    if layout.format != "csv":
        found["format"] = layout.format
    for key, plain in (("delimiter", ","), ("encoding", "utf-8"), ("decimal", "."),
                       ("thousands", "")):  # fmt: skip
        value = getattr(layout, key)
        if value != plain:
            found[key] = value
    if layout.missing != ("",):
        found["missing"] = list(layout.missing)
    units = {field.name: field.unit for field in used if field.unit}
    if units:
        found["units"] = units
    return found


def _look_at(
    table: Table,
    label: _Label,
    used: Sequence[TableField],
    left_out: Mapping[str, str],
) -> list[str]:
    found = [f"{field} is left out: it {reason}" for field, reason in left_out.items()]
    tokens = [token for token in table.layout.missing if token]
    if tokens:
        found.append(f"missing is also written {', '.join(map(repr, tokens))}, in every field")
    odd = [f.name for f in table.fields.values() if f.kind == "text" and _has_foreign_dates(f)]
    if odd:
        found.append(
            f"dates of {', '.join(odd)} cannot be read: write them as 2026-01-31, for a split by "
            "time and their parts"
        )
    ids = [f.name for f in used if _ID.search(f.name) and f.kind in ("int", "text")]
    if ids:
        found.append(f"{', '.join(ids)} looks like an identifier and is a feature")
    if not table.complete:
        found.append("later rows may have other values: data.on_bad_rows says what those do")
    if label.task == "binary" and "classes" in label.section:
        names = label.section["classes"]
        if isinstance(names, list) and names[-1].lower() in ("no", "false", "n", "negative"):
            found.append(f"{names[-1]} is the positive class: turn label.classes round if need be")
    return found


_FOREIGN_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d{2})([ T].*)?|\d{4}[./]\d{1,2}[./].*")


def _has_foreign_dates(field: TableField) -> bool:
    return all(_FOREIGN_DATE.fullmatch(text) for text in field.texts.drop_null()[:50].to_pylist())


def _dialect(table: Table) -> str:
    layout = table.layout
    found = []
    if layout.delimiter != ",":
        found.append(f"delimiter {layout.delimiter!r}")
    if layout.encoding != "utf-8":
        found.append(f"encoding {layout.encoding}")
    if (layout.decimal, layout.thousands) != (".", ""):
        example = f"1{layout.thousands}234{layout.decimal}5"
        found.append(f"numbers as {example}")
    return f"; {', '.join(found)}" if found else ""


def _counted(columns: Sequence[_Column]) -> str:
    kinds: dict[str, int] = {}
    for column in columns:
        kind = str(column.spec["kind"])
        kinds[kind] = kinds.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())


def _name(source: str) -> str:
    found = re.sub(r"[^a-z0-9]+", "-", source.lower()).strip("-")[:40].strip("-")
    return found if found[:1].isalpha() else f"table-{found}".rstrip("-")


def _comment(text: str) -> str:
    return _line(f" # {text}") if text else ""


def _line(text: str) -> str:
    """A comment that stays one, whatever a field is called."""
    return " ".join(text.splitlines())


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True,
                          sort_keys=False)  # fmt: skip
    return text.removesuffix("\n").removesuffix("\n...").removesuffix("\n")


def name_of(pattern: str) -> str:
    """Returns what a table is called: its file's name without endings and wildcards."""
    base = pathlib.PurePosixPath(pattern).name.split(".")[0]
    return re.sub(r"[*?\[\]{}]+", "", base) or "table"
