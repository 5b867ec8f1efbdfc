"""Stand-ins for modules whose import would be most of the time in which a container is made.

Importing msgspec takes 30 ms of a processor, `typing` 10, `socket`, `enum`, `contextlib`, `signal` and `shlex` another
8; all that is done with a container takes about 10. What the specification's structs, the operations, the plan and its
performance use of them is little, and is here in plain Python: classes with the same constructor, comparison and
patterns, and a decoder that refuses what msgspec refuses, at the same place. Tests decode the same documents by both.
"""

from __future__ import annotations

import sys

from sampan.oci.lean.importer import Finder


def install() -> None:
    """Have what is imported from now on be looked for by `Finder`, for the rest of this process's life."""
    sys.meta_path.insert(0, Finder(__file__.removesuffix("/sampan/oci/lean/__init__.py")))
