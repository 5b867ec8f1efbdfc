"""What the server process has imported, and who is a newer client."""

import subprocess
import sys

import pytest

from sampan import __version__
from sampan.api.server import _is_newer

IMPORTS = """
import pkgutil, sys, sampan
from sampan.api import server
assert "urllib3" not in sys.modules, "the first call waits for what it does not need"
server.import_everything()
parts = ("engine", "image", "rootfs", "runtime", "spec", "supervise", "api", "kernel")
all = {m.name for m in pkgutil.walk_packages(sampan.__path__, "sampan.") if m.name.split(".")[1] in parts}
print(sorted(all - sys.modules.keys()), "urllib3" in sys.modules)
"""


def test_every_module_that_a_call_could_want_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)

    assert done.stdout == "[] True\n"


@pytest.mark.parametrize(
    ("user_agent", "newer"),
    [
        ("sampan/99.0", True),
        ("sampan/99.0.1 (python)", True),
        (f"sampan/{__version__} (python)", False),
        ("sampan/0.0.1", False),
        ("sampan", False),
        ("sampan/x.y", False),
        ("sampan/" + "9" * 5000, False),
        ("docker/99.0", False),
        ("", False),
    ],
)
def test_only_a_newer_client_of_ours_is_made_room_for(user_agent: str, newer: bool) -> None:
    assert _is_newer(user_agent) is newer
