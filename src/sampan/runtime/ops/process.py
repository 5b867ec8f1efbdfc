"""The process: its names, limits and rights, and the program that it becomes."""

from __future__ import annotations

from shlex import join, quote
from typing import ClassVar, Literal

from sampan.runtime.ops.base import inside
from sampan.spec.operation import Operation
from sampan.spec.runtime import ContainerState, Hook


class SetHostname(Operation, frozen=True, tag="set-hostname"):
    """Set the host name of the uts namespace."""

    man: ClassVar[str] = "sethostname(2)"
    name: str

    def say(self) -> str:
        return f"set the host name {self.name}"

    def shell(self) -> str:
        return f"echo {quote(self.name)} > /proc/sys/kernel/hostname"


class SetDomainname(Operation, frozen=True, tag="set-domainname"):
    """Set the NIS domain name of the uts namespace."""

    man: ClassVar[str] = "setdomainname(2)"
    name: str

    def say(self) -> str:
        return f"set the domain name {self.name}"

    def shell(self) -> str:
        return f"echo {quote(self.name)} > /proc/sys/kernel/domainname"


class BringUpLoopback(Operation, frozen=True, tag="bring-up-loopback"):
    """A new network namespace has 127.0.0.1 only after this."""

    man: ClassVar[str] = "netdevice(7)"

    def say(self) -> str:
        return "bring the loopback interface up"

    def shell(self) -> str:
        return "ip link set lo up"


class SetSysctl(Operation, frozen=True, tag="set-sysctl"):
    """Set a kernel parameter of the container's namespaces."""

    man: ClassVar[str] = "proc_sys(5)"
    key: str
    value: str

    @property
    def file(self) -> str:
        """The file's path below /proc; a slash in a key stands for a dot in a file's name."""
        return "sys/" + self.key.translate(str.maketrans("./", "/."))

    def say(self) -> str:
        return f"set the kernel parameter {self.key} to {self.value!r}"

    def shell(self) -> str:
        return f"echo {quote(self.value)} > {inside('/proc/' + self.file)}"


class SetOomScoreAdj(Operation, frozen=True, tag="set-oom-score-adj"):
    """Say how soon the kernel kills the process where memory runs out."""

    man: ClassVar[str] = "proc_pid_oom_score_adj(5)"
    value: int

    def say(self) -> str:
        return f"set the process's oom_score_adj to {self.value}"

    def shell(self) -> str:
        return f"echo {self.value} > /proc/self/oom_score_adj"


class SetRlimit(Operation, frozen=True, tag="set-rlimit"):
    """Set one resource limit; None is unlimited."""

    man: ClassVar[str] = "setrlimit(2)"
    resource: str  # RLIMIT_NOFILE
    soft: int | None
    hard: int | None

    def _numbers(self) -> str:
        return ":".join("unlimited" if n is None else str(n) for n in (self.soft, self.hard))

    def say(self) -> str:
        return f"limit {self.resource} to {self._numbers()}"

    def shell(self) -> str:
        return f"prlimit --pid $$ --{self.resource.removeprefix('RLIMIT_').lower()}={self._numbers()}"


class NewKeyring(Operation, frozen=True, tag="new-keyring"):
    """Leave the host user's session keyring for a new one."""

    man: ClassVar[str] = "session-keyring(7)"
    name: str

    def say(self) -> str:
        return "join a new session keyring"

    def shell(self) -> str:
        return f"keyctl session {quote(self.name)}"


class SetLabel(Operation, frozen=True, tag="set-label"):
    """Say which profile of a security module the program is to run under."""

    man: ClassVar[str] = "proc_pid_attr(5)"
    module: str  # apparmor, selinux
    label: str

    def say(self) -> str:
        return f"run the program under {self.module}'s {self.label}"

    def shell(self) -> str:
        if self.module == "apparmor":
            return f"echo 'exec {self.label}' > /proc/self/attr/apparmor/exec"
        return f"echo {quote(self.label)} > /proc/self/attr/exec"


class MakeConsole(Operation, frozen=True, tag="make-console"):
    """Make a terminal in the container's devpts, bind it on /dev/console, and hand its master to the shim."""

    man: ClassVar[str] = "pty(7)"
    bind: bool = True

    def say(self) -> str:
        return "make a terminal" + (" and bind it on /dev/console" if self.bind else "")

    def shell(self) -> str:
        return f"# by hand: script(1) or socat(1) make the terminal;  mount --bind /dev/pts/0 {inside('/dev/console')}"


class LookUpUser(Operation, frozen=True, tag="look-up-user"):
    """Find ids, groups and home directory in the container's own /etc/passwd and /etc/group."""

    man: ClassVar[str] = "passwd(5), group(5)"
    user: str  # name[:group] or uid[:gid]; empty: uid and gid as given
    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    group_add: tuple[str, ...] = ()

    def say(self) -> str:
        more = f", in group {', '.join(self.group_add)} too," if self.group_add else ""
        return f"look up user {self.user or f'{self.uid}:{self.gid}'}{more} in the container's passwd and group"

    def shell(self) -> str:
        name = quote(self.user.partition(":")[0] or str(self.uid))
        return f"awk -F: -v u={name} '$1 == u || $3 == u' {inside('/etc/passwd')}"


class PivotRoot(Operation, frozen=True, tag="pivot-root"):
    """Make the container's root the root, and let go of the old one: nothing of the host can be named any more."""

    man: ClassVar[str] = "pivot_root(2)"
    path: str

    def say(self) -> str:
        return f"make {self.path} the root and detach the old one"

    def shell(self) -> str:
        return 'cd "$root" && pivot_root . . && umount --lazy .'


class ChangeDirectory(Operation, frozen=True, tag="change-directory"):
    """Change to the program's working directory, which must be inside the new root. CVE-2024-21626."""

    man: ClassVar[str] = "chdir(2)"
    path: str

    def say(self) -> str:
        return f"change to the directory {self.path}"

    def shell(self) -> str:
        return f"cd {quote(self.path)}"


class SetUmask(Operation, frozen=True, tag="set-umask"):
    """Set which permissions new files do not get."""

    man: ClassVar[str] = "umask(2)"
    mask: int

    def say(self) -> str:
        return f"set the umask {self.mask:04o}"

    def shell(self) -> str:
        return f"umask {self.mask:04o}"


class DropBounding(Operation, frozen=True, tag="drop-bounding"):
    """Take all other capabilities out of the bounding set: no set-id program brings them back."""

    man: ClassVar[str] = "capabilities(7)"
    keep: tuple[str, ...] = ()

    def say(self) -> str:
        return f"drop all but {len(self.keep)} capabilities from the bounding set"

    def shell(self) -> str:
        return f"setpriv --bounding-set {_setpriv(self.keep)}"


class BecomeUser(Operation, frozen=True, tag="become-user"):
    """Take the groups, group id and user id that were looked up; capabilities are kept until they are set."""

    man: ClassVar[str] = "setresuid(2), setgroups(2)"

    def say(self) -> str:
        return "become the user that was looked up"

    def shell(self) -> str:
        return "setpriv --reuid $uid --regid $gid --groups $groups"


class SetCapabilities(Operation, frozen=True, tag="set-capabilities"):
    """Set the other four sets."""

    man: ClassVar[str] = "capabilities(7)"
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()
    until_filtered: bool = False  # CAP_SYS_ADMIN stays until the filter is set, which needs it; seccomp(2)

    def say(self) -> str:
        text = f"keep {len(self.permitted)} capabilities"
        return text + (", and CAP_SYS_ADMIN until the filter is set" if self.until_filtered else "")

    def shell(self) -> str:
        return f"setpriv --inh-caps {_setpriv(self.inheritable)} --ambient-caps {_setpriv(self.ambient)}"


def _setpriv(names: tuple[str, ...]) -> str:
    return ",".join(("-all", *(f"+{n.removeprefix('CAP_').lower()}" for n in names)))


class SetNoNewPrivileges(Operation, frozen=True, tag="set-no-new-privileges"):
    """No program that is executed from here on gains rights by set-id bits or file capabilities."""

    man: ClassVar[str] = "PR_SET_NO_NEW_PRIVS(2const)"

    def say(self) -> str:
        return "gain no new privileges from here on"

    def shell(self) -> str:
        return "setpriv --no-new-privs"


class SetFilter(Operation, frozen=True, tag="set-filter"):
    """Let the kernel refuse all system calls that the profile doesn't allow."""

    man: ClassVar[str] = "seccomp(2)"
    profile: str  # "default", the path of a compiled filter, or "spec": `document` is compiled
    variant: str = ""  # of the default profile: it allows more to those who have more capabilities
    document: bytes = b""
    flags: tuple[str, ...] = ()
    notifies: bool = False  # a listener, that another process answers some calls by

    def say(self) -> str:
        name = {"default": "the default profile", "spec": "the configuration's profile"}.get(self.profile, self.profile)
        return f"filter system calls by {name}"

    def shell(self) -> str:
        return "# no tool does this: seccomp(SECCOMP_SET_MODE_FILTER, 0, program)"


class ConnectListener(Operation, frozen=True, tag="connect-listener"):
    """Connect to the program that is to answer the calls which the filter asks about."""

    man: ClassVar[str] = "seccomp_unotify(2)"
    path: str

    def say(self) -> str:
        return f"connect to the seccomp agent at {self.path}"

    def shell(self) -> str:
        return "# no tool does this"


class DescribeProcess(Operation, frozen=True, tag="describe-process"):
    """Write down what the agent is told of the process, which only here can see its number on the host."""

    man: ClassVar[str] = "OCI runtime specification: config-linux, The Container Process State"
    state: ContainerState
    metadata: str = ""

    def say(self) -> str:
        return "write down what the seccomp agent is told"

    def shell(self) -> str:
        return "# no tool does this"


class Reap(Operation, frozen=True, tag="reap"):
    """Stay as process 1 that passes signals on and reaps, and run the program as its child."""

    man: ClassVar[str] = "pid_namespaces(7)"

    def say(self) -> str:
        return "stay as the reaper, and run the program as a child"

    def shell(self) -> str:
        return "# tini -- …"


HookStage = Literal["prestart", "createRuntime", "createContainer", "startContainer"]
"""The points whose hooks are part of a plan; those of poststart and poststop are the caller's to run."""


class RunHooks(Operation, frozen=True, tag="run-hooks"):
    """Run the configuration's hooks of one point of the container's life; the first that fails ends it."""

    man: ClassVar[str] = "OCI runtime specification: config, POSIX-platform Hooks"
    stage: HookStage
    hooks: tuple[Hook, ...]
    state: ContainerState

    def say(self) -> str:
        return f"run the {self.stage} hooks"

    def shell(self) -> str:
        return "\n".join(_hook(hook) for hook in self.hooks)


def _hook(hook: Hook) -> str:
    timeout = f"timeout -s KILL {hook.timeout} " if hook.timeout else ""
    return f'echo "$state" | {timeout}env -i {join((*hook.env, hook.path, *hook.args[1:]))}'


class Execute(Operation, frozen=True, tag="execute"):
    """Become the container's program."""

    man: ClassVar[str] = "execve(2)"
    args: tuple[str, ...]
    env: tuple[str, ...] = ()

    def say(self) -> str:
        return f"execute {join(self.args)}"

    def shell(self) -> str:
        return f"exec env -i {join(self.env)} {join(self.args)}" if self.env else f"exec env -i {join(self.args)}"
