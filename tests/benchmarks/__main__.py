"""`make bench`: runs every benchmark here; each prints one JSON line per figure.

python -m tests.benchmarks [NAME ...]      only bench_NAME.py
"""

import importlib
import pathlib
import sys


def main() -> None:
    here = pathlib.Path(__file__).parent
    names = sys.argv[1:] or sorted(p.stem.removeprefix("bench_") for p in here.glob("bench_*.py"))
    # The names are not arguments of the benchmarks, some of which take their own.
    del sys.argv[1:]
    for name in names:
        importlib.import_module(f"tests.benchmarks.bench_{name}").main()


if __name__ == "__main__":
    main()
