"""The first pass over the files of a job: what there is to know about their rows."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam

from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.core.values import Logical
from transforms.beam import counting, runners
from transforms.learning import incremental
from transforms.learning.analysis import Analysis, AnalysisFn, FileAnalysis, Ranking
from transforms.reading import files, records
from transforms.reading.rows import ReadSummary

DIRECT_BYTES = 64 << 20
"""New files up to this size together, beside known ones, are analysed without a runner: starting
one would take longer than reading them."""


def analyse(
    inputs: Sequence[files.InputFile],
    source: records.Source,
    runner_options: Sequence[str] = (),
    cache: str | None = None,
) -> Analysis:
    """Reads all files and returns what there is to know about them.

    Faults in the data are in the result, not raised: see `Analysis.raise_if_faulty`. With a
    `cache` directory, files whose analysis it holds are not parsed. What the texts of a field are
    is settled, over all files, and they are counted as such. Which split, slice or sample a row is
    in may hang on it; so where texts turn out to be numbers with marks that Python does not write,
    the files are read once more.
    """
    analysis = _settled(inputs, source, runner_options, cache)
    if analysis.misread:
        return _settled(inputs, source.resolved(analysis.misread), runner_options, cache)
    return analysis


def _settled(
    inputs: Sequence[files.InputFile],
    source: records.Source,
    runner_options: Sequence[str],
    cache: str | None,
) -> Analysis:
    analysis = _merged(inputs, source, runner_options, cache)
    made = {field.name: Logical.TEXT for field in source.outputs.fields}
    analysis.settle({**made, **source.logical})
    return analysis


def _merged(
    inputs: Sequence[files.InputFile],
    source: records.Source,
    runner_options: Sequence[str],
    cache: str | None,
) -> Analysis:
    threads = runners.threads(runner_options)
    merged = Analysis()
    fresh: list[files.InputFile] = []
    for file, known in zip(
        inputs, runners.in_parallel(_kept(source, cache), inputs, threads), strict=True
    ):
        if known is None:
            fresh.append(file)
        else:
            merged.merge(known)
    if not fresh:
        return merged
    learn = AnalyseFiles(source, threads, cache)
    incremental = len(fresh) < len(inputs)
    if incremental and not runner_options and _size(fresh) <= DIRECT_BYTES:
        with counting.counting("analyse"):
            for analysis in learn.process(fresh):
                merged.merge(analysis)
        return merged
    with runners.scratch(runner_options, "analysis-") as path, counting.counting("analyse"):

        def build(pipeline: beam.Pipeline) -> None:
            portions = runners.portions(fresh, threads)
            analyses = (
                pipeline
                | "Files" >> beam.Create(portions, reshuffle=len(portions) > 1)
                | "Analyse" >> beam.ParDo(learn)
            )
            if len(portions) > 1:
                analyses |= "Merge" >> beam.CombineGlobally(AnalysisFn()).without_defaults()
            _ = analyses | "Write" >> beam.Map(Analysis.write, path)

        runners.run(build, runner_options)
        merged.merge(Analysis.read(path))
    return merged


def _size(inputs: Sequence[files.InputFile]) -> float:
    """Bytes of the files; infinite if they are not on this machine, or large ones."""
    if any(not file.is_local or file.part is not None for file in inputs):
        return math.inf
    return sum(os.path.getsize(file.path) for file in inputs if os.path.isfile(file.path))


def _kept(
    source: records.Source, cache: str | None
) -> Callable[[files.InputFile], Analysis | None]:
    if cache is None:
        return lambda _: None
    return lambda file: incremental.find(file, source, cache)


class AnalyseFiles(beam.DoFn):  # type: ignore[misc, unused-ignore]
    """InputFiles -> the Analysis of their rows."""

    def __init__(self, source: records.Source, threads: int, cache: str | None) -> None:
        self._source = source
        self._threads = threads
        self._cache = cache

    def process(self, element: Sequence[files.InputFile]) -> Iterator[Analysis]:
        merged = Analysis()
        for analysis in runners.in_parallel(self._analyse, element, self._threads):
            merged.merge(analysis)
        yield merged

    def _analyse(self, file: files.InputFile) -> Analysis:
        analysis = analyse_file(file, self._source)
        if self._cache is not None:
            incremental.keep(analysis, file, self._source, self._cache)
        return analysis


def analyse_file(file: files.InputFile, source: records.Source) -> Analysis:
    """Returns the analysis of one file; errors are in it, not raised."""
    analysis = Analysis(source.every_token, Ranking.of(source), source.slices, source.layout.marks)
    summary = ReadSummary()
    try:
        for chunk in records.read(file, source, summary):
            analysis.add(chunk)
            counting.count(sum(rows.read for rows in chunk.by_split.values()))
    except EstimatorLibError as error:
        # An exception would reach the caller changed by the runner, if at all.
        analysis.fail(error)
    analysis.seal()
    analysis.files[file.key] = FileAnalysis(
        sha256=summary.sha256,
        size_bytes=summary.size_bytes,
        kept={name: split.kept for name, split in analysis.splits.items()},
    )
    return analysis
