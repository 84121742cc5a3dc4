"""The readers that are tried, each with inputs that it takes to begin with."""

import contextlib
import dataclasses
import datetime
import itertools
import json
import pathlib
import struct
import tempfile
from collections.abc import Iterator
from typing import Any, Protocol

import yaml

from estimator_lib.core import columns as fc
from estimator_lib.core import config, cron, description, files, manifest
from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.core.values import Logical
from tests.examples import framed
from tests.fuzz import mutations
from tests.fuzz.mutations import Draw
from transforms.reading import csv_reader, tfrecord_reader
from transforms.reading.files import InputFile
from transforms.reading.rows import Field, Layout, ReadSummary, Rows


class Target(Protocol):
    """A reader, and what it is given."""

    def mutated(self, draw: Draw) -> bytes:
        """Returns an input: the same for the same random numbers."""
        ...

    def read(self, content: bytes) -> None:
        """Reads an input; raises an error of our own, or returns."""
        ...


# --- Text forms ----------------------------------------------------------------------------------


class Cron:
    """Expressions of schedules; of one that is taken, the first times are asked for."""

    SEEDS = ("0 0 3 * * *", "*/5 0-59/7 1,2,3 1 jan MON", "0 0 0 29 2 ?", "0 0 0 31 * 5")
    TOKENS = ("*", "?", "-", "/", ",", " ", "59", "60", "sun", "FEB", "L", "#", "@daily", "٣")
    NOW = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)

    def mutated(self, draw: Draw) -> bytes:
        text = mutations.text_of(draw, draw.choice(self.SEEDS), self.TOKENS)
        return text.encode(errors="surrogatepass")

    def read(self, content: bytes) -> None:
        times = cron.parse(content.decode(errors="surrogatepass")).times(self.NOW)
        found = list(itertools.islice(times, 3))
        assert found == sorted(found)


class Spans:
    """File patterns with dates, in a small tree of files."""

    SEEDS = ("rows/{date}/*.csv", "a-{date:7}.csv", "{date:8-90}/x", "x/{date:8-}[a-z]/?/*", "**")
    TOKENS = ("{date}", "{date:1}", "{", "}", ":", "-", "**", "/", "[", "]", "*", "!", "\\", "99")
    FILES = ("rows/2026-01-31/a.csv", "rows/20260201/a.csv", "a-20260131.csv", "20260131/x", "a[b")

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        for name in self.FILES:
            path = pathlib.Path(self._folder.name, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def mutated(self, draw: Draw) -> bytes:
        text = mutations.text_of(draw, draw.choice(self.SEEDS), self.TOKENS)
        return text.lstrip("/").encode(errors="surrogatepass")

    def read(self, content: bytes) -> None:
        pattern = content.decode(errors="surrogatepass")
        assert files.expand([pattern], self._folder.name)


# --- Trees ---------------------------------------------------------------------------------------


class Configuration:
    """Run configurations; one that is taken is read back from what is written of its parts."""

    FLIGHTS = pathlib.Path(__file__).parents[2] / "pipelines" / "examples" / "flights"
    LONG = """
    {name: trips, description: Late or not., pipeline: training,
     data: {format: csv, files: [a/*.csv], delimiter: ";", missing: ["", NA], encoding: latin-1,
            split: {time: {field: day, eval_from: "2026-01-31", validation_from: "2026-01-01"}},
            types: {code: text}, fields: {tags: {kind: string, separator: "|"}},
            on_bad_rows: quarantine, max_bad_fraction: 0.1},
     label: {field: y, classes: [stayed, churned], missing: skip}, weight: w,
     columns: {c: {kind: vocabulary, top_k: 10, min_count: 2, reserved: [a]},
               h: {kind: hashed, field: code, buckets: 10}, n: {kind: numeric, default: mean},
               b: {kind: bucketized, field: n, boundaries: [0.0, 1.5]},
               p: {kind: piecewise_linear, field: m, quantiles: 4},
               x: {kind: crossed, of: [c, b], buckets: 100}, e: {kind: embedding, of: c},
               i: {kind: identity, buckets: 4, default: 0}, o: {kind: indicator, of: i}},
     estimator: {name: DNNClassifier,
                 args: {feature_columns: [n, p, e, o], hidden_units: [8, 4], dropout: 0.1}},
     train: {epochs: 3, batch_size: 64, early_stopping: {metric: auc, direction: max}, seed: 3},
     tune: {metric: auc, direction: max, trials: 4,
            space: {estimator.args.dropout: {uniform: [0.0, 0.5]}, train.batch_size: {choice: [8]}}},
     evaluate: {slices: [c, [c, code]], min_slice_rows: 10, importance: {rows: 10, seed: 2},
                thresholds: {auc: {min: 0.5}}, slice_thresholds: {auc: {min: 0.1, min_rows: 20}}},
     export: {keep_versions: 3, tolerance: 0.001},
     cluster: {image: "r.example/x:1", steps: {train: {gpu: 1, memory: 4Gi}}},
     schedule: {cron: "0 0 3 * * *"}}
    """  # noqa: E501

    def __init__(self) -> None:
        flights = yaml.safe_load((self.FLIGHTS / "config.yaml").read_text())
        self._seeds = [flights, yaml.safe_load(self.LONG)]
        self._texts = [yaml.safe_dump(seed, sort_keys=False).encode() for seed in self._seeds]
        self._keys = sorted({*_names(config.json_schema()), "self", "features", "mean", "auto"})

    def mutated(self, draw: Draw) -> bytes:
        if draw.random() < 0.5:
            text = draw.choice(self._texts)
            change = mutations.bytes_of
            lines = draw.random() < 0.5
            return mutations.lines_of(draw, text, change) if lines else change(draw, text)
        tree = mutations.tree_of(draw, draw.choice(self._seeds), self._keys)
        return mutations.json_bytes(tree)

    def read(self, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "run.yaml"
            path.write_bytes(content)
            loaded = config.load(path)
        parts = [loaded, loaded.preprocess_part(), loaded.train_part(), loaded.evaluate_part()]
        for part in parts:
            written = part.to_json()
            json.loads(written, parse_constant=_refused)
            assert type(part).from_json(written) == part


class Columns:
    """`columns.json`; one that is taken is written and read back."""

    def __init__(self) -> None:
        number = fc.numeric_column("n", default_value=fc.Mean(), normalizer_fn=fc.ZScore(
            mean=0.5, stddev=2.0
        ))  # fmt: skip
        word = fc.categorical_column_with_vocabulary_list("c", ["a", "b"], num_oov_buckets=1)
        made = [
            number, word, fc.numeric_column("v", shape=(2,), default_value=[0.0, 1.0]),
            fc.categorical_column_with_vocabulary("t", 5, 2, reserved=("x",)),
            fc.categorical_column_with_hash_bucket("h", 10),
            fc.categorical_column_with_identity("i", 4, 0),
            fc.bucketized_column(fc.numeric_column("b"), [0.0, 1.0]),
            fc.crossed_column(["x", word], 10), fc.embedding_column(word, 4),
            fc.indicator_column(word), fc.missing_indicator_column("m"),
            fc.piecewise_linear_embedding(fc.numeric_column("p"), [0.0, 1.0], 3),
            fc.periodic_embedding(fc.numeric_column("q"), 4, 0.1, 3),
            fc.weighted_categorical_column(word, "w"), fc.sequence_categorical_column(word),
            fc.sequence_numeric_column("s"),
        ]  # fmt: skip
        self._seed = description.Description(
            columns={f"{at}.{column.kind}": column for at, column in enumerate(made)},
            raw_fields={"n": "float", "c": "string", "t": "string[]", "i": "int"},
            types={"c": Logical.TEXT, "t": Logical.DATE},
        ).to_json()
        self._text = json.dumps(self._seed, indent=1).encode()
        names = sorted({*_names(self._seed), "learned", "column", "Mean", "Moments", "Vocabulary"})
        self._keys = names

    def mutated(self, draw: Draw) -> bytes:
        if draw.random() < 0.3:
            return mutations.bytes_of(draw, self._text)
        return mutations.json_bytes(mutations.tree_of(draw, self._seed, self._keys))

    def read(self, content: bytes) -> None:
        found = description.parse(content)
        written = json.dumps(found.to_json())
        assert json.dumps(description.parse(written).to_json()) == written


class Manifests:
    """Manifests of artifacts, as those that ask for one read them."""

    SEED = {  # noqa: RUF012
        "kind": "examples",
        "files": {
            "train.parquet": {"size": 4, "sha256": "9f" * 32, "rows": 1},
            "a/b.json": {"size": 0, "sha256": "00" * 32, "rows": None},
        },
        "metadata": {"splits": {"train": {"files": ["train.parquet"], "rows": 1}}},
        "directory": "",
    }
    KEYS = ("kind", "files", "metadata", "directory", "size", "sha256", "rows", "../x", "/etc")

    def __init__(self) -> None:
        self._text = json.dumps(self.SEED, indent=1).encode()

    def mutated(self, draw: Draw) -> bytes:
        if draw.random() < 0.3:
            return mutations.bytes_of(draw, self._text)
        return mutations.json_bytes(mutations.tree_of(draw, self.SEED, self.KEYS))

    def read(self, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, size in (("train.parquet", 4), ("a/b.json", 0), (manifest.NAME, 0)):
                path = pathlib.Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content if name == manifest.NAME else bytes(size))
            found = manifest.read(folder)
            assert len(found.digest) == 64
            manifest.verify(folder)


# --- Tables --------------------------------------------------------------------------------------

FIELDS = (
    Field(name="c", type="string"),
    Field(name="d", type="string", logical=Logical.TIMESTAMP),
    Field(name="i", type="int", low=-1, high=9),
    Field(name="f", type="float"),
)


class Csv:
    """CSV in several dialects: its header, its types and its rows."""

    ROWS = (
        ("c", "d", "i", "f", "l"),
        ("a,b", "2024-01-31", "1", "1.5", "x|y"),
        ('say "x"', "2024-01-31 10:00:00.5+01:00", "-1", "1e-3", ""),
        ("two\nlines", "", "9", "-.5", "z"),
        ("é", "0001-01-01", "0", "", "|"),
    )
    LAYOUTS = (
        Layout(),
        Layout(delimiter=";", quote="'", escape="\\", decimal=",", thousands="."),
        Layout(delimiter="\t", quote="", encoding="utf-16"),
        Layout(delimiter="|", encoding="latin-1", missing=("", "NA", "-1"), quarantine=True),
        Layout(encoding="shift_jis", quarantine=True),
    )

    def __init__(self) -> None:
        several = Field(name="l", type="string", several=True, separator="|")
        self._layouts = [
            dataclasses.replace(layout, fields=(*FIELDS, several), texts=("c",))
            for layout in self.LAYOUTS
        ]
        self._seeds = [self._written(layout) for layout in self._layouts]

    def _written(self, layout: Layout) -> bytes:
        mark = layout.quote
        lines = []
        for row in self.ROWS:
            cells = []
            for cell in row:
                if mark:
                    inner = cell.replace(mark, layout.escape + mark if layout.escape else mark * 2)
                    cell = f"{mark}{inner}{mark}"
                cells.append(cell.replace("\n", " " if not mark else "\n"))
            lines.append(layout.delimiter.join(cells) + "\r\n")
        return "".join(lines).encode(layout.encoding, errors="replace")

    def mutated(self, draw: Draw) -> bytes:
        which = draw.randrange(len(self._layouts))
        change = mutations.bytes_of
        lines = draw.random() < 0.5
        seed = self._seeds[which]
        changed = mutations.lines_of(draw, seed, change) if lines else change(draw, seed)
        return bytes([which]) + changed

    def read(self, content: bytes) -> None:
        layout = self._layouts[content[0]]
        with _file(content[1:]) as file:
            names = csv_reader.read_header(file, layout)
            with contextlib.suppress(EstimatorLibError):
                csv_reader.infer_types(file, names, layout)
            summary = ReadSummary()
            rows = csv_reader.read_rows(file, layout, summary=summary, block_bytes=64)
            _consume(rows)


class TfRecord:
    """TFRecord files of tf.Examples, most of them with checksums that fit."""

    def __init__(self) -> None:
        self._layout = Layout(
            format="tfrecord",
            fields=(*FIELDS, Field(name="l", type="string", several=True)),
            texts=("c",),
        )
        one, few = _texts(b"a"), _texts(b"x", b"", b"y")
        number = _message(3, _message(1, b"\x05"))
        real = _message(2, _message(1, struct.pack("<f", 1.5)))
        moment = _texts(b"2024-01-31")
        self._examples = [
            _example({"c": one, "d": moment, "i": number, "f": real, "l": few}),
            _example({"c": one, "i": number, "l": one}),
            _example({"f": real, "l": few, "d": moment}),
        ]

    def mutated(self, draw: Draw) -> bytes:
        records = [self._examples[0], *draw.choices(self._examples, k=draw.randint(0, 3))]
        at = draw.randrange(len(records))
        quarantine = bytes([draw.randrange(2)])
        if draw.random() < 0.7:
            records[at] = mutations.bytes_of(draw, records[at], self._examples)
            return quarantine + b"".join(map(framed, records))
        return quarantine + mutations.bytes_of(draw, b"".join(map(framed, records)))

    def read(self, content: bytes) -> None:
        layout = dataclasses.replace(self._layout, quarantine=bool(content[0]))
        with _file(content[1:]) as file:
            names = tfrecord_reader.read_header(file, layout)
            with contextlib.suppress(EstimatorLibError):
                tfrecord_reader.infer_types(file, names, layout)
            with contextlib.suppress(EstimatorLibError):
                _consume(tfrecord_reader.look(file, layout))
            _consume(tfrecord_reader.read_rows(file, layout, summary=ReadSummary()))


# --- Bytes ---------------------------------------------------------------------------------------


def _message(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that holds bytes."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def _texts(*values: bytes) -> bytes:
    return _message(1, b"".join(_message(1, value) for value in values))


def _example(features: dict[str, bytes]) -> bytes:
    entries = (
        _message(1, _message(1, name.encode()) + _message(2, feature))
        for name, feature in features.items()
    )
    content = b"".join(entries)
    return (
        b"\n" + bytes([len(content)]) + content
        if len(content) < 128
        else (b"\n" + bytes([len(content) & 127 | 128, len(content) >> 7]) + content)
    )


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[InputFile]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield InputFile(name="input", path=file.name)


def _consume(chunks: Iterator[Rows]) -> None:
    """Reads all rows, and the places of faults among them."""
    for rows in chunks:
        rows.batch.validate(full=True)
        assert all(len(text) == rows.batch.num_rows for text in rows.texts.values())
        with contextlib.suppress(EstimatorLibError):
            rows.problems.raise_if_any()


def _refused(name: str) -> Any:
    raise AssertionError(f"{name} is written")


def _names(content: Any) -> Iterator[str]:
    """Yields all keys of a tree."""
    if isinstance(content, dict):
        yield from content
        for value in content.values():
            yield from _names(value)
    elif isinstance(content, list):
        for value in content:
            yield from _names(value)


READERS: dict[str, type[Target]] = {
    "csv": Csv,
    "config": Configuration,
    "columns": Columns,
    "manifest": Manifests,
    "spans": Spans,
    "cron": Cron,
    "tfrecord": TfRecord,
}
