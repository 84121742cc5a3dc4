"""Scoring a raw CSV with a published model."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from components.quiet import startup_lines_hidden
from estimator_lib.core.errors import ConfigError, Reason

BATCH_ROWS = 8192
_FIELD_TYPES = {"string": "string", "float32": "float", "int64": "int"}
_CONSTANT = ("all_classes", "all_class_ids")
"""Predictions that are the same for every row."""


def newest_version(model: pathlib.Path) -> pathlib.Path:
    """Returns `model` if it is a SavedModel, else its highest numbered version.

    Raises:
        ConfigError: it is neither a SavedModel nor a directory of numbered ones.
    """
    if (model / "saved_model.pb").is_file():
        return model
    versions = [p for p in model.glob("[0-9]*") if p.name.isdigit() and p.is_dir()]
    if not versions:
        raise ConfigError(
            f"Model {model} is neither a SavedModel nor a directory of numbered versions. Give "
            "the serving directory of a run, such as runs/flights/serving.",
            reason=Reason.FILE_NOT_FOUND,
        )
    return max(versions, key=lambda path: int(path.name))


def neutral(cell: str) -> str:
    """Returns a text that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def predict(
    *,
    model: pathlib.Path,
    pattern: str,
    output: pathlib.Path,
    keep: Sequence[str],
    missing: Sequence[str],
) -> int:
    """Scores raw CSV files and writes one line per row, in their order.

    Args:
        model: A SavedModel, or the directory of its versions.
        pattern: CSV files with a header; fields the model does not read are ignored.
        output: CSV to write: the fields of `keep`, then one column per prediction.
        keep: Input fields that go along.
        missing: Texts that stand for a missing value.

    Returns:
        How many rows were scored.

    Raises:
        EstimatorLibError: no model, no file, a field is missing or a value is not a number;
            nothing is written then.
    """
    import csv
    import io
    import os

    from estimator_lib.core import files, storage
    from estimator_lib.core.progress import Progress

    version = newest_version(model)
    sources = files.expand([os.path.abspath(pattern)], os.curdir)
    progress = Progress("predict")
    progress.line(f"loading {version}")
    with startup_lines_hidden():
        import pyarrow as pa

        from components import raw_rows
        from estimator_lib.export.saved_model import load_model
        from transforms import csv_reader
        from transforms.files import InputFile

        served = load_model(str(version))
    separators = _separators(version)
    fields = tuple(
        csv_reader.Field(
            name=name,
            type=_FIELD_TYPES[dtype],
            several=len(shape) > 1,
            separator=separators.get(name, ""),
        )
        for name, (dtype, shape) in sorted(served.inputs.items())
    )
    layout = csv_reader.Layout(missing=tuple(missing), fields=fields, texts=tuple(keep))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    total = 0
    for path in sources:
        for rows in csv_reader.read_rows(InputFile(name=str(path), path=str(path)), layout):
            rows.problems.raise_if_any()
            table = pa.Table.from_batches([rows.batch])
            names, columns = _flat(served.predict(raw_rows.arrays(table), BATCH_ROWS))
            if not total:
                writer.writerow([*map(neutral, keep), *names])
            copied = [[neutral(cell) for cell in rows.texts[field].to_pylist()] for field in keep]
            writer.writerows(zip(*copied, *columns, strict=True))
            total += len(table)
            progress.update(total)
    storage.write_text(output, text.getvalue())
    return total


def _separators(version: pathlib.Path) -> dict[str, str]:
    """What stood between the values of fields with several when the model was made."""
    import json

    try:
        found = json.loads((version / "lineage.json").read_text())
    except FileNotFoundError:
        return {}
    return dict(found.get("separators", {}))


def _flat(predictions: Any) -> tuple[list[str], list[list[Any]]]:
    """Returns names and columns; a prediction of several numbers becomes several columns."""
    names, columns = [], []
    for name, values in sorted(predictions.items()):
        if name in _CONSTANT:
            continue
        flat = values.reshape(len(values), -1)
        wide = flat.shape[1] > 1
        for index in range(flat.shape[1]):
            names.append(f"{name}_{index}" if wide else name)
            cells = flat[:, index].tolist()
            columns.append([_cell(cell) for cell in cells])
    return names, columns


def _cell(value: Any) -> Any:
    return neutral(value.decode(errors="replace")) if isinstance(value, bytes) else value
