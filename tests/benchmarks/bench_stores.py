"""Requests and CPU of object stores: small reads, and preprocessing in, out and once more.

    python -m tests.benchmarks stores

Of a server on this machine, moto, through a proxy that counts. The second run learns from what the
first kept, so that no file is read to learn from.
"""

from __future__ import annotations

import collections
import os
import pathlib
import tempfile
import time

from estimator_lib.core import stores
from estimator_lib.core.places import Place
from tests.benchmarks.figures import report
from tests.stores import proxy, servers
from transforms import preprocess
from transforms.testing import Job

FILES, ROWS, READS = 20, 5_000, 20


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        servers.running("s3", pathlib.Path(scratch)) as server,
        proxy.between(server.port) as between,
    ):
        os.environ.update(server.environment(between.port))
        root = Place(server.root)
        store = stores.of(root)
        rows = "".join(f"{'abcdefg'[i % 7]},{i},{i % 2}\n" for i in range(ROWS))
        for number in range(FILES):
            store.write(root / f"data/train-{number:02d}.csv", f"c,x,y\n{rows}".encode())
        store.write(root / "data/eval-00.csv", f"c,x,y\n{rows}".encode())
        store.write(root / "small", b"a manifest")
        began = time.process_time()
        for _ in range(READS):
            store.read(root / "small")
        report(f"stores_cpu_of_{READS}_small_reads", time.process_time() - began, "s")
        for name in ("first", "again"):
            _preprocess(pathlib.Path(scratch) / name, root, name, between)


def _preprocess(folder: pathlib.Path, root: Place, name: str, between: proxy.Proxy) -> None:
    patterns = {split: [f"{root}/data/{split}-*.csv"] for split in ("train", "eval")}
    made = Job(
        root=folder,
        files={},
        columns={"c": {"kind": "vocabulary"}, "x": {"kind": "numeric", "normalize": "moments"}},
        label={"field": "y"},
        data={"split": {"files": patterns}},
    )
    between.requests.clear()
    began, cpu = time.monotonic(), time.process_time()
    preprocess.run(
        made.part(),
        base_dir=str(folder),
        examples_dir=str(root / name / "examples"),
        transform_dir=str(root / name / "transform"),
        statistics_dir=str(root / name / "statistics"),
        analysis_cache=str(root / "kept"),
    )
    report(f"stores_preprocess_{name}_cpu", time.process_time() - cpu, "s")
    report(f"stores_preprocess_{name}", time.monotonic() - began, "s")
    for method, count in collections.Counter(method for method, _ in between.requests).items():
        report(f"stores_preprocess_{name}_{method.lower()}", count, "requests")
