"""Builds: what is asked for, the steps that it comes to, and what is told while it runs. Pure.

Names are BuildKit's and the Dockerfile reference's. A `BuildRequest` is the JSON of `POST /sampan/build`; bytes are in
base64 there. Events are its answer, one JSON object a line, told apart by `event`.
"""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

from sampan.spec.distribution import Platform
from sampan.spec.docker.container import Ulimit
from sampan.spec.docker.image import AuthConfig
from sampan.spec.image import ExecutionConfig

COMMENT = "buildkit.dockerfile.v0"
"""The comment of every history entry that a Dockerfile's instruction makes."""
PIPES = "/dev/pipes"
"""Where a RUN finds its `files`, read-only."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Any object of a request."""


# ----------------------------------------------------------------------------------------------------- the request


class ContextKind(enum.StrEnum):
    """What a build's files come from."""

    DIRECTORY = "directory"  # of this machine, read in place; value: its absolute path
    TAR = "tar"  # value: the path of a file of this machine; "": what comes with the request
    GIT = "git"  # value: as `docker build` takes it, URL#ref:subdirectory
    URL = "url"  # of a tar or of a Dockerfile
    IMAGE = "image"  # value: a reference (docker-image://)
    OCI_LAYOUT = "oci-layout"  # value: path[:tag][@digest]


class ContextSource(Part, frozen=True, kw_only=True):
    """Where the files of a build are. `device` and `inode` are what the client saw at a directory's path.

    An archive's owners are kept, as BuildKit keeps them, unless `keep_owners` is false: the classic builder makes all
    files of a context root's.
    """

    kind: ContextKind
    value: str = ""
    device: int | None = None
    inode: int | None = None
    keep_owners: bool = True


class Secret(Part, frozen=True, kw_only=True):
    """`--secret`."""

    id: str
    value: bytes


class SshAgent(Part, frozen=True, kw_only=True):
    """`--ssh`: the socket of an agent, by its path on this machine."""

    id: str = "default"
    socket: str


class CacheLocation(Part, frozen=True, kw_only=True):
    """One `--cache-from` or `--cache-to`: type registry has `ref`; local has `src` or `dest`, and `tag`; `mode`."""

    type: Literal["registry", "inline", "local"]
    attributes: dict[str, str] = {}


class Output(Part, frozen=True, kw_only=True):
    """One `-o`. What is no image is written by the client, of the image that it is told of when it is built."""

    type: Literal["image", "local", "tar", "oci", "docker", "cacheonly"] = "image"
    attributes: dict[str, str] = {}


class StepLimits(Part, frozen=True, kw_only=True):
    """What each RUN gets of the machine: the classic API's parameters; 0 and "" are no limit."""

    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cgroup_parent: str = ""
    shm_size: int = 0  # bytes
    ulimits: tuple[Ulimit, ...] = ()


class BuildRequest(Part, frozen=True, kw_only=True):
    """One `build`. Of a Dockerfile outside the context comes the text; else it is read from the context."""

    context: ContextSource | None = None  # None: the Dockerfile is all there is
    contexts: dict[str, ContextSource] = {}  # --build-context, by name
    dockerfile: str | None = None  # the text
    dockerfile_name: str = "Dockerfile"  # its path in the context, or what messages call it
    ignore: str | None = None  # the text of a <Dockerfile>.dockerignore outside the context

    target: str = ""
    platforms: tuple[Platform, ...] = ()  # (): this machine's
    args: dict[str, str] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    tags: tuple[str, ...] = ()  # references, as given
    outputs: tuple[Output, ...] = ()  # (): an image in the store
    squash: bool = False
    epoch_s: int | None = None  # SOURCE_DATE_EPOCH

    pull: bool = False
    auths: dict[str, AuthConfig] = {}  # by registry: the header X-Registry-Config
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()  # stages
    cache_from: tuple[CacheLocation, ...] = ()
    cache_to: tuple[CacheLocation, ...] = ()

    network: str = ""  # of RUN: "" and default are the default network, none, host, or a network's name
    add_hosts: tuple[str, ...] = ()  # name:address
    limits: StepLimits = StepLimits()
    secrets: tuple[Secret, ...] = ()
    ssh: tuple[SshAgent, ...] = ()
    allow: tuple[str, ...] = ()  # entitlements: security.insecure, network.host, device

    on_failure: Literal["", "keep"] = ""  # keep: a container of the failed step's files is left
    check: bool = False  # only look the Dockerfile over
    why: bool = False  # say of each step why it was made
    twice: bool = False  # build again without cache, and compare


# ------------------------------------------------------------------------------------------------------- the steps


class Location(msgspec.Struct, frozen=True):
    """Lines of a Dockerfile, the first is 1. `column` is of the first line, 0 where the whole line is meant."""

    line: int
    end_line: int
    column: int = 0


class OriginKind(enum.StrEnum):
    """Where a step's files come from."""

    CONTEXT = "context"
    STAGE = "stage"
    IMAGE = "image"
    NAMED = "named"  # --build-context
    SCRATCH = "scratch"  # nothing


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a FROM, COPY, ADD or mount has its files from. `name` is an image's reference or a key of `contexts`."""

    kind: OriginKind = OriginKind.CONTEXT
    name: str = ""
    stage: int = -1  # index of the stage, counted from 0


class InlineFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file whose text is in the Dockerfile: a heredoc. `mode` is that of a RUN's; a COPY's is 0644 or its --chmod."""

    name: str
    text: str
    mode: int = 0o755


class BindMount(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="bind"):
    """Files of the context, a stage or an image. What is written is gone after the step."""

    target: str  # absolute
    origin: Origin = Origin()
    source: str = "/"
    readonly: bool = True


class CacheMount(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="cache"):
    """A directory that stays from build to build. `origin` None: it begins empty, of `mode`, `uid`, `gid`."""

    target: str
    id: str
    sharing: Literal["shared", "private", "locked"] = "shared"
    origin: Origin | None = None
    source: str = "/"
    readonly: bool = False
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


class TmpfsMount(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tmpfs"):
    """Memory. `size` in bytes; 0: no limit of its own."""

    target: str
    size: int = 0


class SecretMount(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="secret"):
    """A secret as a file, as a variable, or as both."""

    id: str
    target: str = ""  # "": no file
    env: str = ""  # "": no variable
    required: bool = False
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


class SshMount(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="ssh"):
    """The socket of an agent. `target` "" is /run/buildkit/ssh_agent.N; SSH_AUTH_SOCK names the first."""

    id: str = "default"
    target: str = ""
    required: bool = False
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


class Run(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="run"):
    """RUN: a process. Nothing is left to be substituted."""

    argv: tuple[str, ...]  # with the shell
    env: tuple[str, ...] = ()  # whole: the image's, then ARGs
    user: str = ""
    workdir: str = "/"
    mounts: tuple[Mount, ...] = ()
    files: tuple[InlineFile, ...] = ()  # in PIPES
    network: Literal["default", "none", "host"] = "default"
    security: Literal["sandbox", "insecure"] = "sandbox"
    proxy: tuple[str, ...] = ()  # HTTP_PROXY=… and its like: in the environment, not in the cache's key


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """A source of ADD that is elsewhere."""

    kind: Literal["url", "git"]
    value: str


class _Files(msgspec.Struct, frozen=True, kw_only=True, tag_field="op"):
    """What COPY and ADD have in common."""

    destination: str  # absolute; with a slash at its end where it is to be a directory
    origin: Origin = Origin()
    inline: tuple[InlineFile, ...] = ()  # after the sources
    owner: str = ""  # --chown, as it was given: user[:group]; "": 0:0
    mode: str = ""  # --chmod, octal or symbolic; "": as they are
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


class Copy(_Files, frozen=True, kw_only=True, tag_field="op", tag="copy"):
    """COPY."""

    sources: tuple[str, ...] = ()  # patterns, as written


class Add(_Files, frozen=True, kw_only=True, tag_field="op", tag="add"):
    """ADD. Without --unpack, an archive of the context is unpacked and a downloaded one is not."""

    sources: tuple[str | Remote, ...] = ()
    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None


class Workdir(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="workdir"):
    """WORKDIR: make a directory, with those above it, 0755, unless it is there; it is `user`'s, as in BuildKit."""

    path: str  # absolute, clean
    user: str = ""  # of the configuration: user[:group], "" is root


class NoFiles(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="none"):
    """An instruction that changes the configuration only, or nothing (ARG)."""


Op = Run | Copy | Add | Workdir | NoFiles


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One instruction of a stage, with all values substituted.

    `number` counts what makes a layer as BuildKit shows it (`[build 2/5] RUN …`): FROM of an image is 1, and one
    without a layer has the number of the step before it. `before` and `after` are the configuration around it.
    """

    number: int
    stage: int  # index, counted from 0
    location: Location
    text: str  # one line, as progress shows it: with its values
    written: str = ""  # the same without them
    created_by: str  # "": no history entry of its own
    before: ExecutionConfig
    after: ExecutionConfig
    op: Op
    args: tuple[str, ...] = ()  # NAME=value of the ARGs in reach of a RUN: part of its key
    author: str = ""  # MAINTAINER of this or an earlier step
    onbuild: bool = False  # it comes from the base image; `location` is FROM's

    @property
    def empty_layer(self) -> bool:
        """Whether its history entry says so: it makes no files. `WORKDIR /` makes none either."""
        return isinstance(self.op, NoFiles) or (isinstance(self.op, Workdir) and self.op.path == "/")


# ------------------------------------------------------------------------------------------------------ the events


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag=True):
    """Something to be told while a build runs. `step` is a number that the build gives each thing it does."""


class StepBegan(Event, frozen=True, kw_only=True):
    """A step begins, or is found in the cache. Also FROM, contexts and exports, which are of no stage."""

    step: int
    text: str  # RUN make; FROM docker.io/library/debian:12; [internal] load build context
    written: str = ""  # the same without its variables' values, where it has any
    stage: str = ""  # its name, or stage-0
    number: int = 0  # of `total` in its stage; 0: of no stage
    total: int = 0
    platform: str = ""  # where there are several
    onbuild: bool = False  # the base image asks for it, not the Dockerfile
    line: int = 0
    position: int = 0  # of all instructions that are performed, as the classic builder counts: Step 3/12
    positions: int = 0


class StepOutput(Event, frozen=True, kw_only=True):
    """What a RUN wrote."""

    step: int
    stream: Literal["stdout", "stderr"]
    data: bytes


class Transfer(Event, frozen=True, kw_only=True):
    """How much of something came or went: a layer, a context. `total` 0 is unknown."""

    step: int
    what: str
    current: int
    total: int = 0
    status: str = ""  # Docker's word: Downloading, Extracting, Pull complete


class StepEnded(Event, frozen=True, kw_only=True):
    """A step is done. `miss` says why it was not cached: the first thing that differs; "" where nothing is known."""

    step: int
    cached: bool = False
    miss: str = ""
    ns: int = 0
    layer: str = ""  # what its stage stands on then: the last layer's diff id, or the base image's id


class Warned(Event, frozen=True, kw_only=True):
    """Advice, of a `--check` rule or of a step. `rule` is BuildKit's name of it, or ""."""

    message: str
    rule: str = ""
    description: str = ""
    url: str = ""
    location: Location | None = None
    step: int = 0
    source: str = ""  # the Dockerfile's lines around `location`, those of it marked, as BuildKit shows them


class StepFailed(Event, frozen=True, kw_only=True):
    """A step failed, and so does the build."""

    step: int
    text: str
    message: str
    hint: str = ""
    exit_code: int | None = None  # of a RUN's process
    location: Location | None = None
    excerpt: tuple[str, ...] = ()  # the Dockerfile's lines around it …
    excerpt_line: int = 0  # … the first of which is this one
    output: bytes = b""  # the last of it
    container: str = ""  # id of what was kept (on_failure)


class BuiltImage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image that a build made."""

    id: str  # of its configuration
    digest: str = ""  # of its manifest
    platform: str = ""


class Built(Event, frozen=True, kw_only=True):
    """The end of a build that made what it should."""

    images: tuple[BuiltImage, ...] = ()
    names: tuple[str, ...] = ()  # complete references
    index: str = ""  # the digest of the index where there are several platforms
    ns: int = 0
    difference: str = ""  # with `twice`: the first, "" where both builds gave the same


class OutputBegan(Event, frozen=True, kw_only=True):
    """The bytes of an output of the request follow; of our API's answer only. Numbers count from 0."""

    number: int


BuildEvent = StepBegan | StepOutput | Transfer | StepEnded | Warned | StepFailed | Built
