"""The preprocess step: raw files -> statistics, transform graph, training examples.

The files are read twice and never held in memory: once to learn what the columns need, once to
apply it. Both passes are Beam pipelines over files; the three directories become visible
together at the end, or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam

from estimator_lib.core import columns as fc
from estimator_lib.core import config, description, labels, manifest, storage, stores
from estimator_lib.core.errors import (
    DataError,
    EstimatorLibError,
    Failure,
    Reason,
    StorageError,
    raise_first,
)
from estimator_lib.core.places import Place
from estimator_lib.core.progress import Progress
from transforms.applying import graph, materialize
from transforms.beam import counting, runners
from transforms.learning import first_pass, resolution, statistics
from transforms.learning.analysis import Analysis, SplitAnalysis
from transforms.reading import bigquery_snapshot, files, readers, records, splits
from transforms.reading.problems import Problem
from transforms.validating import first_look, quarantine, schema_policy, statistics_page

Outcome = tuple[list[Failure], dict[str, manifest.FileEntry]]
"""What some tasks came to: their errors, and the files they wrote."""
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """Rows of one split: read, kept for the examples, skipped for want of a label."""

    read: int
    kept: int
    skipped: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreprocessSummary:
    """What a preprocess step did.

    Attributes:
        splits: By name of the split.
        columns: How many columns were declared.
        features: How many transformed features the examples have.
        files: How many input files were read.
        seconds: Wall-clock time.
        data_fingerprint: SHA-256 over the names and contents of the input files.
        places: Where examples, transform and statistics are; of URIs, directories below them.
    """

    splits: Mapping[str, SplitCounts]
    columns: int
    features: int
    files: int
    seconds: float
    data_fingerprint: str
    places: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows in the examples."""
        return sum(split.kept for split in self.splits.values())


def run(
    part: config.PreprocessPart,
    *,
    base_dir: str,
    examples_dir: str,
    transform_dir: str,
    statistics_dir: str,
    runner_options: Sequence[str] = (),
    analysis_cache: str | None = None,
) -> PreprocessSummary:
    """Reads the raw files and writes three artifacts, each committed once.

    Args:
        part: What to read and which columns to learn.
        base_dir: Directory that file patterns are relative to.
        examples_dir: Gets shards of transformed features, kind "examples". All three, and the
            cache, may be URIs that Beam has a file system for; see `manifest` for what is there.
        transform_dir: Gets the transform in tensorflow-transform's layout, kind "transform".
        statistics_dir: Gets statistics per split (and as a page), the schema they suggest and,
            with a `data_schema`, the anomalies; kind "statistics".
        runner_options: Beam options, after those of `part.data.beam`; without `--runner` the job
            runs in this process.
        analysis_cache: Directory that keeps the analyses of single files by their content, so
            that the next run reads only new files to learn from; see `incremental`.

    Returns:
        Rows and time.

    Raises:
        ConfigError: the configuration contradicts itself.
        DataError: a file or a value is bad; up to twenty places are named.
        SchemaError: a file lacks a field, or the data does not follow its schema.
        StorageError: a directory cannot be written.
    """
    began = time.monotonic()
    runner_options = [*(part.data.beam or ()), *runner_options]
    runners.accept(runner_options)
    for directory in (examples_dir, transform_dir, statistics_dir, analysis_cache):
        if directory is not None and not (place := Place.parse(directory)).is_local:
            stores.of(place)  # refused before any work
    with contextlib.ExitStack() as commits:
        given = _settle_types(commits, part, base_dir, runner_options, analysis_cache)
        learned = _learned(given, runner_options, analysis_cache)
        # The examples are entered first and so committed last: they are what train looks for.
        examples = commits.enter_context(manifest.committed_artifact(examples_dir))
        _write_transform(commits, transform_dir, learned.resolved, learned.source)
        _write_learned(commits, statistics_dir, given, learned)
        _write_examples(
            examples,
            given.parts,
            learned.source,
            learned.resolved,
            learned.analysis,
            given.part.data.examples,
            runner_options,
        )
    return PreprocessSummary(
        splits={
            name: SplitCounts(read=s.read, kept=s.kept, skipped=s.skipped)
            for name, s in _in_order(learned.analysis).items()
        },
        columns=len(given.columns),
        features=len(fc.feature_sources(given.columns.values())),
        files=len(given.inputs),
        seconds=time.monotonic() - began,
        data_fingerprint=learned.analysis.fingerprint,
        places=tuple(
            str(manifest.locate(d)) for d in (examples_dir, transform_dir, statistics_dir)
        ),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Settled:
    """What a step reads, once its files have been looked at.

    Attributes:
        part: The configuration, with the classes that were found and files in place of a table.
        columns: As declared.
        inputs: The files, and `parts` what they are read in.
        source: How they are read.
        policy: What the data must be like; None if nothing is said.
    """

    part: config.PreprocessPart
    columns: Mapping[str, fc.Column]
    inputs: Sequence[files.InputFile]
    parts: Sequence[files.InputFile]
    source: records.Source
    policy: schema_policy.SchemaPolicy | None


def _settle_types(
    stack: contextlib.ExitStack,
    part: config.PreprocessPart,
    base_dir: str,
    runner_options: Sequence[str],
    cache: str | None,
) -> _Settled:
    policy = schema_policy.load(part.data_schema, base_dir) if part.data_schema else None
    columns = config.build_columns(part.columns)
    part, inputs = _inputs(stack, part, columns, base_dir, runner_options)
    part = first_look.learned_classes(part, inputs)
    _show_classes(part)
    derived = _derived(stack, part, inputs, policy, runner_options, cache)
    source = _source(part, columns, inputs, derived)
    if derived is not None:
        source = source.resolved(derived.logical)
    if policy is not None:
        source = policy.add_bounds(source)
    return _Settled(
        part=part,
        columns=columns,
        inputs=inputs,
        parts=[piece for file in inputs for piece in readers.divide(file, source.layout)],
        source=source,
        policy=policy,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Learned:
    """What the first pass found, and what the columns have become.

    Attributes:
        source: How the files are read, now that it is known what their texts are.
        analysis: All there is to know of their rows, and `train` of those fields of the train
            split that the files have.
        quarantined: Records at fault that are left out, the faults of each.
        computed: DatasetFeatureStatisticsList by split.
        anomalies: What is wrong with them, by split.
        resolved: The columns.
    """

    source: records.Source
    analysis: Analysis
    train: SplitAnalysis
    quarantined: list[list[Problem]]
    computed: Mapping[str, Any]
    anomalies: Mapping[str, Any]
    resolved: Mapping[str, fc.Column]


def _learned(given: _Settled, runner_options: Sequence[str], cache: str | None) -> _Learned:
    analysis = first_pass.analyse(given.parts, given.source, runner_options, cache)
    source = given.source.resolved(analysis.logical)
    quarantined = quarantine.check(analysis, given.part.data)
    _require_rows(analysis, splits.names(given.part.data.split))
    of_files = {n: split.without(source.ages) for n, split in _in_order(analysis).items()}
    computed = {name: statistics.dataset_statistics(name, s) for name, s in of_files.items()}
    statistics.add_common_histograms(computed, of_files)
    return _Learned(
        source=dataclasses.replace(source, ages={}),  # they have been learned from
        analysis=analysis,
        train=of_files["train"],
        quarantined=quarantined,
        computed=computed,
        anomalies=given.policy.judge(computed) if given.policy is not None else {},
        resolved=resolution.resolve(given.columns, analysis, source.class_label),
    )


def _write_learned(
    commits: contextlib.ExitStack, directory: str, given: _Settled, learned: _Learned
) -> None:
    """Writes the statistics and what comes with them."""
    writer = commits.enter_context(manifest.committed_artifact(directory))
    heads = given.part.heads
    schema = statistics.infer_schema(
        learned.train,
        learned.source.logical,
        labels=[field for own in heads.values() for field in own.raw_fields],
    )
    statistics_page.write_statistics(writer, learned.computed, schema, learned.anomalies)
    quarantine.write(writer.directory, learned.quarantined)
    writer.metadata |= {
        "label": labels.to_json(config.described(heads)),
        "data_fingerprint": learned.analysis.fingerprint,
        "quarantined": len(learned.quarantined),
    }


def _inputs(
    stack: contextlib.ExitStack,
    part: config.PreprocessPart,
    columns: Mapping[str, fc.Column],
    base_dir: str,
    runner_options: Sequence[str],
) -> tuple[config.PreprocessPart, list[files.InputFile]]:
    """The files to read, and how; BigQuery becomes files that are gone with the stack."""
    table = part.data.bigquery
    if table is None:
        return part, files.find(part.data.patterns(), base_dir)
    data = part.data.model_copy(update={"format": "parquet", "bigquery": None})
    part = part.model_copy(update={"data": data})
    wanted = None  # which fields a function gives is not known before it has learned
    if part.preprocess is None:
        wanted = records.source(part, columns, {}).layout.names
    directory = stack.enter_context(runners.scratch_directory(runner_options, "bigquery-"))
    return part, bigquery_snapshot.take(table, wanted, directory, runner_options)


def _show_classes(part: config.PreprocessPart) -> None:
    """Says which classes a label has, where they are called by name."""
    for head, label in part.heads.items():
        found = label.described()
        if isinstance(found, labels.ClassLabel) and not found.numbered:
            told = ", ".join(found.classes)
            positive = f"; positive: {found.positive}" if found.positive is not None else ""
            Progress("label").line(f"label  {head or found.field}: {told}{positive}")


def _in_order(analysis: Analysis) -> dict[str, SplitAnalysis]:
    return {name: analysis.splits[name] for name in config.SPLITS if name in analysis.splits}


def _source(
    part: config.PreprocessPart,
    columns: Mapping[str, fc.Column],
    inputs: Sequence[files.InputFile],
    derived: records.Derived | None = None,
) -> records.Source:
    """Settles how the files are read, and refuses files whose header does not fit."""
    provisional = records.source(part, columns, {}, derived)
    _report_extra(first_look.require_fields(inputs, provisional.layout))
    given = {**part.data.kinds, **(derived.outputs if derived is not None else {})}
    open_fields = [f for f in records.indicator_only(columns.values()) if f not in given]
    if not open_fields:
        return provisional
    reader = readers.reader(part.data.format)
    inferred = reader.infer_types(inputs[0], open_fields, provisional.layout)
    return records.source(part, columns, inferred, derived)


def _derived(
    stack: contextlib.ExitStack,
    part: config.PreprocessPart,
    inputs: Sequence[files.InputFile],
    policy: schema_policy.SchemaPolicy | None,
    runner_options: Sequence[str],
    cache: str | None,
) -> records.Derived | None:
    """Has the user's function learn from the train rows, if there is one."""
    if part.preprocess is None:
        return None
    from transforms.applying import function_learning  # tensorflow-transform, seldom needed

    source = records.source(part, {}, {})
    first_look.require_fields(inputs, source.layout)
    if policy is not None:
        source = policy.add_bounds(source)
    # What texts are decides how the function is given them, so it must be known before.
    parts = [piece for file in inputs for piece in readers.divide(file, source.layout)]
    seen = first_pass.analyse(parts, source, runner_options, cache)
    fields = {
        name: part.data.kinds[name] + ("[]" if name in part.data.fields else "")
        for name in part.preprocess.fields
    }
    directory = stack.enter_context(runners.scratch_directory(runner_options, "function-"))
    return function_learning.learn(
        part.preprocess.function,
        inputs,
        source.resolved(seen.logical),
        fields,
        directory,
        runner_options=runner_options,
        cache=cache,
    )


def _report_extra(headers: Mapping[files.InputFile, Sequence[str]]) -> None:
    """Says once which fields only some of the files have; nothing reads them."""
    first, *others = [set(header) for header in headers.values()]
    different = {name for header in others for name in first ^ header}
    if different:
        _LOG.warning("Fields in some files only, and not used: %s.", ", ".join(sorted(different)))


def _require_rows(analysis: Analysis, names: Sequence[str]) -> None:
    for name in names:
        split = analysis.splits.get(name)
        if split is None or not split.kept:
            skipped = f", {split.skipped:,} rows without label skipped" if split else ""
            raise DataError(
                f"Split {name!r} is empty: expected rows, got none in {len(analysis.files)} "
                f"files{skipped}. Correct data.split or the files.",
                reason=Reason.EMPTY_INPUT,
            )


# --- Pass 2 --------------------------------------------------------------------------------------


class WriteShards(beam.DoFn):  # type: ignore[misc, unused-ignore]
    """ShardTasks -> what was written, and errors as values."""

    def __init__(self, source: records.Source, described: str, threads: int) -> None:
        self._source = source
        self._described = described
        self._threads = threads

    def process(self, element: Sequence[materialize.ShardTask]) -> Iterator[Outcome]:
        transform = materialize.transform_for(self._described)

        def write(task: materialize.ShardTask) -> Outcome:
            try:
                with storage.storage_errors("write", task.directory):
                    return [], materialize.write_shards(
                        task, self._source, transform, counting.count
                    )
            except EstimatorLibError as error:
                return [Failure.of(error)], {}

        yield _together(runners.in_parallel(write, element, self._threads))


def _together(outcomes: Iterable[Outcome]) -> Outcome:
    failures: list[Failure] = []
    written: dict[str, manifest.FileEntry] = {}
    for failed, files_of in outcomes:
        failures += failed
        written |= files_of
    return failures, written


def _write_outcome(outcome: Outcome, path: str) -> None:
    failures, written = outcome
    listed = {name: dataclasses.asdict(entry) for name, entry in sorted(written.items())}
    stores.write(path, storage.canonical_json([failures, listed]).encode())


def _read_outcome(path: str) -> dict[str, manifest.FileEntry]:
    """Returns what the workers wrote, or raises the first of their errors."""
    failures, written = json.loads(stores.read(path))
    raise_first(Failure(*failure) for failure in failures)
    return {name: manifest.FileEntry(**entry) for name, entry in written.items()}


def _write_examples(
    writer: manifest.ArtifactWriter,
    inputs: Sequence[files.InputFile],
    source: records.Source,
    resolved: Mapping[str, fc.Column],
    analysis: Analysis,
    output: str,
    runner_options: Sequence[str],
) -> None:
    described = storage.canonical_json(
        description.Description(
            columns=resolved, raw_fields=source.features, types=source.logical
        ).to_json()
    )
    kept = {name: file.kept for name, file in analysis.files.items()}
    threads = runners.threads(runner_options)
    total = sum(split.kept for split in analysis.splits.values())
    with contextlib.ExitStack() as stack:
        place = writer.place
        if runners.hands_over_by_uri(runner_options) and Place.parse(place).is_local:
            # Workers that do so share no directory with this machine.
            place = stack.enter_context(runners.scratch_directory(runner_options, "shards-"))
        tasks = materialize.plan(inputs, kept, place, keep_raw=source.keep_raw, output=output)
        path = stack.enter_context(runners.scratch(runner_options, "examples-"))

        def build(pipeline: beam.Pipeline) -> None:
            portions = runners.portions(tasks, threads)
            outcomes = (
                pipeline
                | "Shards" >> beam.Create(portions, reshuffle=len(portions) > 1)
                | "Transform" >> beam.ParDo(WriteShards(source, described, threads))
            )
            if len(portions) > 1:
                listed = beam.CombineGlobally(beam.combiners.ToListCombineFn())
                outcomes |= "Outcomes" >> listed.without_defaults()
                outcomes |= "Together" >> beam.Map(_together)
            _ = outcomes | "Write" >> beam.Map(_write_outcome, path)

        with counting.counting("transform", total):
            runners.run(build, runner_options)
        writer.written = _read_outcome(path)
        if place != writer.place:
            _fetch(Place.parse(place), writer)
    by_split: dict[str, Any] = {name: {"files": [], "rows": 0} for name in _in_order(analysis)}
    for shard in sorted((s for task in tasks for s in task.shards), key=lambda s: s.name):
        entry = writer.written.get(shard.name)
        rows = entry.rows if entry is not None else None
        here = Place.parse(writer.place).is_local
        if here and not (writer.directory / shard.name).is_file():
            rows = None  # written, but not to where this machine looks
        if rows != shard.rows:
            raise DataError(
                f"Shard {shard.name} is incomplete: expected {shard.rows:,} rows, got {rows}. "
                "Run again.",
                reason=Reason.DISAGREEMENT,
            )
        by_split[shard.split]["files"].append(shard.name)
        by_split[shard.split]["rows"] += shard.rows
    raw_shards = sorted(shard.name for task in tasks for shard in task.raw_shards)
    writer.kind = "examples"
    writer.metadata = {
        "splits": by_split,
        "raw_eval": raw_shards,
        "features": materialize.features_of(resolved.values(), source.features, source.along),
        "label": labels.to_json(config.described(source.labels)),
        "weight": source.weight,
        "keep": list(source.keep),
        "raw_fields": dict(sorted(source.raw_fields.items())),
        "types": dict(sorted(source.logical.items())),
        "required": sorted(fc.required_fields(resolved)),
        "dates": records.date_fields(resolved.values()),
        "units": {name: dataclasses.asdict(unit) for name, unit in source.units.items()},
        "separators": {f.name: f.separator for f in source.layout.fields if f.separator},
        "counts": _counts(analysis, source.labels),
        "data_fingerprint": analysis.fingerprint,
        "inputs": {name: file.sha256 for name, file in sorted(analysis.files.items())},
        "transform_content": graph.content_digest(resolved, source),
    }


def _fetch(place: Place, writer: manifest.ArtifactWriter) -> None:
    """Brings what workers wrote below a URI into an artifact's own directory."""
    for name, entry in writer.written.items():
        path = writer.directory / name
        stores.of(place).download(place / name, path)
        if storage.sha256_file(path) != entry.sha256:
            raise StorageError(
                f"Cannot read {place / name}: expected the SHA-256 {entry.sha256[:12]}, got "
                "another. Run again."
            )


def _counts(analysis: Analysis, by_head: Mapping[str, config.Label]) -> dict[str, Any]:
    """Rows read, kept and skipped per split, with those of every class by its name, by head."""
    counts: dict[str, Any] = {}
    for name, split in _in_order(analysis).items():
        counts[name] = {"read": split.read, "kept": split.kept, "skipped": split.skipped}
        found = {}
        for head, label in by_head.items():
            described = label.described()
            if isinstance(described, labels.ClassLabel):
                totals = split.fields[described.field].class_totals(label)
                found[head] = {described.classes[at]: count for at, count in totals.items()}
        if found:
            counts[name]["label"] = found.get("", found)
    return counts


# --- The other artifacts -----------------------------------------------------------------------


def _write_transform(
    commits: contextlib.ExitStack,
    directory: str,
    resolved: Mapping[str, fc.Column],
    source: records.Source,
) -> None:
    """Writes the transform, unless a finished one with the same content is there already.

    A SavedModel's bytes differ each time it is written, so a retried step could otherwise not
    commit what it committed before.
    """
    content = graph.content_digest(resolved, source)
    finished = manifest.whole(directory)
    if finished is not None:
        if finished.metadata.get("content") == content:
            return
        raise StorageError(
            f"Cannot commit {directory}: it holds a finished transform of other columns or data. "
            "Write to a new directory.",
            reason=Reason.ALREADY_EXISTS,
        )
    writer = commits.enter_context(manifest.committed_artifact(directory))
    graph.write_transform(writer.directory, resolved, source)
    writer.kind = "transform"
    writer.metadata = {"content": content}
