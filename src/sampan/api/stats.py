"""The handlers that measure containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.engine.stats import check_one_shot

if TYPE_CHECKING:
    from sampan.api.call import Call


def one(call: Call) -> None:
    """GET /containers/{id}/stats: a sample a second, or with `stream=0` one."""
    stream, one_shot = call.flag("stream", default=True), call.flag("one-shot")
    check_one_shot(stream=stream, one_shot=one_shot)
    samples = call.engine.samples([call.path["id"]])
    if not stream:
        (found,) = samples.take() if one_shot else samples.once()
        call.answer(found)
        return
    lines = call.lines()
    with call.if_client_leaves(samples.close):
        lines.begin()
        for sample in samples:
            for each in sample:
                lines.write(each)
    lines.end()


def several(call: Call) -> None:
    """GET /sampan/stats?name=…&all=…: a line a second, an array of samples; with `stream=0` one line."""
    samples = call.engine.samples(call.texts("name"), all=call.flag("all"))
    if not call.flag("stream", default=True):
        call.answer(samples.once())
        return
    lines = call.lines()
    with call.if_client_leaves(samples.close):
        lines.begin()
        for sample in samples:
            lines.write(sample)
    lines.end()
