"""The syntax tree of a Dockerfile: frozen structs that know their lines.

Words are as written: quotes and variables are in them still (`expansion` takes them away). Names of stages are lower
case, as BuildKit compares them.
"""

from __future__ import annotations

import re

import msgspec

from sampan.spec.image import HealthCheck

_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)


class Location(msgspec.Struct, frozen=True):
    """Lines of the file, the first and the last, counted from 1. Heredocs belong to their instruction."""

    start: int
    end: int


class Directive(msgspec.Struct, frozen=True, kw_only=True):
    """`# name=value` at the top of the file: `syntax`, `escape` or `check` (`name` in lower case)."""

    name: str
    value: str
    location: Location


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """`name=value` of ENV and LABEL; `legacy` is the old form of one `name value`."""

    name: str
    value: str
    legacy: bool = False


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    """`name` or `name=value` of ARG; None has no default, which is not the empty one."""

    name: str
    value: str | None = None


class Heredoc(msgspec.Struct, frozen=True, kw_only=True):
    """A document after an instruction's line, without the line that ends it.

    `expand` is false where its word is quoted; `chomp` is the dash of `<<-`: leading tabs are to be taken away, which
    `text` does. `word` is the name as written (`'EOF'`).
    """

    name: str
    word: str
    content: str
    expand: bool = True
    chomp: bool = False
    file_descriptor: int = 0

    @property
    def text(self) -> str:
        """The content as the program or the file gets it."""
        if not self.chomp:
            return self.content
        return _LEADING_TABS.sub("", self.content)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What RUN, CMD, ENTRYPOINT and HEALTHCHECK CMD execute.

    In shell form `words` is the one text for the shell, or nothing at all (`CMD` alone); in JSON form it is the argv.
    """

    words: tuple[str, ...]
    is_shell: bool


class Instruction(msgspec.Struct, frozen=True, kw_only=True):
    """What every instruction has.

    `keyword` is as written (`from`), `text` is the line with its continuations joined and its heredocs' words but not
    their contents, `comments` are the lines since the instruction before: with their `#`, or empty.
    """

    location: Location
    keyword: str
    text: str
    comments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The keyword in capitals."""
        return self.keyword.upper()


class From(Instruction, frozen=True, kw_only=True):
    """`FROM [--platform=…] image [AS name]`. `as_keyword` is as written, and `stage_as_written`, for lint."""

    image: str
    stage: str = ""
    platform: str = ""
    as_keyword: str = ""
    stage_as_written: str = ""


class Arg(Instruction, frozen=True, kw_only=True):
    """`ARG name[=default] …`"""

    arguments: tuple[Argument, ...]


class Env(Instruction, frozen=True, kw_only=True):
    """`ENV name=value …`, or `ENV name value`."""

    pairs: tuple[Pair, ...]


class Label(Instruction, frozen=True, kw_only=True):
    """`LABEL name=value …`, or `LABEL name value`."""

    pairs: tuple[Pair, ...]


class Run(Instruction, frozen=True, kw_only=True):
    """`RUN [options] command`. `mounts` and `devices` are the options' values as written.

    With heredocs the command is for the shell, with their words still in it: see `heredoc.run_arguments`.
    """

    command: Command
    mounts: tuple[str, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    devices: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()


class Copy(Instruction, frozen=True, kw_only=True):
    """`COPY [options] source… destination`. `inline` are the sources that are heredocs: files of those names."""

    sources: tuple[str, ...]
    destination: str
    inline: tuple[Heredoc, ...] = ()
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    json: bool = False


class Add(Instruction, frozen=True, kw_only=True):
    """`ADD [options] source… destination`. `unpack` None: local archives are unpacked, downloaded ones are not."""

    sources: tuple[str, ...]
    destination: str
    inline: tuple[Heredoc, ...] = ()
    chown: str = ""
    chmod: str = ""
    link: bool = False
    keep_git_dir: bool = False
    checksum: str = ""
    unpack: bool | None = None
    exclude: tuple[str, ...] = ()
    json: bool = False


class Workdir(Instruction, frozen=True, kw_only=True):
    """`WORKDIR path`"""

    path: str


class User(Instruction, frozen=True, kw_only=True):
    """`USER name[:group]`"""

    user: str


class Expose(Instruction, frozen=True, kw_only=True):
    """`EXPOSE port…`, each `80`, `80/udp` or `8000-8010`, or a variable."""

    ports: tuple[str, ...]


class Volume(Instruction, frozen=True, kw_only=True):
    """`VOLUME path…`, or a JSON array."""

    paths: tuple[str, ...]
    json: bool = False


class Cmd(Instruction, frozen=True, kw_only=True):
    """`CMD command`"""

    command: Command


class Entrypoint(Instruction, frozen=True, kw_only=True):
    """`ENTRYPOINT command`"""

    command: Command


class Shell(Instruction, frozen=True, kw_only=True):
    """`SHELL ["program", "argument"…]`"""

    words: tuple[str, ...]


class StopSignal(Instruction, frozen=True, kw_only=True):
    """`STOPSIGNAL signal`"""

    signal: str


class Healthcheck(Instruction, frozen=True, kw_only=True):
    """`HEALTHCHECK [options] CMD command`, or `HEALTHCHECK NONE`; what the image's configuration gets."""

    check: HealthCheck


class OnBuild(Instruction, frozen=True, kw_only=True):
    """`ONBUILD instruction`. `expression` is what the image's configuration gets, heredocs included."""

    expression: str
    instruction: Instruction


class Maintainer(Instruction, frozen=True, kw_only=True):
    """`MAINTAINER name`, which is an image's `author`."""

    author: str


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A FROM and what follows it. `number` counts from 0; `name` is empty where it has none."""

    number: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """Its name in lower case, or nothing."""
        return self.base.stage


class Dockerfile(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file. `source` is its text, for excerpts; `empty_continuations` are for lint: the last rows of
    the lines with that fault.

    `comments` are those after the last instruction.
    """

    name: str
    source: str
    escape: str = "\\"
    directives: tuple[Directive, ...] = ()
    args: tuple[Arg, ...] = ()
    stages: tuple[Stage, ...]
    comments: tuple[str, ...] = ()
    empty_continuations: tuple[Location, ...] = ()

    def directive(self, name: str) -> str | None:
        """Return the value of `syntax`, `escape` or `check`, None where it isn't given."""
        return next((each.value for each in self.directives if each.name == name), None)
