r"""A tiny preprocess job from texts, for tests: of this project and of its users.

Example:
    >>> job = Job(root=tmp_path, files={"train": ["x,y\n1,0\n"], "eval": ["x,y\n2,1\n"]},
    ...           label={"field": "y"}, columns={"x": {"kind": "numeric"}})
    >>> job.run().splits["train"].kept
    analyse  2 rows in ...
    transform  2 rows in ...
    1
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from estimator_lib.core import config, manifest
from transforms import preprocess as step


@dataclasses.dataclass(kw_only=True)
class Job:
    """A preprocess job over files written below `root`.

    Attributes:
        root: An empty directory.
        files: Split to the contents of its files.
        columns: As in a run configuration.
        label: As in a run configuration.
        labels: As in a run configuration.
        weight: As in a run configuration.
        keep: Raw fields to keep.
        keep_raw: Whether to keep the eval rows as they were.
        data: Further keys of the data section.
        suffix: Of the files' names.
        preprocess: As in a run configuration.
    """

    root: pathlib.Path
    files: Mapping[str, Sequence[str | bytes]]
    columns: Mapping[str, Any]
    label: Mapping[str, Any] | None = None
    labels: Mapping[str, Any] | None = None
    weight: str | None = None
    keep: Sequence[str] = ()
    keep_raw: bool = False
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    suffix: str = ".csv"
    preprocess: Mapping[str, Any] | None = None

    @property
    def examples(self) -> pathlib.Path:
        """Directory of the examples."""
        return self.root / "out" / "examples"

    @property
    def transform(self) -> pathlib.Path:
        """Directory of the transform."""
        return self.root / "out" / "transform"

    @property
    def statistics(self) -> pathlib.Path:
        """Directory of the statistics."""
        return self.root / "out" / "statistics"

    def part(self) -> config.PreprocessPart:
        """Writes the files and returns the step's configuration."""
        folder = self.root / "data"
        folder.mkdir(parents=True, exist_ok=True)
        for split, contents in self.files.items():
            for i, content in enumerate(contents):
                data = content.encode() if isinstance(content, str) else content
                (folder / f"{split}-{i}{self.suffix}").write_bytes(data)
        patterns = {split: [f"data/{split}-*"] for split in self.files}
        data_part = {"split": {"files": patterns}, **self.data}
        return config.PreprocessPart.model_validate(
            {
                "data": data_part,
                "label": self.label,
                "labels": self.labels,
                "weight": self.weight,
                "preprocess": dict(self.preprocess) if self.preprocess is not None else None,
                "columns": dict(self.columns),
                "keep": list(self.keep),
                "keep_raw": self.keep_raw,
            }
        )

    def run(self, runner_options: Sequence[str] = ()) -> step.PreprocessSummary:
        """Writes the files and runs the job."""
        return step.run(
            self.part(),
            base_dir=str(self.root),
            examples_dir=str(self.examples),
            transform_dir=str(self.transform),
            statistics_dir=str(self.statistics),
            runner_options=runner_options,
        )

    def table(self, split: str = "train") -> pa.Table:
        """Returns the examples of a split, shards in order."""
        metadata = manifest.read(self.examples, kind="examples").metadata
        names = metadata["splits"][split]["files"]
        return pa.concat_tables([pq.read_table(self.examples / name) for name in names])

    def metadata(self) -> Mapping[str, Any]:
        """Returns the metadata of the examples."""
        return manifest.read(self.examples, kind="examples").metadata
