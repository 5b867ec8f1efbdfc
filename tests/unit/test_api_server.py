"""What the server process has imported, and who is a newer client."""

import subprocess
import sys

import grimp
import pytest

from sampan import __version__
from sampan.api.server import _is_newer

IMPORTS = """
import sys
from sampan.api import server
assert "urllib3" not in sys.modules, "the first call waits for what it does not need"
server.import_everything()
print(*(name for name in sys.modules if name.split(".")[0] in ("sampan", "urllib3")))
"""


def imported_somewhere(first: str) -> set[str]:
    """Return the module and all that it imports, in functions too, and so on."""
    graph = grimp.build_graph("sampan", cache_dir=None, exclude_type_checking_imports=True)
    graph.remove_import(importer="sampan", imported="sampan.client")
    found, left = {first}, [first]
    while left:
        module = left.pop()
        new = graph.find_modules_directly_imported_by(module) - found
        found |= new
        left += new
    return found


def test_every_module_that_a_call_could_want_is_imported_and_none_of_others() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())

    wanted = imported_somewhere("sampan.api.server")
    assert "urllib3" in imported
    assert wanted - imported == set()
    packages = {name.rpartition(".")[0] for name in wanted}
    assert {name for name in imported - wanted - packages if name.startswith("sampan.")} == set()


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
