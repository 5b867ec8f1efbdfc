"""Check out a git repository, by calling `git`.

As BuildKit does: the one commit that is wanted, without the rest of the history where the server lets one ask for it,
with its submodules. All files get the time of the commit: the same commit, the same layer.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

from sampan.build import remotes
from sampan.build.jobs import Fetched
from sampan.errors import Failed, InvalidInput, NotFound, doing
from sampan.kernel.path import open_in_root
from sampan.kernel.process import set_parent_death_signal
from sampan.kernel.trees import remove_tree

if TYPE_CHECKING:
    from sampan.build.jobs import Fetch
    from sampan.build.remotes import GitReference

_PROTOCOLS = "http:https:ssh:git"
_NOT_FOUND = re.compile(r"couldn't find remote ref|not found|does not exist", re.IGNORECASE)


class Git:
    """Calls git in one directory."""

    def __init__(self, directory: str, agent: str = "") -> None:
        self._directory = directory
        ssh = "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null"
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
            "GIT_SSH_COMMAND": ssh,
            "GIT_LFS_SKIP_SMUDGE": "1",
            **({"SSH_AUTH_SOCK": agent} if agent else {}),
            **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
        }

    def __call__(self, *arguments: str) -> str:
        """Run it; return what it said. Raises Failed with its own words."""
        command = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *arguments)
        try:
            done = subprocess.run(
                command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                umask=0o022,
                preexec_fn=_end_with_parent,
            )
        except FileNotFoundError as e:
            raise NotFound("there is no git on this machine", "install git") from e
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip().splitlines() or [f"git ended with {done.returncode}"]
            fatal = next((line for line in words if line.startswith(("fatal:", "error:"))), words[-1])
            raise Failed(fatal.partition(": ")[2][:300] or fatal[:300])
        return done.stdout.decode(errors="replace")


def checkout(job: Fetch, directory: str) -> Fetched:
    """Check out what `job` asks for into a directory that is there, or only find out which commit it is."""
    reference = remotes.parse_git(job.value)
    if job.checksum:
        reference = reference._replace(checksum=job.checksum.removeprefix("sha1:").removeprefix("sha256:"))
    keep = job.keep_git_dir or reference.keep_git_dir
    with doing(f"can't check out {remotes.shown(job.value)}"):
        if job.resolve:
            commit = reference.commit or _resolved(Git("/", job.agent), reference)
            _check(reference, commit)
            return Fetched(identity=reference.identity(commit, keep_git_dir=keep))
        commit = _check_out(Git(directory, job.agent), reference, directory, keep=keep)
        identity = reference.identity(commit, keep_git_dir=keep)
        return Fetched(identity=identity, directory=_below(directory, reference.directory))


def _check_out(git: Git, reference: GitReference, directory: str, *, keep: bool) -> str:
    git("init", "--quiet", "--initial-branch=master", ".")
    git("remote", "add", "origin", reference.remote)
    wanted = reference.ref or "HEAD"
    try:
        git("fetch", "--quiet", "--depth=1", "--no-tags", "origin", f"+{wanted}")
        wanted = "FETCH_HEAD"
    except Failed:
        if not reference.commit:
            raise
        git("fetch", "--quiet", "--tags", "origin")  # a server that gives no commit that no branch names
    git("checkout", "--quiet", "--force", "--detach", wanted)
    commit = git("rev-parse", "HEAD").strip()
    _check(reference, commit)
    if reference.submodules and os.path.lexists(f"{directory}/.gitmodules"):
        git("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    seconds = int(git("log", "-1", "--format=%ct").strip())
    if not keep:
        _remove_git(directory)
    _set_times(directory, seconds)
    return commit


def _resolved(git: Git, reference: GitReference) -> str:
    """Ask the server which commit a name is; of a tag with a text of its own the commit that it is of."""
    wanted = reference.ref or "HEAD"
    lines = git("ls-remote", reference.remote, wanted, f"{wanted}^{{}}").splitlines()
    found = {name: commit for commit, _, name in (line.partition("\t") for line in lines)}
    for name in (wanted, f"refs/heads/{wanted}", f"refs/tags/{wanted}"):
        commit = found.get(f"{name}^{{}}") or found.get(name)
        if commit:
            return commit
    raise NotFound(f"repository does not contain ref {wanted}")


def _check(reference: GitReference, commit: str) -> None:
    if reference.checksum and not commit.startswith(reference.checksum):
        raise Failed(f"expected checksum to match {reference.checksum[:100]}, got {commit}")


def _remove_git(directory: str) -> None:
    """Take away what git keeps: a directory, or in a submodule a file."""
    for root, directories, files in os.walk(directory):
        if ".git" in directories:
            remove_tree(f"{root}/.git")
            directories.remove(".git")
        elif ".git" in files:
            os.unlink(f"{root}/.git")


def _set_times(directory: str, seconds: int) -> None:
    for root, directories, files in os.walk(directory, topdown=False):
        for name in (*directories, *files):
            os.utime(f"{root}/{name}", (seconds, seconds), follow_symlinks=False)
    os.utime(directory, (seconds, seconds))


def _below(directory: str, path: str) -> str:
    """Return a directory of the repository; its links lead nowhere out of it."""
    if not path:
        return directory
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_in_root(root, path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                raise InvalidInput(f"{path[:300]} is no directory in the repository")
            return os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    finally:
        os.close(root)


def _end_with_parent() -> None:
    set_parent_death_signal(signal.SIGKILL)
