"""The last lines of `make test` name all that failed, wherever it ran."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("tools_test", Path(__file__).parents[2] / "tools/test.py")
assert spec
assert spec.loader
tools_test = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tools_test)

PYTEST = """\
....F..E [100%]
FAILED tests is a word that a container may print
=========================== short test summary info ============================
SKIPPED [1] tests/e2e/test_a.py:3: missing kernel feature: dummy
ERROR tests/e2e/test_a.py::test_two - OSError: busy
FAILED tests/e2e/test_a.py::test_one[a - b] - AssertionError: assert 1 == 2
  +1
1 failed, 5 passed, 1 skipped, 1 error in 12.34s
"""


def perform(text: str, code: int, limit: int = 60):
    command = ("/bin/sh", "-c", f"cat <<'END'\n{text}END\nexit {code}")
    return tools_test.perform(tools_test.Step("e2e", command, limit), io.StringIO())


def test_each_failed_test_is_named_before_the_last_line_with_its_step_and_its_errors_first_line() -> None:
    lines = list(tools_test.summary([perform(PYTEST, 1)], 20))

    assert lines[-3:] == [
        "e2e: ERROR tests/e2e/test_a.py::test_two - OSError: busy",
        "e2e: FAILED tests/e2e/test_a.py::test_one[a - b] - AssertionError: assert 1 == 2",
        "==================== failed: e2e; 1 failed, 5 passed, 1 skipped, 1 error in 20.00s ====================",
    ]


def test_a_step_that_fails_without_a_test_says_its_exit_code_and_its_last_line() -> None:
    assert perform("Found 2 errors.\n\n", 3).failures == ("exit code 3; its last line: Found 2 errors.",)


def test_a_step_over_its_limit_is_killed_and_named() -> None:
    step = tools_test.Step("slow", ("/bin/sh", "-c", "echo begun; sleep 100"), 0.2)

    assert tools_test.perform(step, io.StringIO()).failures[0].startswith("over 0.2 s, killed; its last line:")


@pytest.mark.parametrize("last", ["1 failed, 5 passed in 9.00s", "6 passed, 1 warning in 61.01s (0:01:01)"])
def test_counts_are_found_also_when_the_machine_says_more_after_them(last: str) -> None:
    assert perform(f"{last}\n71 s in pytest\n", 0).counts


def test_what_passed_has_no_failures_whatever_it_printed() -> None:
    assert not perform(PYTEST, 0).failures
