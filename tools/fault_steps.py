"""Record which named steps the scenarios of tests/e2e/test_faults_steps.py pass; say which step none does.

tools/fault_steps.py [SCENARIO…]    those only; the rest stays as it was recorded
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "tests" / "e2e")]
import test_faults_steps as faults  # noqa: E402

from support import network  # noqa: E402
from support.images import busybox_tar  # noqa: E402
from support.sampan import wait_until  # noqa: E402
from support.steps import TABLE, WHERE, Point, Stepped, exempt, steps, table  # noqa: E402

_BEHIND_S = 1.0


def main() -> None:
    network.isolate()
    wanted = sys.argv[1:] or list(faults.SCENARIOS)
    found = {point: [name for name in names if name not in wanted] for point, names in table().items()}
    with tempfile.TemporaryDirectory(prefix="sampan-steps-") as directory:
        instances = faults.Instances(busybox_tar(Path(directory) / "busybox.tar"))
        try:
            for name in wanted:
                passed = both(instances.get(), name)
                print(f"{name}: {len(passed)}", flush=True)
                for point in passed:
                    found.setdefault(point, []).append(name)
        finally:
            instances.drop()
    names = [str(step) for step in steps()]
    points = [(name, where) for name in names for where in WHERE if found.get((name, where))]
    TABLE.write_text("".join(f"{where} {name}: {'; '.join(found[name, where])}\n" for name, where in points))
    for name in names:
        if (name, "before") not in points and not exempt(name):
            print(f"no scenario passes {name}")


def both(sampan: Stepped, name: str) -> list[Point]:
    """Return what is passed each time."""
    first, second = passed(sampan, name), passed(sampan, name)
    return [point for point in first if point in second and not exempt(point[0])]


def passed(sampan: Stepped, name: str) -> list[Point]:
    scenario = faults.SCENARIOS[name]
    faults.prepare(sampan, scenario)
    time.sleep(_BEHIND_S)
    sampan.forget()
    client = faults.act(sampan, scenario.act)
    _, error = client.communicate()
    if scenario.act.startswith("!"):
        sampan("ps")
        wait_until(lambda: faults.roles(sampan).get("keeper"), what="the next keeper")
    time.sleep(_BEHIND_S + scenario.wait_s / 5)
    found = sampan.passed()
    faults.check(sampan, scenario, (client.returncode, error.decode()), "")
    faults.clean(sampan)
    return found


if __name__ == "__main__":
    main()
