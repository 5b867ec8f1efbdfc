"""A plan in words, as JSON, and as a script that makes the same container by hand.

The words are the operations' own. The script uses `unshare`, `mount`, `mknod` and `echo` up to the change of the root;
after that no tool of the host is left, so its last step is a small Python program that is running already, by_hand.py:
it pivots, gives up capabilities, sets the filter and executes. The script has its own control groups and its own
writable layer, and removes both.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.errors import Unsupported
from sampan.kernel import bpf, credentials
from sampan.runtime import becoming, by_hand, ops
from sampan.runtime.perform import flags_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sampan.runtime.plan import Plan
    from sampan.spec.operation import Operation

Times = "Iterable[tuple[int, int]]"

# Words that the shell's quoting leaves alone, and that become variables in the end.
_NAME = "SAMPAN_BY_HAND"
_PLACE = "SAMPAN_PLACE"


# ------------------------------------------------------------------------------------------------------ words and JSON


def to_text(plan: Plan, steps: Iterable[tuple[int, int]] = ()) -> str:
    """Return the steps as numbered lines: who does what, what it took, the shell line, the manual page."""
    times = dict(steps)
    return "".join(line(plan, n, times.get(n)) for n in range(len(plan.steps)))


def line(plan: Plan, index: int, ns: int | None = None) -> str:
    """Return one step's lines."""
    step = plan.steps[index]
    took = "" if ns is None else f"  {ns / 1e6:.3f} ms"
    said = f"{index + 1:3}. [{step.who:7}] {step.op.say()}  ({step.op.man}){took}\n"
    return said + "".join(f"               $ {text}\n" for text in step.op.shell().split("\n"))


def to_json(plan: Plan, steps: Iterable[tuple[int, int]] = ()) -> dict[str, Any]:
    """Return the steps as objects: who, sentence, shell, man and, where it was performed, ns."""
    times = dict(steps)
    table = [row(step.who, step.op, times.get(index)) for index, step in enumerate(plan.steps)]
    return {"id": plan.id, "steps": table, "warnings": list(plan.warnings)}


def row(who: str, op: Operation, ns: int | None = None) -> dict[str, Any]:
    """Return one step as such an object."""
    said: dict[str, Any] = {"who": who, "sentence": op.say(), "shell": op.shell(), "man": op.man}
    return said if ns is None else {**said, "ns": ns}


# --------------------------------------------------------------------------------------------------------- the script


NETNS = f"/run/netns/{_NAME}"
"""The network namespace of a container that is to be in one which the script makes."""


def to_shell(plan: Plan, files: Mapping[str, str] | None = None, network: str = "") -> str:
    """Return a script for sh(1) that makes the same container; for an exec it takes the container's pid.

    `files` are those that the plan binds and that the script is to bring along: path → text. `network` are the lines
    that make the namespace "$netns", and leave in "$undo" what undoes that.
    """
    _refuse(plan)
    brought = {path: f"/{_PLACE}/{path.rsplit('/', 1)[1]}" for path in files or ()}
    everything = [_renamed(step.op, plan, brought) for step in plan.steps]
    texts = {brought[path]: text for path, text in (files or {}).items()}
    script = "".join(_enter(everything, plan) if not plan.root else _create(everything, plan, texts, network))
    return script.replace(_NAME, "$name").replace(f"/{_PLACE}/", "$place/")


def _refuse(plan: Plan) -> None:
    for step in plan.steps:
        match step.op:
            case (
                ops.MapIds() | ops.MapMount() | ops.MountMapped() | ops.Borrow() | ops.OpenTree() | ops.OffsetClocks()
                | ops.RunHooks() | ops.SetPersonality() | ops.SetMemoryPolicy()
            ):  # fmt: skip
                raise Unsupported(f"can't write it as a script: no tool does this: {step.op.say()}")
            case _:
                pass


def _renamed(op: ops.Operation, plan: Plan, brought: Mapping[str, str]) -> ops.Operation:
    """Give the script control groups and files of its own."""
    new = {**brought, **{directory: _own_group(directory) for _, directory in plan.cgroups}}
    if isinstance(op, ops.MountOverlay) and op.inside:  # what is written goes to a directory of the container's
        own = f"/{plan.id}/"
        new |= {p: f"/{_PLACE}/{p.partition(own)[2]}" for p in (op.upperdir, op.workdir) if own in p}
    fields = ("directory", "source", "cgroup", "upperdir", "workdir")
    renamed = {field: new[value] for field in fields if (value := getattr(op, field, None)) in new}
    return msgspec.structs.replace(op, **renamed) if renamed else op


def _own_group(directory: str) -> str:
    """Name a group beside the instance's: /sys/fs/cgroup/memory/sampan-x/id → /sys/fs/cgroup/memory/NAME."""
    return f"{directory.rsplit('/', 2)[0]}/{_NAME}"


def _create(everything: list[ops.Operation], plan: Plan, texts: Mapping[str, str], network: str) -> Iterator[str]:
    groups = [_own_group(d) for _, d in plan.cgroups]
    undo = 'eval "$undo"; ' if network else ""
    yield _head(plan, "")
    yield (
        "name=sampan-by-hand-$$\n"
        "place=$(mktemp -d)\n"
        'mkdir "$place/root" "$place/upper" "$place/work"\n'
        'root="$place/root"; export place root ROOT="$root" upper="$place/upper" work="$place/work"\n'
        "export LIBMOUNT_FORCE_MOUNT2=always\n"
    )
    yield from (f"cat > {path} <<'END_OF_FILE'\n{text}END_OF_FILE\n" for path, text in texts.items())
    if len(groups) == 1 and "" in dict(plan.cgroups):
        yield f"export GROUP={groups[0]}\n"
    yield f'clean() {{ rm -rf "$place"; for g in {" ".join(groups)}; do rmdir $g 2>/dev/null || :; done; {undo}}}\n'
    yield "trap clean EXIT; trap 'exit 130' INT TERM\n\n"
    if network:
        yield f"# The network: what it can reach.\nnetns=$name undo=\nexport netns\n{network}\n"
    yield _files(everything)
    yield "\n# Control groups: what the container may use.\n"
    yield from _lines(op for op in everything if isinstance(op, _GROUP) and _is_own(op, groups))
    yield "\n# Namespaces: what it can see. Another sh, so that only what becomes the container is in the groups.\n"
    enter = "".join(f"echo \\$\\$ > {g}/cgroup.procs; " for g in groups)
    yield f'sh -c "{enter}exec {_wrappers(everything)} sh -eu $place/inside"\n'


def _enter(everything: list[ops.Operation], plan: Plan) -> Iterator[str]:
    yield _head(plan, " PID")
    yield 'export PID="$1"\nplace=$(mktemp -d)\ntrap \'rm -rf "$place"\' EXIT\n\n'
    yield _here("last", _last_program())
    yield _here("last.json", json.dumps(_rest(everything), indent=1))
    groups = "".join(f"echo \\$\\$ > {d}/cgroup.procs; " for _, d in plan.cgroups)
    yield f'\nsh -c "{groups}exec python3 -I -S $place/last $place/last.json"\n'


def _head(plan: Plan, arguments: str) -> str:
    return (
        f"#!/bin/sh\n# Makes the container {plan.id} by hand; run it as root: sh SCRIPT{arguments}\n"
        "# Needs util-linux and python3, and what the steps below name.\nset -eu\n"
    )


_GROUP = (ops.MakeCgroup, ops.DelegateControllers, ops.InheritCpuset, ops.WriteCgroup)
_LAST = (
    ops.NewKeyring, ops.SetLabel, ops.LookUpUser, ops.PivotRoot, ops.ChangeDirectory, ops.SetUmask, ops.SetRlimit,
    ops.DropBounding, ops.BecomeUser, ops.SetNoNewPrivileges, ops.SetCapabilities, ops.SetFilter, ops.Reap, ops.Execute,
    ops.FilterDevices,
)  # fmt: skip
"""What the Python program does."""

_AROUND = (*_GROUP, ops.EnterCgroup, ops.MoveIntoCgroup, ops.Clone, ops.Join, ops.JoinContainer, ops.Unshare, ops.Await)
"""What the outer script does, or what needs no doing there."""


def _is_own(op: ops.Operation, groups: list[str]) -> bool:
    """Leave out the instance's own parent group."""
    directory = getattr(op, "directory", "")
    return directory in groups or (isinstance(op, ops.DelegateControllers) and f"{directory}/{_NAME}" in groups)


def _lines(operations: Iterable[ops.Operation]) -> Iterator[str]:
    for op in operations:
        yield f"# {op.say()}: {op.man}\n{op.shell()}\n"


def _wrappers(everything: list[ops.Operation]) -> str:
    """Return the nsenter and unshare that start the inner script in its namespaces."""
    joined = [op for op in everything if isinstance(op, ops.Join)]
    new = [n for op in everything if isinstance(op, ops.Clone | ops.Unshare) for n in op.namespaces]
    words = []
    if joined:
        words += ["nsenter", *(op.shell().removeprefix("nsenter ") for op in joined)]
    words += ["unshare", "--fork", ops.ns_options(tuple(dict.fromkeys(new))), "--propagation unchanged"]
    return " ".join(words)


def _files(everything: list[ops.Operation]) -> str:
    """Write the inner script and the last step into files, so that standard input stays the program's."""
    steps = "".join(_lines(op for op in everything if not isinstance(op, (*_LAST, *_AROUND))))
    last = "\n# The root changes: no tool of the host is left.\nexec python3 -I -S $place/last $place/last.json\n"
    return (
        "# The root filesystem: what it runs from. These steps are taken in the new namespaces.\n"
        + _here("inside", steps + last)
        + "\n# Rights: what it may do.\n"
        + _here("last", _last_program())
        + _here("last.json", json.dumps(_rest(everything), indent=1))
    )


def _here(name: str, text: str) -> str:
    return f"cat > \"$place/{name}\" <<'END-OF-{name.upper()}'\n{text.rstrip()}\nEND-OF-{name.upper()}\n"


def _last_program() -> str:
    with open(by_hand.__file__, encoding="utf-8") as file:
        return file.read()


def _rest(everything: list[ops.Operation]) -> dict[str, Any]:
    """Return what the Python program is to do."""
    rest: dict[str, Any] = {
        "keyring": "sampan-by-hand", "label": None, "devices": "", "enter": 0, "rlimits": [],
        "no_new_privileges": False, "capabilities": [], "filter": "", "reap": False, "bounding": 0,
    }  # fmt: skip
    for op in everything:
        match op:
            case ops.SetLabel(module="apparmor"):
                rest["label"] = ("/proc/self/attr/apparmor/exec", f"exec {op.label}")
            case ops.SetLabel():
                rest["label"] = ("/proc/self/attr/exec", op.label)
            case ops.FilterDevices():
                rules = [bpf.DeviceRule(r.allow, r.type, r.major, r.minor, r.access) for r in op.rules]
                rest["devices"] = base64.b64encode(bpf.device_program(rules)).decode("ascii")
            case ops.JoinContainer():
                rest["enter"] |= int(flags_of(op.namespaces))
            case ops.LookUpUser():
                rest["user"] = msgspec.to_builtins(op) | {
                    "user": op.user, "uid": op.uid, "gid": op.gid,
                    "additional_gids": op.additional_gids, "group_add": op.group_add,
                }  # fmt: skip
            case ops.ChangeDirectory():
                rest["cwd"] = op.path
            case ops.SetUmask():
                rest["umask"] = op.mask
            case ops.SetRlimit():
                rest["rlimits"].append([op.resource, *(-1 if n is None else n for n in (op.soft, op.hard))])
            case ops.DropBounding():
                rest["bounding"] = credentials.mask(op.keep)
            case ops.SetNoNewPrivileges():
                rest["no_new_privileges"] = True
            case ops.SetCapabilities():
                sets = ("effective", "permitted", "inheritable", "ambient")
                rest["capabilities"].append({s: credentials.mask(getattr(op, s)) for s in sets})
            case ops.SetFilter():
                rest["filter"] = base64.b64encode(becoming.read_filter(op)).decode("ascii")
            case ops.Reap():
                rest["reap"] = True
            case ops.Execute():
                rest["args"], rest["env"] = op.args, op.env
            case _:
                pass
    return rest
