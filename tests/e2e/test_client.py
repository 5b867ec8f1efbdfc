"""The Python client, as a program uses it: `import sampan`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support.sampan import Sampan

PROGRAM = """
import sampan

with sampan.Client() as c:
    print(c.containers.run("busybox", ["echo", "from python"]).stdout.decode().strip())
"""


def test_run_from_a_program(sampan: Sampan) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=sampan.env, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "from python" in done.stdout


@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="kernel: none")
def test_the_client_is_typed() -> None:
    import sampan

    assert os.path.exists(os.path.join(os.path.dirname(sampan.__file__), "py.typed"))
