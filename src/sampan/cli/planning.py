"""`sampan pull --plan`: what is here of an image already, and what would be fetched."""

from __future__ import annotations

from sampan.cli.commands.pull import wanted
from sampan.cli.credentials import headers_for
from sampan.cli.output import say, write
from sampan.cli.table import tabulate
from sampan.client.wire import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.command import Call

    Plan = dict[str, Any]

_SHORT = 12
_MOST_NAMES = 3


def print_plans(call: Call) -> int:
    """Print the plan of each image, and of all what would be fetched; or one JSON list."""
    format = call.options["format"]
    plans = [plan for name in call.arguments for plan in _ask(call, name)]
    if format == "json":
        import json

        write(json.dumps(plans, indent=4, ensure_ascii=False) + "\n")
        return 0
    if format:
        from sampan.cli.templated import parsed, show_one

        template = parsed(format)
        for plan in plans:
            show_one(plan, template)
        return 0
    for plan in plans:
        _print(plan)
    _print_sum(plans)
    return 0


def _ask(call: Call, name: str) -> list[Plan]:
    reference, whole = wanted(call.session, name, all_tags=call.options["all-tags"])
    parameters = query(name=str(reference) if whole else reference.name, platform=call.options["platform"])
    headers = headers_for(call.session, reference.registry, reference.repository, call.options["creds"])
    answer: list[Plan] = call.session.ask("GET", f"/sampan/images/plan{parameters}", None, headers).json()
    return answer


def _print(plan: Plan) -> None:
    from sampan.units import format_bytes

    say(f"{plan['Name']}  {plan['Platform']}  {plan['Digest']}" + ("  (is here)" if plan["IsHere"] else ""))
    rows = [["LAYER", "SIZE", "FETCHED", ""]]
    rows += [
        [_short(layer), format_bytes(layer["Size"]), format_bytes(layer["Fetched"]), _why(layer)]
        for layer in plan["Layers"]
    ]
    write(tabulate(rows) + "\n")


def _short(layer: Plan) -> str:
    return str(layer["Digest"]).partition(":")[2][:_SHORT]


def _why(layer: Plan) -> str:
    if layer["State"] == "coming":
        return "is just being fetched by another pull"
    if layer["State"] == "interrupted":
        return "goes on where an earlier pull was interrupted"
    if layer["State"] == "fetched":
        return ""
    names = layer["Images"]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"is here: {', '.join(names[:_MOST_NAMES])}{more}" if names else "is here"


def _print_sum(plans: list[Plan]) -> None:
    from sampan.units import format_bytes

    layers = {layer["DiffID"]: layer for plan in plans for layer in plan["Layers"]}.values()
    whole, fetched = sum(layer["Size"] for layer in layers), sum(layer["Fetched"] for layer in layers)
    count = f"{len(layers)} layer" + ("s" if len(layers) != 1 else "")
    say(f"To be fetched: {format_bytes(fetched)} of {format_bytes(whole)} in {count}")
