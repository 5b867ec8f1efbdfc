"""The named steps of engine, keeper, shim, perform and network, and an instance that can be made to wait at one.

A step is a function that does something which outlives its process, or tells another: files, rows, control groups,
processes, messages. They are found in the source, so that a new one has a name at once. Where a function does what the
type of its argument says (an operation, a message), each of those is a step.
"""

from __future__ import annotations

import ast
import itertools
import mmap
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, cast

import sampan
from support import injected
from support.sampan import Sampan

SOURCE = Path(sampan.__file__).parent
SCOPE = {
    "engine": ("*.py",),
    "supervise": ("*.py", "messages/framing.py"),
    "runtime": ("perform.py", "container.py", "control.py"),
    "network": ("perform.py", "firewall.py", "firewall_perform.py"),
    "rootfs": ("snapshots.py",),
}
CALLS = {
    "os": frozenset({
        "chmod", "chown", "copy_file_range", "execve", "fchmod", "fchown", "fork", "fsync", "ftruncate", "kill", "link",
        "makedirs", "mkdir", "mknod", "posix_spawn", "rename", "replace", "rmdir", "sendfile", "setxattr", "symlink",
        "truncate", "unlink", "waitid", "waitpid", "write",
    }),
    "cgroupfs": frozenset({"add_process", "make", "remove", "write"}),
    "socket": frozenset({"send_fds"}),
    "": frozenset({"clone", "remove_tree"}),
}  # fmt: skip
"""Functions by module, "" for those that are imported by name, too."""
METHODS = frozenset({
    "_run", "_transaction", "ask", "batch", "bind", "clone", "commit", "pidfd_send_signal", "post", "remove_tree",
    "send", "sendall", "sendmsg",
})  # fmt: skip


Where = Literal["before", "after"]
WHERE: tuple[Where, Where] = ("before", "after")
Point = tuple[str, Where]
"""A step's name, and before or after it. An after is not passed where the step raises."""


IMAGES = "images come and go under faults in test_registry_faults, test_image_interrupted and test_pull_resume"
BUILDS = "builds are killed in test_build_api"
PACKETS = "passes on what others send, and keeps nothing"
RUNTIME = "only sampan-runtime's configurations ask for it: test_oci_conformance and its neighbours"
KERNEL = "the kernel of the tests may lack it"
EXEMPT = {
    "engine.apparmor.": KERNEL,
    "engine.attaching.send": PACKETS,
    "engine.copying._out_of_store": IMAGES,
    "engine.health_files._replace": "a file of the user's, written anew after each check",
    "engine.journal.": PACKETS,
    "engine.keeper.restart_server": "a newer command line asks for it: test_install",
    "engine.lending.Lender.hand_over": PACKETS,
    "engine.lists.": IMAGES,
    "engine.mapping.": IMAGES,
    "engine.packing.": IMAGES,
    "engine.opening._perform:SweepCgroup": "what is left when shim and keeper are killed at once",
    "engine.pulling.": IMAGES,
    "engine.pushing.": IMAGES,
    "engine.remains.kill_shims": "of one that does not answer: test_faults_stuck",
    "engine.saving.": IMAGES,
    "engine.seccomp._keep": "once for all containers with a profile",
    "engine.unpacking.": IMAGES,
    "engine.volumes.Volumes.unmake": "an error's, not a verb's",
    "network.perform._Place._step:MakeDummy": KERNEL,
    "network.perform._Place._step:MakeIpvlan": KERNEL,
    "network.perform._Place._step:MakeMacvlan": KERNEL,
    "network.perform._Place._step:MakeVlan": KERNEL,
    "runtime.container._too_early": "an error's, not a verb's",
    "runtime.perform._be_born_again": RUNTIME,
    "runtime.perform._delegate": RUNTIME,
    "runtime.perform._own": RUNTIME,
    "supervise.archiving._Unpacker._link": "as other entries of an archive",
    "supervise.attach.Client._flush": PACKETS,
    "supervise.building.": BUILDS,
    "supervise.composing.settle": IMAGES,
    "supervise.composing.squash": BUILDS,
    "supervise.conversation.": PACKETS,
    "supervise.forwarding.": PACKETS,
    "supervise.link.": PACKETS,
    "supervise.keeper.Keeper._asked:Restart": "a newer command line asks for it: test_install",
    "supervise.local_file.LocalFile._mend": "of a record that was cut off: test_log_drivers",
    "supervise.logsender.": PACKETS,
    "supervise.names.NameServer._asked": PACKETS,
    "supervise.origin._enter": "of the first keeper, before there is anybody: test_supervise_keeper",
    "supervise.origin.listen": "of the first keeper, before there is anybody: test_supervise_keeper",
    "supervise.parking.": IMAGES,
    "supervise.relay.": PACKETS,
    "supervise.shim.Shim._answer:Launch": "refused always",
    "supervise.shim.Shim._answer:Resize": PACKETS,
    "supervise.stderr.": PACKETS,
    "supervise.worker._do:RunHooks": "of CDI devices: their tests",
    "supervise.worker._map": IMAGES,
    "supervise.worker._unpack_patiently": IMAGES,
    **{f"supervise.worker._do:{name}": BUILDS for name in (
        "CompareLayers", "FetchFiles", "FindSecrets", "LayFiles", "SelectFiles", "Squash",
    )},
    **{f"supervise.worker._do:{name}": IMAGES for name in ("Map", "Pack", "Remove", "Settle", "Unpack")},
    **{f"runtime.perform.outside:{name}": RUNTIME for name in (
        "ConnectListener", "DelegateControllers", "JoinResctrl", "MapIds", "MoveNetDevice", "OffsetClocks", "OpenTree",
        "OwnCgroup", "RunHooks",
    )},
    **{f"runtime.perform.inside:{name}": RUNTIME for name in (
        "BeBornAgain", "BindRoot", "DescribeProcess", "OpenTree", "Remount", "SetAffinity", "SetIoPriority",
        "SetMemoryPolicy", "SetPersonality", "SetScheduler",
    )},
    "runtime.perform.outside:GrantRealtime": KERNEL,
    "runtime.perform.outside:MountMapped": "takes a device, and leaves what MapMount does: test_user_namespaces",
    "runtime.perform.inside:SetLabel": KERNEL,
    "runtime.perform._become:RunHooks": RUNTIME,
    "runtime.perform.outside:EnterCgroup": "cgroup v2, and what comes without namespaces",
    "runtime.perform._enter_cgroup": "cgroup v2, and what comes without namespaces",
    "runtime.perform.outside:FilterDevices": "cgroup v2",
}  # fmt: skip
"""Steps, by how their names begin, that no verb of one container passes here, and why."""

TABLE = Path(__file__).with_name("steps.txt")
"""What the scenarios of test_faults_steps pass, recorded by tools/fault_steps.py: `before|after STEP: SCENARIO; …`."""


class Step(NamedTuple):
    """One of them. `kind` is the operation or message where the function has one for each."""

    module: str
    function: str
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.module.removeprefix('sampan.')}.{self.function}" + (f":{self.kind}" if self.kind else "")


def exempt(name: str) -> bool:
    return name.startswith(tuple(EXEMPT))


def table() -> dict[Point, list[str]]:
    """Return which scenarios pass a point."""
    found = {}
    for line in TABLE.read_text().splitlines():
        point, _, scenarios = line.partition(": ")
        where, _, step = point.partition(" ")
        found[step, cast("Where", where)] = scenarios.split("; ")
    return found


def named(name: str) -> Step:
    """Return the step of that name."""
    return next(step for step in steps() if str(step) == name)


@cache
def steps() -> tuple[Step, ...]:
    """Return all that the source has."""
    found: list[Step] = []
    for package, patterns in SCOPE.items():
        for path in sorted({p for pattern in patterns for p in (SOURCE / package).glob(pattern)}):
            tree = ast.parse(path.read_bytes())
            found += _steps_in(tree, ".".join(("sampan", *path.relative_to(SOURCE).with_suffix("").parts)), "")
    return tuple(found)


def _steps_in(node: ast.AST, module: str, prefix: str) -> Iterator[Step]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _steps_in(child, module, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            name = f"{prefix}{child.name}"
            kinds = sorted(_kinds(child))
            if kinds:
                yield from (Step(module, name, kind) for kind in kinds)
            elif any(_tells(call) for call in ast.walk(child) if isinstance(call, ast.Call)):
                yield Step(module, name)


def _kinds(function: ast.FunctionDef) -> set[str]:
    """Return the cases of a function that does what the type of an argument says: `case ops.Mount()`."""
    patterns = [node for node in ast.walk(function) if isinstance(node, ast.MatchClass)]
    return {p.cls.attr for p in patterns if isinstance(p.cls, ast.Attribute)} if len(patterns) > 3 else set()


def _tells(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(name):
            return name in CALLS[""] or (name == "open" and _writes(call))
        case ast.Attribute(ast.Name(module), name):
            return name in CALLS.get(module, METHODS) or (module == "os" and name == "open" and _creates(call))
        case ast.Attribute(_, name):
            return name in METHODS
        case _:
            return False


def _writes(call: ast.Call) -> bool:
    mode = call.args[1].value if len(call.args) > 1 and isinstance(call.args[1], ast.Constant) else "r"
    return any(letter in str(mode) for letter in "wax+")


def _creates(call: ast.Call) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == "O_CREAT" for node in ast.walk(call))


class Stepped(Sampan):
    """An instance whose processes can be made to wait at any step."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._here = root.with_name(f"{root.name}-steps")
        self._here.mkdir()
        (self._here / "sampan").symlink_to(SOURCE)  # for this the keeper keeps the variable; supervise/origin.py
        shutil.copyfile(injected.__file__, self._here / "sitecustomize.py")
        lines = [f"{step.module} {step.function} {step.kind}\n" for step in steps()]
        (self._here / injected.NAMES).write_text("".join(lines))
        with (self._here / injected.MEMORY).open("w+b") as file:
            file.truncate(4 * (injected.COUNTS + 2 * len(lines)))
            self._memory = memoryview(mmap.mmap(file.fileno(), 0)).cast("I")
        self.env["PYTHONPATH"] = str(self._here)

    def end(self) -> None:
        self.release(0)
        self.release(1)
        super().end()
        shutil.rmtree(self._here)

    def passed(self) -> list[Point]:
        """Return the points that were passed since `forget`."""
        points = itertools.product(map(str, steps()), WHERE)
        return [point for point, n in zip(points, self._memory[injected.COUNTS :], strict=True) if n]

    def forget(self) -> None:
        for number in range(injected.COUNTS, len(self._memory)):
            self._memory[number] = 0

    def hold_at(self, step: Step, where: Where, trap: int = 0) -> None:
        """Let who comes next before or after a step wait there until `release`."""
        word = injected.TRAPS[trap]
        self._memory[word + 1] = 0
        self._memory[word] = 1 + 2 * steps().index(step) + (where == "after")

    def held(self, trap: int = 0) -> bool:
        return self._memory[injected.TRAPS[trap] + 1] == 1

    def release(self, trap: int = 0) -> None:
        word = injected.TRAPS[trap]
        self._memory[word] = self._memory[word + 1] = 0
