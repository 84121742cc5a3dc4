"""Ten times the rows cost hardly more memory, in every step that reads rows."""

import json
import pathlib
import subprocess
import sys

import pytest

FEW, MANY = 50_000, 500_000
BYTES_PER_ROW = 150
"""Less than what keeping the rows takes: predictions, labels, weights and texts to slice by."""


@pytest.mark.timeout(900)
def test_ten_times_the_rows_need_the_same_memory(tmp_path):
    program = pathlib.Path(__file__).with_name("memory.py")
    command = [sys.executable, str(program), str(tmp_path), str(FEW), str(MANY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    peaks = {(line["step"], line["rows"]): line["mib"] for line in lines}
    for step in ("preprocess", "train", "evaluate", "predict"):
        few, many = peaks[step, FEW], peaks[step, MANY]
        assert many < 1.5 * few, (step, peaks)
        assert many - few < (MANY - FEW) * BYTES_PER_ROW / 2**20, (step, peaks)
