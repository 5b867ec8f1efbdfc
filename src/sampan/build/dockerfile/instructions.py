"""Each instruction's line, typed: one function an instruction, with BuildKit's rules and wording."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.build.dockerfile import ast
from sampan.build.dockerfile.devices import parse_device
from sampan.build.dockerfile.errors import Fault, quoted, suggest
from sampan.build.dockerfile.flags import Options, json_words, split_keyword, split_options
from sampan.build.dockerfile.heredoc import heredoc
from sampan.build.dockerfile.mounts import check_mount
from sampan.build.dockerfile.scan import Line
from sampan.build.dockerfile.text import ASCII_SPACES, BETWEEN_WORDS, trim
from sampan.build.dockerfile.values import arguments, pairs
from sampan.errors import InvalidInput
from sampan.spec.image import HealthCheck
from sampan.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

_STAGE = re.compile(r"[a-z][a-z0-9-_.]*")
_NETWORKS = ("default", "none", "host")
_SECURITY = ("sandbox", "insecure")
_SHORTEST_NS = 1_000_000
_INTERVALS = {
    "interval": "interval",
    "timeout": "timeout",
    "start-period": "start_period",
    "start-interval": "start_interval",
}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An instruction's line in its pieces: what each function below reads."""

    line: Line
    keyword: str
    options: tuple[str, ...]
    rest: str
    escape: str

    @property
    def name(self) -> str:
        """The keyword in capitals."""
        return self.keyword.upper()

    def base(self) -> dict[str, Any]:
        """Return the fields that every instruction has."""
        line = self.line
        return {"location": line.location, "keyword": self.keyword, "text": line.text, "comments": line.comments}


def instruction(line: Line, escape: str) -> ast.Instruction:
    """Read one logical line. Raises Fault."""
    keyword, rest = split_keyword(line.text)
    read = _INSTRUCTIONS.get(keyword.upper())
    if read is None:
        cause = f"unknown instruction: {keyword}{suggest(keyword, _INSTRUCTIONS)}"
        raise Fault(cause, keyword, f"one of {' '.join(_INSTRUCTIONS)}")
    options, rest = split_options(rest)
    return read(Source(line=line, keyword=keyword, options=tuple(options), rest=rest, escape=escape))


def _words(text: str) -> tuple[str, ...]:
    return tuple(BETWEEN_WORDS.split(text)) if text else ()


def _one(source: Source) -> str:
    """Return the one argument that is all of the rest, blanks and all."""
    Options(source.options)
    if not source.rest:
        raise Fault(f"{source.name} requires exactly one argument", source.keyword)
    return source.rest


def _from(source: Source) -> ast.From:
    options = Options(source.options, text=("platform",))
    words = _words(source.rest)
    if len(words) not in {1, 3} or (len(words) == 3 and words[1].lower() != "as"):
        raise Fault("FROM requires either one or three arguments", source.rest, "FROM image, or FROM image AS name")
    stage = words[2].lower() if len(words) == 3 else ""
    if stage and not _STAGE.fullmatch(stage):
        cause = f"invalid name for build stage: {quoted(words[2])}, name can't start with a number or contain symbols"
        raise Fault(cause, words[2])
    return ast.From(
        image=words[0],
        stage=stage,
        platform=options.text("platform"),
        as_keyword=words[1] if stage else "",
        stage_as_written=words[2] if stage else "",
        **source.base(),
    )


def _arg(source: Source) -> ast.Arg:
    Options(source.options)
    return ast.Arg(arguments=arguments(source.rest, source.escape), **source.base())


def _env(source: Source) -> ast.Env:
    Options(source.options)
    return ast.Env(pairs=pairs(source.rest, "ENV", source.escape), **source.base())


def _label(source: Source) -> ast.Label:
    Options(source.options)
    return ast.Label(pairs=pairs(source.rest, "LABEL", source.escape), **source.base())


def _command(text: str) -> ast.Command:
    words = json_words(text)
    if words is not None:
        return ast.Command(words=words, is_shell=False)
    return ast.Command(words=(text,) if text else (), is_shell=True)


def _run(source: Source) -> ast.Run:
    options = Options(source.options, text=("network", "security"), many=("mount", "device"))
    network = options.text("network", "default")
    if network not in _NETWORKS:
        raise Fault(
            f"invalid network mode {quoted(network)}{suggest(network, _NETWORKS)}", network, "default, none or host"
        )
    security = options.text("security", "sandbox")
    if security not in _SECURITY:
        cause = f"security {quoted(security)} is not valid{suggest(security, _SECURITY)}"
        raise Fault(cause, security, "sandbox or insecure")
    for mount in options.many("mount"):
        check_mount(mount)
    for device in options.many("device"):
        parse_device(device)
    return ast.Run(
        command=_command(source.rest),
        mounts=options.many("mount"),
        network=network,
        security=security,
        devices=options.many("device"),
        heredocs=source.line.heredocs,
        **source.base(),
    )


def _cmd(source: Source) -> ast.Cmd:
    Options(source.options)
    return ast.Cmd(command=_command(source.rest), **source.base())


def _entrypoint(source: Source) -> ast.Entrypoint:
    Options(source.options)
    return ast.Entrypoint(command=_command(source.rest), **source.base())


def _files(source: Source) -> dict[str, Any]:
    """Return the fields of COPY and ADD that are no options."""
    words = json_words(source.rest)
    json = words is not None
    words = _words(source.rest) if words is None else words
    if len(words) < 2:
        given = "only one" if words else "none"
        cause = f"{source.name} requires at least two arguments, but {given} was provided."
        raise Fault(f"{cause} Destination could not be determined", source.keyword)
    *paths, destination = words
    if not json and heredoc(destination):
        raise Fault(f"{source.name} cannot accept a heredoc as a destination", destination)
    by_name = {each.name: each for each in source.line.heredocs}
    opened = {word: each for word in paths if not json and (each := heredoc(word)) and each.name in by_name}
    for stray in by_name.keys() - {each.name for each in opened.values()}:
        # Only a blank that is none between words of COPY can do this: BuildKit loses such a document.
        raise Fault(f"the heredoc {stray} is no source of {source.name}", stray, "put a space behind its word")
    return {
        "sources": tuple(word for word in paths if word not in opened),
        "inline": tuple(by_name[opened[word].name] for word in paths if word in opened),
        "destination": destination,
        "json": json,
        **source.base(),
    }


def _copy(source: Source) -> ast.Copy:
    options = Options(source.options, text=("from", "chown", "chmod"), many=("exclude",), flags=("link", "parents"))
    if re.search(r"\$.", options.text("from")):
        cause = (
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope"
        )
        raise Fault(f"{cause} as a workaround", options.text("from"))
    return ast.Copy(
        from_=options.text("from"),
        chown=options.text("chown"),
        chmod=options.text("chmod"),
        link=bool(options.flag("link")),
        parents=bool(options.flag("parents")),
        exclude=options.many("exclude"),
        **_files(source),
    )


def _add(source: Source) -> ast.Add:
    options = Options(
        source.options,
        text=("chown", "chmod", "checksum"),
        many=("exclude",),
        flags=("link", "keep-git-dir", "unpack"),
    )
    return ast.Add(
        chown=options.text("chown"),
        chmod=options.text("chmod"),
        link=bool(options.flag("link")),
        keep_git_dir=bool(options.flag("keep-git-dir")),
        checksum=options.text("checksum"),
        unpack=options.flag("unpack"),
        exclude=options.many("exclude"),
        **_files(source),
    )


def _workdir(source: Source) -> ast.Workdir:
    return ast.Workdir(path=_one(source), **source.base())


def _user(source: Source) -> ast.User:
    return ast.User(user=_one(source), **source.base())


def _stopsignal(source: Source) -> ast.StopSignal:
    return ast.StopSignal(signal=_one(source), **source.base())


def _maintainer(source: Source) -> ast.Maintainer:
    return ast.Maintainer(author=_one(source), **source.base())


def _expose(source: Source) -> ast.Expose:
    Options(source.options)
    if not source.rest:
        raise Fault("EXPOSE requires at least one argument", source.keyword)
    return ast.Expose(ports=_words(source.rest), **source.base())


def _volume(source: Source) -> ast.Volume:
    Options(source.options)
    words = json_words(source.rest)
    paths = _words(source.rest) if words is None else words
    if not paths:
        raise Fault("VOLUME requires at least one argument", source.keyword)
    if not all(trim(path) for path in paths):
        raise Fault("VOLUME specified can not be an empty string", source.rest)
    return ast.Volume(paths=tuple(trim(path) for path in paths), json=words is not None, **source.base())


def _shell(source: Source) -> ast.Shell:
    Options(source.options)
    words = json_words(source.rest)
    if words is None and source.rest:
        raise Fault("SHELL requires the arguments to be in JSON form", source.rest, 'SHELL ["program", "argument"]')
    if not words:
        raise Fault("SHELL requires at least one argument", source.keyword)
    return ast.Shell(words=words, **source.base())


def _healthcheck(source: Source) -> ast.Healthcheck:
    options = Options(source.options, text=(*_INTERVALS, "retries"))
    kind, command = _health_words(source.rest)
    if not kind:
        raise Fault("HEALTHCHECK requires at least one argument", source.keyword)
    if kind.upper() == "NONE":
        if command:
            raise Fault("HEALTHCHECK NONE takes no arguments", command)
        return ast.Healthcheck(check=HealthCheck(test=("NONE",)), **source.base())
    if kind.upper() != "CMD":
        raise Fault(f"Unknown type {quoted(kind.upper())} in HEALTHCHECK (try CMD)", kind)
    words = json_words(command)
    if not command or words == ():
        raise Fault("Missing command after HEALTHCHECK CMD", kind)
    check = HealthCheck(
        test=("CMD-SHELL", command) if words is None else ("CMD", *words),
        retries=_retries(options.text("retries")),
        **{field: _interval(name, options.text(name)) for name, field in _INTERVALS.items()},
    )
    return ast.Healthcheck(check=check, **source.base())


def _health_words(text: str) -> tuple[str, str]:
    end = next((at for at, character in enumerate(text) if character in ASCII_SPACES), len(text))
    return text[:end], text[end:].lstrip(ASCII_SPACES)


def _interval(name: str, value: str) -> int:
    if not value:
        return 0
    try:
        duration_ns = parse_duration(value)
    except InvalidInput as e:
        raise Fault(f"--{name}: {e.message}", value, e.hint) from e
    if 0 < duration_ns < _SHORTEST_NS:
        raise Fault(f"Interval {quoted(name)} cannot be less than 1ms", value)
    return duration_ns


def _retries(value: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,10}|", value) or not -(1 << 31) <= int(value or "0") < 1 << 31:
        raise Fault(f"--retries must be a number, not {quoted(value)}", value)
    if int(value or "0") < 0:
        raise Fault(f"--retries cannot be negative ({value})", value)
    return int(value or "0")


def _onbuild(source: Source) -> ast.OnBuild:
    Options(source.options)
    if not source.rest:
        raise Fault("ONBUILD requires at least one argument", source.keyword)
    trigger = split_keyword(source.rest)[0].upper()
    if trigger == "ONBUILD":
        raise Fault("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", source.rest)
    if trigger in {"FROM", "MAINTAINER"}:
        raise Fault(f"{trigger} isn't allowed as an ONBUILD trigger", source.rest)
    line = msgspec.structs.replace(source.line, text=source.rest, comments=())
    expression = source.rest
    for document in source.line.heredocs:
        expression += f"\n{document.content}{document.name}"
    return ast.OnBuild(expression=expression, instruction=instruction(line, source.escape), **source.base())


_INSTRUCTIONS: dict[str, Callable[[Source], ast.Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
