"""Counts the tests of each fault; `make faults` prints them as a table of forty rows."""

import collections
import pathlib
import re

import pytest

from tests.faults.phases import Phases

FAULTS = 40
_OPTION = "--faults-table"
_FILE = re.compile(r"test_f(\d\d)_(\w+)\.py")
_counts = collections.defaultdict(collections.Counter)


@pytest.fixture(scope="session")
def phases(tmp_path_factory):
    """The steps of one run, each to be disturbed by itself."""
    with Phases(tmp_path_factory.mktemp("phases")) as found:
        found.prepare()
        yield found


def pytest_addoption(parser):
    parser.addoption(_OPTION, action="store_true", help="print a row per fault at the end")


def _fault(nodeid):
    found = _FILE.search(nodeid)
    return int(found[1]) if found else None


@pytest.hookimpl
def pytest_runtest_logreport(report):
    number = _fault(report.nodeid)
    if number is not None and (report.when == "call" or report.outcome != "passed"):
        _counts[number][report.outcome] += 1


def pytest_sessionfinish(session):
    """A fault without a test that passed fails the table, whatever the others say."""
    if session.config.getoption(_OPTION) and _missing() and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _missing():
    return [n for n in range(1, FAULTS + 1) if not _counts[n]["passed"] or _counts[n]["failed"]]


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption(_OPTION):
        return
    names = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("test_f*.py")):
        found = _FILE.fullmatch(path.name)
        names[int(found[1])] = found[2].replace("_", " ")
    write = terminalreporter.write_line
    write(f"{'fault':<36} {'passed':>7} {'failed':>7} {'skipped':>8}")
    for number in range(1, max([FAULTS, *names]) + 1):
        row = _counts[number]
        name = f"{number:2} {names.get(number, 'no test')}"
        write(f"{name:<36} {row['passed']:>7} {row['failed']:>7} {row['skipped']:>8}")
    shown = FAULTS - len(_missing())
    write(f"{shown} of {FAULTS} faults are shown to end as they should")
