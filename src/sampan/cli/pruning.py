"""What the prune verbs share: what would go, the question, the filters, the requests, and how each loss is told."""

from __future__ import annotations

import os

from sampan.cli.flags import Flag
from sampan.cli.output import say, write
from sampan.cli.session import ServerError
from sampan.cli.table import ellipsis, filters_of, human_size, tabulate
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from sampan.cli.command import Call
    from sampan.cli.session import Session

    Pairs = list[tuple[str, str]]
    Loss = tuple[str, int]  # what went, as text; the bytes that it gave back

FORCE = Flag("force", "bool", "Do not ask", short="f")
DRY_RUN = Flag("dry-run", "bool", "Only tell what would be removed, and what that would give back")
_NAME = 60


def filters(call: Call) -> Pairs:
    """Return the filters of the command line with those of `pruneFilters` in config.json.

    A label that the command line asks for, or excludes, is stronger than the opposite in the file.
    """
    pairs: Pairs = list(call.options["filter"])
    for text in call.session.config().get("pruneFilters") or ():
        name, equals, value = str(text).partition("=")
        opposite = {"label": "label!", "label!": "label"}.get(name)
        if equals and (opposite, value) not in pairs:
            pairs.append((name, value))
    return pairs


def wanted(call: Call, question: str, plan: str) -> bool:
    """Tell whether to remove: with --force; or if somebody says yes. Not with --dry-run.

    `plan` is the query of what would be removed, as `query_of` makes it: who sits at a terminal is told before the
    question, a script gets Docker's words alone.
    """
    if call.options["dry-run"]:
        write(_told(call.session.ask("GET", f"/sampan/prune{plan}").json()))
        return False
    if not call.options["force"] and os.isatty(0):
        try:
            question = _told(call.session.ask("GET", f"/sampan/prune{plan}").json()) + f"\n{question}"
        except ServerError as e:
            if e.http_status != 404:  # Docker's engine can't tell it
                raise
    return confirmed(call, question)


def confirmed(call: Call, question: str) -> bool:
    """Ask unless --force was given; only y is a yes."""
    if call.options["force"]:
        return True
    write(f"{question} [y/N] ")
    answer = b""
    while b"\n" not in answer and (piece := os.read(0, 1)):
        answer += piece
    return answer.strip().lower() == b"y"


def query_of(kinds: Iterable[str], pairs: Pairs, *, all: bool = False, **sizes: int) -> str:
    """Return the query that asks what prunes of these kinds would remove."""
    given = {name.replace("_", "-"): size for name, size in sizes.items() if size}
    return query(kind=list(kinds), all=all, filters=filters_of(pairs) or None, **given)


def _told(plan: dict[str, Any]) -> str:
    going = [item for item in plan["Items"] if not item["Kept"]]
    if not going:
        return "Nothing would be removed.\n"
    rows = [[item["Kind"], ellipsis(item["Name"], _NAME), human_size(item["Freed"])] for item in going]
    table = tabulate([["TYPE", "NAME", "GIVES BACK"], *rows])
    return f"Would be removed:\n\n{table}\nWould give back: {human_size(plan['SpaceReclaimed'])}\n"


def show(losses: Iterable[Loss]) -> None:
    """Print what went, then how much room it gave back."""
    total = 0
    for text, reclaimed in losses:
        total += reclaimed
        if text:
            say(text)
    say(f"Total reclaimed space: {human_size(total)}")


def containers(session: Session, pairs: Pairs) -> Loss:
    """Remove stopped containers."""
    return _loss(_ask(session, "containers", pairs), "ContainersDeleted", "Deleted Containers:")


def images(session: Session, pairs: Pairs, *, all: bool) -> Loss:
    """Remove images without a name, or `all`, that no container uses."""
    answer = _ask(session, "images", [*pairs, ("dangling", "false" if all else "true")])
    lines = [
        f"deleted: {item['Deleted']}" if item.get("Deleted") else f"untagged: {item.get('Untagged', '')}"
        for item in answer.get("ImagesDeleted") or ()
    ]
    return _loss({**answer, "lines": lines}, "lines", "Deleted Images:")


def volumes(session: Session, pairs: Pairs) -> Loss:
    """Remove anonymous volumes."""
    return _loss(_ask(session, "volumes", pairs), "VolumesDeleted", "Deleted Volumes:")


def networks(session: Session, pairs: Pairs) -> Loss:
    """Remove networks."""
    return _loss(_ask(session, "networks", pairs), "NetworksDeleted", "Deleted Networks:")


def build_cache(session: Session, pairs: Pairs, *, all: bool, **sizes: int) -> Loss:
    """Remove what builds keep; `sizes` are further parameters, 0 is none. Docker's client always names `filters`."""
    given = {name.replace("_", "-"): size for name, size in sizes.items() if size}
    parameters = query(all=all, filters=filters_of(pairs) or None, **given)
    if not pairs:
        parameters += f"{'&' if parameters else '?'}filters="
    answer = session.ask("POST", f"/build/prune{parameters}").json()
    return _loss(answer, "CachesDeleted", "Deleted build cache objects:")


def _ask(session: Session, kind: str, pairs: Pairs) -> dict[str, Any]:
    answer: dict[str, Any] = session.ask("POST", f"/{kind}/prune{query(filters=filters_of(pairs) or None)}").json()
    return answer


def _loss(answer: dict[str, Any], field: str, title: str) -> Loss:
    gone = answer.get(field) or ()
    text = "".join(f"{line}\n" for line in (title, *gone)) if gone else ""
    return text, answer.get("SpaceReclaimed") or 0
