"""Makes a seccomp filter smaller and faster without changing what it says.

libseccomp compares a call's number with one number after another, or searches a tree of all of them. But neighbours
mostly have the same answer. So the program is asked, for each architecture and number, what is left of it (an answer,
or a few tests of arguments); equal neighbours become one range; the ranges become a search tree. The default profile
shrinks from 1,300 instructions to 400. Installing it is part of every start, and takes the kernel half the time:
it tries a filter with each number, and compiles it.

A program is a tree of `Test` and answers here. Seccomp's programs have no loops, so nothing else is needed.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from sampan.errors import Failed

_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_EQUAL, _GREATER, _GREATER_EQUAL = 0x15, 0x25, 0x35
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data; those of arguments follow
_ALL = 0xFFFFFFFF
_FURTHEST = 255  # of a conditional jump


class Value(NamedTuple):
    """A word of struct seccomp_data, of which some bits are looked at."""

    offset: int
    mask: int = _ALL


class Test(NamedTuple):
    """A comparison, and what follows where it holds and where not: an answer (a number) or another test."""

    value: Value
    operator: int
    operand: int
    then: Test | int
    otherwise: Test | int


Tree = Test | int
_Instruction = tuple[int, int, int, int]


def optimise(bpf: bytes, order: str) -> bytes:
    """Return a filter that answers every call as `bpf` does; `order` is struct's letter for the target's byte order."""
    program = list(struct.iter_unpack(f"{order}HBBI", bpf))
    tree: Tree = _by_number(program, _other_than(_operands(program, _ARCHITECTURE)))
    for architecture in sorted(_operands(program, _ARCHITECTURE), reverse=True):
        tree = _test(Value(_ARCHITECTURE), _EQUAL, architecture, _by_number(program, architecture), tree)
    return b"".join(struct.pack(f"{order}HBBI", *instruction) for instruction in _Writer().write(tree))


def _operands(program: list[_Instruction], offset: int) -> set[int]:
    """List what the word at `offset` is compared with: each load's comparisons, up to the next load."""
    found: set[int] = set()
    loaded: dict[int, set[int]] = {0: set()}  # at an instruction: which words the accumulator may hold
    for at, (code, jt, jf, k) in enumerate(program):
        held = loaded.get(at, set())
        if code == _LOAD:
            held = {k}
        elif code in {_EQUAL, _GREATER, _GREATER_EQUAL} and offset in held:
            found.add(k)
        for after in _successors(at, code, jt, jf, k):
            loaded.setdefault(after, set()).update(held)
    return found


def _successors(at: int, code: int, jt: int, jf: int, k: int) -> tuple[int, ...]:
    if code == _RETURN:
        return ()
    if code == _JUMP:
        return (at + 1 + k,)
    return (at + 1 + jt, at + 1 + jf) if code in {_EQUAL, _GREATER, _GREATER_EQUAL} else (at + 1,)


def _other_than(numbers: set[int]) -> int:
    return next(n for n in range(len(numbers) + 1) if n not in numbers)


def _by_number(program: list[_Instruction], architecture: int) -> Tree:
    """Make the search tree of one architecture."""
    # Between these points no comparison of the number changes its outcome; masks may fold one quarter onto another.
    quarters = [q << 30 for q in range(4)]
    operands = _operands(program, _NUMBER)
    points = sorted({
        point
        for q in quarters
        for operand in (0, *operands)
        for point in ((operand & 0x3FFFFFFF) | q, ((operand & 0x3FFFFFFF) | q) + 1)
        if point <= _ALL
    })  # fmt: skip
    ranges: list[tuple[int, Tree]] = []
    for point in points:
        left = _specialised(program, architecture, point)
        if not ranges or ranges[-1][1] != left:
            ranges.append((point, left))
    return _search(ranges)


def _search(ranges: list[tuple[int, Tree]]) -> Tree:
    if len(ranges) == 1:
        return ranges[0][1]
    if len(ranges) == 3 and ranges[0][1] == ranges[2][1] and ranges[2][0] == ranges[1][0] + 1:
        return _test(Value(_NUMBER), _EQUAL, ranges[1][0], ranges[1][1], ranges[0][1])  # one number stands out
    middle = len(ranges) // 2
    return _test(Value(_NUMBER), _GREATER_EQUAL, ranges[middle][0], _search(ranges[middle:]), _search(ranges[:middle]))


def _test(value: Value, operator: int, operand: int, then: Tree, otherwise: Tree) -> Tree:
    return then if then == otherwise else Test(value, operator, operand, then, otherwise)


def _specialised(program: list[_Instruction], architecture: int, number: int) -> Tree:
    """Run the program with these two known, as far as that leads: the rest are tests of arguments."""
    known = {_NUMBER: number, _ARCHITECTURE: architecture}

    def follow(at: int, held: int | Value) -> Tree:
        while True:
            code, jt, jf, k = program[at]
            at += 1
            if code == _RETURN:
                return k
            if code == _JUMP:
                at += k
            elif code == _LOAD:
                held = known.get(k, Value(k))
            elif code == _AND:
                held = held & k if isinstance(held, int) else Value(held.offset, held.mask & k)
            elif code not in {_EQUAL, _GREATER, _GREATER_EQUAL}:
                raise Failed(f"can't read a seccomp filter: unexpected instruction {code:#x}")
            elif isinstance(held, int):
                at += jt if _holds(code, held, k) else jf
            else:
                return _test(held, code, k, follow(at + jt, held), follow(at + jf, held))

    return follow(0, 0)


def _holds(operator: int, value: int, operand: int) -> bool:
    if operator == _EQUAL:
        return value == operand
    return value > operand if operator == _GREATER else value >= operand


class _Writer:
    """Writes a tree from its end to its beginning, because jumps lead forward: what is jumped to is written first."""

    def __init__(self) -> None:
        self.backward: list[_Instruction] = []
        self.places: dict[tuple[Tree, Value | None], int] = {}  # what begins where, counted from the end

    def write(self, tree: Tree) -> list[_Instruction]:
        """Return the program of a tree."""
        self._place(tree, None)
        return self.backward[::-1]

    def _place(self, tree: Tree, held: Value | None) -> None:
        """Write a tree, if it isn't there, for an accumulator that holds `held`."""
        key = _key(tree, held)
        if key in self.places:
            return
        if isinstance(tree, int):
            self.backward.append((_RETURN, 0, 0, tree))
        else:
            self._place(tree.otherwise, tree.value)
            self._place(tree.then, tree.value)
            self._jump(tree)
            if tree.value != held:
                if tree.value.mask != _ALL:
                    self.backward.append((_AND, 0, 0, tree.value.mask))
                self.backward.append((_LOAD, 0, 0, tree.value.offset))
        self.places[key] = len(self.backward)

    def _jump(self, test: Test) -> None:
        """Write the comparison itself. A goal that is too far is answered anew, or jumped to by a long jump."""
        for goal in (test.otherwise, test.then, test.otherwise):
            key = _key(goal, test.value)
            if len(self.backward) - self.places[key] > _FURTHEST - 2:
                far = len(self.backward) - self.places[key]
                self.backward.append((_RETURN, 0, 0, goal) if isinstance(goal, int) else (_JUMP, 0, 0, far))
                self.places[key] = len(self.backward)
        then, otherwise = (
            len(self.backward) - self.places[_key(goal, test.value)] for goal in (test.then, test.otherwise)
        )
        self.backward.append((test.operator, then, otherwise, test.operand))


def _key(tree: Tree, held: Value | None) -> tuple[Tree, Value | None]:
    """Name a piece of program: what the accumulator holds before it matters only where that is looked at first."""
    return tree, held if isinstance(tree, Test) and tree.value == held else None
