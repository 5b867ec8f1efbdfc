"""What stands still at a named step: executed as its `sitecustomize` by keeper and server of a `Stepped` instance.

It wraps the functions that are steps when their modules are imported. Server, keeper, shims, launchers and what becomes
a container's first process share a piece of memory, in which a test says at which points whoever comes there waits.
Between the root's change and the program's execution nothing can be imported or opened; this does neither.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
from importlib.machinery import PathFinder

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES, MEMORY = "steps.txt", "memory"
# Words of the memory: two traps, each a point's number plus one and whether somebody waits there; then, for each point,
# how often it was passed. A step has two points: before and after.
TRAPS = (0, 2)
COUNTS = 4
_memory: memoryview


def pass_by(point: int) -> None:
    """Count it, and wait where the test wants that."""
    _memory[COUNTS + point] += 1
    for trap in TRAPS:
        if _memory[trap] == point + 1:
            _memory[trap] = 0
            _memory[trap + 1] = 1
            while _memory[trap + 1]:
                time.sleep(0.001)


def wrap(function, numbers: dict[str, int]):
    """Return a function that passes a point before and one after. `numbers` is by what is done, "" without a choice."""

    def number(args) -> int | None:
        if "" in numbers:
            return numbers[""]
        for arg in args:
            kind = type(getattr(arg, "message", arg)).__name__
            if kind in numbers:
                return numbers[kind]
        return None

    def step(*args, **kwargs):
        found = number(args)
        if found is None:
            return function(*args, **kwargs)
        pass_by(2 * found)
        result = function(*args, **kwargs)
        pass_by(2 * found + 1)
        return result

    return step


def wrap_all(module, names: dict[str, dict[str, int]]) -> None:
    for path, numbers in names.items():
        *owners, name = path.split(".")
        owner = module
        for each in owners:
            owner = getattr(owner, each)
        found = vars(owner)[name]
        if isinstance(found, property):
            setattr(owner, name, property(wrap(found.fget, numbers)))
        elif isinstance(found, staticmethod | classmethod):
            setattr(owner, name, type(found)(wrap(found.__func__, numbers)))
        else:
            setattr(owner, name, wrap(found, numbers))


class Finder:
    """Finds the modules that have steps as they are found anyway, and wraps those once the modules are executed."""

    def __init__(self, modules: dict[str, dict[str, dict[str, int]]]) -> None:
        self._modules = modules

    def find_spec(self, name, path=None, target=None):
        names = self._modules.get(name)
        spec = PathFinder.find_spec(name, path, target) if names else None
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module) -> None:
            execute(module)
            wrap_all(module, names)

        spec.loader.exec_module = exec_module
        return spec


def begin() -> None:
    global _memory
    modules: dict[str, dict[str, dict[str, int]]] = {}
    with open(f"{HERE}/{NAMES}") as file:
        for number, line in enumerate(file):
            module, path, kind = line.rstrip("\n").split(" ")
            modules.setdefault(module, {}).setdefault(path, {})[kind] = number
    with open(f"{HERE}/{MEMORY}", "r+b") as file:
        _memory = memoryview(mmap.mmap(file.fileno(), 0)).cast("I")
    sys.meta_path.insert(0, Finder(modules))


if any("sampan.supervise." in arg or "sampan.api.server" in arg for arg in sys.orig_argv):
    begin()
