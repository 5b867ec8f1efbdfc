"""`sampan system prune`: remove what nothing uses, of every kind."""

from __future__ import annotations

from sampan.cli import pruning
from sampan.cli.command import Call, Command
from sampan.cli.failure import Failure
from sampan.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def prune(call: Call) -> int:
    """Ask, remove, tell."""
    options = call.options
    pairs = pruning.filters(call)
    if options["volumes"] and any(name == "until" for name, _ in pairs):
        raise Failure('ERROR: The "until" filter is not supported with "--volumes"')
    kinds = ("container", "network", *(("volume",) if options["volumes"] else ()), "image", "build-cache")
    plan = pruning.query_of(kinds, pairs, all=options["all"])
    if pruning.wanted(call, _warning(pairs, all=options["all"], volumes=options["volumes"]), plan):
        pruning.show(_losses(call, pairs))
    return 0


def _losses(call: Call, pairs: pruning.Pairs) -> Iterator[pruning.Loss]:
    """Containers first: they are what the others are used by."""
    yield pruning.containers(call.session, pairs)
    yield pruning.networks(call.session, pairs)
    if call.options["volumes"]:
        yield pruning.volumes(call.session, pairs)
    yield pruning.images(call.session, pairs, all=call.options["all"])
    yield pruning.build_cache(call.session, pairs, all=call.options["all"])


def _warning(pairs: pruning.Pairs, *, all: bool, volumes: bool) -> str:
    lines = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        lines.append("all anonymous volumes not used by at least one container")
    lines.append("all images without at least one container associated to them" if all else "all dangling images")
    lines.append("all build cache" if all else "unused build cache")
    text = "WARNING! This will remove:\n" + "".join(f"  - {line}\n" for line in lines) + "\n"
    if pairs:
        shown = sorted(f"{name}={value}" for name, value in pairs)
        text += "  Items to be pruned will be filtered with:\n" + "".join(f"  - {line}\n" for line in shown) + "\n"
    return text + "Are you sure you want to continue?"


COMMAND = Command(
    "prune [OPTIONS]",
    "Remove unused data",
    prune,
    flags=(
        Flag("all", "bool", "All unused images, not only dangling ones", short="a"),
        pruning.DRY_RUN,
        Flag("filter", "filter", "Only what matches: until=TIME, label[!]=NAME[=VALUE]"),
        pruning.FORCE,
        Flag("volumes", "bool", "Anonymous volumes too"),
    ),
)
