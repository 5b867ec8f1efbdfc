"""The kernel steps of which containers are made, as data, in the man pages' words.

An operation is computed by `plan.py` and performed by `perform.py`. It can say itself in three ways: a sentence, the
line of shell that does the same by hand, and the manual page. That is all that `--explain` is.
"""

from __future__ import annotations

from sampan.runtime.ops.base import ns_options
from sampan.runtime.ops.cgroups import (
    DelegateControllers,
    EnterCgroup,
    FilterDevices,
    GrantRealtime,
    InheritCpuset,
    JoinResctrl,
    MakeCgroup,
    MoveIntoCgroup,
    OwnCgroup,
    WriteCgroup,
)
from sampan.runtime.ops.filesystem import (
    AttachOverlay,
    Bind,
    BindRoot,
    Borrow,
    MakeDirectory,
    MakeLink,
    MakeNode,
    MakeReadOnly,
    MapMount,
    Mask,
    Mount,
    MountMapped,
    MountOverlay,
    OpenTree,
    Remount,
    SetPropagation,
)
from sampan.runtime.ops.namespaces import (
    Await,
    BeBornAgain,
    BecomeMappedRoot,
    Clone,
    Join,
    JoinContainer,
    MapIds,
    OffsetClocks,
    OwnStreams,
    Unshare,
)
from sampan.runtime.ops.network import MoveNetDevice
from sampan.runtime.ops.process import (
    BecomeUser,
    BringUpLoopback,
    ChangeDirectory,
    ConnectListener,
    DescribeProcess,
    DropBounding,
    Execute,
    HookStage,
    LookUpUser,
    MakeConsole,
    NewKeyring,
    PivotRoot,
    Reap,
    RunHooks,
    SetCapabilities,
    SetDomainname,
    SetFilter,
    SetHostname,
    SetLabel,
    SetNoNewPrivileges,
    SetOomScoreAdj,
    SetRlimit,
    SetSysctl,
    SetUmask,
)
from sampan.runtime.ops.scheduling import (
    SetAffinity,
    SetIoPriority,
    SetMemoryPolicy,
    SetPersonality,
    SetScheduler,
)
from sampan.spec.operation import Operation

Outside = (
    MakeCgroup | DelegateControllers | InheritCpuset | GrantRealtime | WriteCgroup | FilterDevices | EnterCgroup
    | Join | JoinContainer | OffsetClocks | Clone | MapIds | MountOverlay | MapMount | MountMapped | OpenTree | Await
    | RunHooks | ConnectListener | MoveNetDevice | OwnCgroup | JoinResctrl | OwnStreams
)  # fmt: skip
"""What the shim performs, around the birth of the process."""

Becoming = (
    ChangeDirectory | SetUmask | SetRlimit | DropBounding | BecomeUser | SetNoNewPrivileges | SetCapabilities
    | SetFilter | Reap | RunHooks | Execute
)  # fmt: skip
"""What is left when the root has changed: the process gives up its own rights."""

Scheduling = SetAffinity | SetIoPriority | SetMemoryPolicy | SetPersonality | SetScheduler
"""What is set rarely."""

Inside = (
    Await | MoveIntoCgroup | BecomeMappedRoot | BeBornAgain | Unshare | Join | JoinContainer
    | SetPropagation | MountOverlay | AttachOverlay | BindRoot | Mount | Remount | OpenTree | Borrow | Bind
    | MakeDirectory | MakeNode | MakeLink | Mask | MakeReadOnly | MakeConsole
    | SetHostname | SetDomainname | BringUpLoopback | SetSysctl | SetOomScoreAdj | NewKeyring | SetLabel
    | LookUpUser | DescribeProcess | PivotRoot | Becoming | Scheduling
)  # fmt: skip
"""What the new process performs, until it becomes the program."""

__all__ = [
    "AttachOverlay",
    "Await",
    "BeBornAgain",
    "BecomeMappedRoot",
    "BecomeUser",
    "Becoming",
    "Bind",
    "BindRoot",
    "Borrow",
    "BringUpLoopback",
    "ChangeDirectory",
    "Clone",
    "ConnectListener",
    "DelegateControllers",
    "DescribeProcess",
    "DropBounding",
    "EnterCgroup",
    "Execute",
    "FilterDevices",
    "GrantRealtime",
    "HookStage",
    "InheritCpuset",
    "Inside",
    "Join",
    "JoinContainer",
    "JoinResctrl",
    "LookUpUser",
    "MakeCgroup",
    "MakeConsole",
    "MakeDirectory",
    "MakeLink",
    "MakeNode",
    "MakeReadOnly",
    "MapIds",
    "MapMount",
    "Mask",
    "Mount",
    "MountMapped",
    "MountOverlay",
    "MoveIntoCgroup",
    "MoveNetDevice",
    "NewKeyring",
    "OffsetClocks",
    "OpenTree",
    "Operation",
    "Outside",
    "OwnCgroup",
    "OwnStreams",
    "PivotRoot",
    "Reap",
    "Remount",
    "RunHooks",
    "Scheduling",
    "SetAffinity",
    "SetCapabilities",
    "SetDomainname",
    "SetFilter",
    "SetHostname",
    "SetIoPriority",
    "SetLabel",
    "SetMemoryPolicy",
    "SetNoNewPrivileges",
    "SetOomScoreAdj",
    "SetPersonality",
    "SetPropagation",
    "SetRlimit",
    "SetScheduler",
    "SetSysctl",
    "SetUmask",
    "Unshare",
    "WriteCgroup",
    "ns_options",
]
