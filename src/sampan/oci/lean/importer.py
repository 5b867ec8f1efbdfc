"""Finds this package's modules where they are known to be, and the stand-ins for others.

The interpreter's own finder takes 0.2 ms a module, most of it for directories, suffixes and paths that can't matter
here; some fifty modules make a container. A compiled file that is missing, or older than its source, is left to it.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any, ClassVar

# What imports nothing that is stood in for.
_PLAIN = {
    *sys.builtin_module_names, "_ctypes", "_json", "_socket", "_struct", "ctypes", "ctypes._endian", "fcntl", "math",
    "resource", "select", "struct", "termios", "tty", "types",
}  # fmt: skip
_HEADER_BYTES = 16
_ENDING = f".{sys.implementation.cache_tag}.pyc"
_ModuleSpec: Any = type(sys.__spec__)


def _spec(name: str, loader: object, origin: str | None = None) -> ModuleSpec:
    spec: ModuleSpec = _ModuleSpec(name, loader, origin=origin)
    return spec


class Finder:
    """A finder of sys.meta_path, and the loader of what it finds."""

    STAND_INS: ClassVar = {
        "contextlib": ("sampan.oci.lean.standard", "contextlib"),
        "enum": ("sampan.oci.lean.standard", "enum"),
        "msgspec": ("sampan.oci.lean.structs", ""),
        "msgspec.structs": ("sampan.oci.lean.structs", ""),
        "shlex": ("sampan.oci.lean.standard", "shlex"),
        "signal": ("_signal", ""),  # the numbers and calls, without an enum of each
        "socket": ("sampan.oci.lean.standard", "socket"),
        "typing": ("sampan.oci.lean.hints", ""),
    }
    """By what other module, or what in it, a module is stood in for."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._code: dict[str, CodeType] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where a module of ours is; None for all others."""
        del path, target
        if not name.startswith("sampan."):
            return None if name in _PLAIN else _spec(name, self)
        place = f"{self._directory}/{name.replace('.', '/')}"
        above, _, leaf = place.rpartition("/")
        spec = self._spec(name, f"{place}.py", f"{above}/__pycache__/{leaf}{_ENDING}")
        if spec is None:
            spec = self._spec(name, f"{place}/__init__.py", f"{place}/__pycache__/__init__{_ENDING}")
            if spec is not None:
                spec.submodule_search_locations = [place]
        return spec

    def _spec(self, name: str, source: str, compiled: str) -> ModuleSpec | None:
        try:
            facts = os.stat(source)
            fd = os.open(compiled, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            data = os.read(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)
        # The format of PEP 552: a magic number, flags, the source's time and size.
        stamp = int(facts.st_mtime).to_bytes(4, "little") + (facts.st_size & 0xFFFFFFFF).to_bytes(4, "little")
        if data[4:_HEADER_BYTES] != b"\0\0\0\0" + stamp:
            return None
        self._code[name] = marshal.loads(memoryview(data)[_HEADER_BYTES:])  # noqa: S302  # what an import reads
        return _spec(name, self, source)

    def create_module(self, spec: ModuleSpec) -> Any:
        """Return a stand-in, or another module as it is; leave a module of ours to the interpreter."""
        if spec.name in self._code:
            return None
        if spec.name not in self.STAND_INS:
            return self._genuine(spec.name)
        name, within = self.STAND_INS[spec.name]
        __import__(name)
        return getattr(sys.modules[name], within) if within else sys.modules[name]

    def _genuine(self, name: str) -> ModuleType:
        """Import a module that knows nothing of stand-ins, and whatever it needs, as if there were none."""
        standing_in = {other: sys.modules.pop(other) for other in self.STAND_INS if other in sys.modules}
        sys.meta_path.remove(self)
        try:
            __import__(name)
            return sys.modules.pop(name)
        finally:
            sys.meta_path.insert(0, self)
            sys.modules.update(standing_in)

    def exec_module(self, module: ModuleType) -> None:
        """Execute a module of ours."""
        if module.__name__ not in self._code:
            return
        module.__file__ = module.__spec__.origin if module.__spec__ else None
        exec(self._code.pop(module.__name__), module.__dict__)  # noqa: S102  # an import is that
