"""The Dockerfile language, as BuildKit's frontend has it: text ↔ syntax tree, words, substitution. Pure.

How it is used:

    dockerfile = parse(text, "Dockerfile")          # DockerfileError (an InvalidInput) with file, line and a caret
    dockerfile.args                                 # the ARGs before the first FROM
    for stage in dockerfile.stages:                 # stage.number, stage.name, stage.base (the From)
        for instruction in stage.instructions:      # typed: ast.Run, ast.Copy, …: see `ast`
            expanded = expand(instruction, env, dockerfile.escape)

Nothing in the tree is substituted: words are as written, with quotes and `$`. `expand` returns the instruction with
everything that the language substitutes in it replaced and unquoted:

    ADD COPY    sources, destination, chown, chmod, checksum; inline files whose heredoc word is not quoted
    ARG         a default that is needed, with the names before it in the same instruction: `words.expand` does that
    ENV LABEL   names and values, each with the environment from before the whole instruction
    EXPOSE      its words, which may become several
    FROM        image and platform (with the ARGs before the first FROM, not with a stage's variables)
    RUN         the values in `--mount`; not the command: that is the shell's
    STOPSIGNAL USER VOLUME WORKDIR
    not at all  CMD ENTRYPOINT HEALTHCHECK MAINTAINER ONBUILD SHELL, --from, --exclude, --network, --security

A RUN's mounts are typed by `mounts.parse_mount` after that. `words.expand(text, env, escape)` does one word,
`words.split(text, env, escape)` gives several, `words.process` also says which variables it met and missed. ONBUILD
triggers of an image, and `--change` of commit and import, are read by `parse_instructions(text, name)`.
`render(dockerfile)` gives text again, which parses to the same tree. `errors.excerpt` shows lines of the file around a
location. What `expand` and `parse_mount` raise is a `Fault` without lines: `locate(fault, dockerfile, location)`.
"""

from sampan.build.dockerfile.errors import DockerfileError, Fault
from sampan.build.dockerfile.expansion import expand
from sampan.build.dockerfile.parse import locate, parse, parse_instructions
from sampan.build.dockerfile.render import render, render_instruction

__all__ = [
    "DockerfileError",
    "Fault",
    "expand",
    "locate",
    "parse",
    "parse_instructions",
    "render",
    "render_instruction",
]
