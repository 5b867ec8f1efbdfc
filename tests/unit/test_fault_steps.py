"""Every step that the source has is one at which test_faults_steps kills, or is named with the reason why not."""

from __future__ import annotations

from support.steps import EXEMPT, exempt, steps, table

REMEDY = (
    "new ones: let a scenario of e2e/test_faults_steps.py come there, and record it: tools/fault_steps.py SCENARIO, or "
    "add them to EXEMPT in support/steps.py with the reason; renamed ones: rename them in support/steps.txt"
)


def test_no_named_step_lacks_a_case() -> None:
    there = {step for step, _ in table()}
    missing = [str(step) for step in steps() if str(step) not in there and not exempt(str(step))]

    assert not missing, REMEDY


def test_the_table_and_the_exceptions_name_steps_that_there_are() -> None:
    names = {str(step) for step in steps()}

    assert {step for step, _ in table()} <= names, REMEDY
    assert not [prefix for prefix in EXEMPT if not any(name.startswith(prefix) for name in names)]
