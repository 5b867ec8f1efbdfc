"""`sampan rm`: remove containers."""

from __future__ import annotations

from sampan.cli.command import Call, Command
from sampan.cli.each import ALL, CIDFILE, IGNORE, container, each
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag
from sampan.client.wire import query


def rm(call: Call) -> int:
    """Remove each container."""
    options = call.options
    parameters = query(v=options["volumes"], link=options["link"], force=options["force"])
    if options["depend"]:
        from sampan.cli.dependents import with_dependents

        call.arguments = with_dependents(call.session, call.arguments)

    def remove(name: str) -> None:
        name = name.strip("/")
        if not name:
            raise Failure("container name cannot be empty")
        if options["force"] and "time" in options:
            call.session.ask("POST", container(name, f"/stop{query(t=options['time'])}")).read()
        call.session.ask("DELETE", container(name, parameters)).read()

    return each(call, remove, missing_is_fine=options["force"] or options["ignore"])


COMMAND = Command(
    "rm [OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    rm,
    flags=(
        Flag("force", "bool", "Kill it first if it runs", short="f"),
        Flag("link", "bool", "Remove a link, named as CONTAINER/ALIAS, and no container", short="l"),
        Flag("volumes", "bool", "Remove its anonymous volumes as well", short="v"),
        ALL,
        CIDFILE,
        Flag(
            "depend",
            "bool",
            "Remove what depends on it as well: containers in its namespaces, with its volumes, or that require it",
        ),
        Flag("filter", "filter", "Those that match, in place of names: NAME=VALUE, as for ps"),
        IGNORE,
        Flag("latest", "bool", "The container that was made last, in place of a name"),
        Flag("time", "int", "With --force: seconds to wait for its end before killing it", short="t"),
    ),
    arguments=(1, None),
    choosers=("all", "cidfile", "filter", "latest"),
)
