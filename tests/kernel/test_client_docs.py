"""The examples of docs/reference/python.md do what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

from support.sampan import Sampan

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "python.md"


def test_every_example_of_the_page_runs(sampan: Sampan) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        env={**os.environ, "SAMPAN_ROOT": str(sampan.root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert len(blocks) > 5
    assert done.returncode == 0, done.stderr
