"""What may be asked of a container in which state: one table, and Docker's words where the answer is no."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from sampan.errors import Conflict
from sampan.spec.state import Status

if TYPE_CHECKING:
    from sampan.spec.state import State


class Verb(enum.StrEnum):
    """What can be asked."""

    START = "start"
    STOP = "stop"
    KILL = "kill"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    EXEC = "exec"
    ATTACH = "attach"
    RESIZE = "resize"
    TOP = "top"
    REMOVE = "remove"
    RENAME = "rename"
    RESTART = "restart"
    UPDATE = "update"


class Answer(enum.Enum):
    """What the table says when it does not refuse."""

    GO = "do it"
    ALREADY = "it is so already"


GO, ALREADY = Answer.GO, Answer.ALREADY

_NOT_RUNNING = "container {id} is not running"
_PAUSED = "container {id} is paused, unpause the container before {verb}"
_REMOVING = "container {id} is marked for removal and cannot be {verb}ed"

_C, _R, _P, _T, _X, _E, _D = (
    Status.CREATED,
    Status.RUNNING,
    Status.PAUSED,
    Status.RESTARTING,
    Status.REMOVING,
    Status.EXITED,
    Status.DEAD,
)

Row = dict[Status, Answer | str]


def _every(answer: Answer | str) -> Row:
    return dict.fromkeys(Status, answer)


TABLE: dict[Verb, Row] = {
    Verb.START: {
        _C: GO, _E: GO, _R: ALREADY, _T: ALREADY, _X: _REMOVING, _D: _REMOVING,
        _P: "cannot start a paused container, try unpause instead",
    },
    Verb.STOP: {_C: ALREADY, _E: ALREADY, _D: ALREADY, _X: ALREADY, _R: GO, _P: GO, _T: GO},
    Verb.RESTART: {_C: GO, _E: GO, _R: GO, _P: GO, _T: GO, _X: _REMOVING, _D: _REMOVING},
    Verb.KILL: _every(_NOT_RUNNING) | {_R: GO, _P: GO, _T: GO},
    Verb.PAUSE: _every(_NOT_RUNNING) | {_R: GO, _P: "container {id} is already paused"},
    Verb.UNPAUSE: _every("container {id} is not paused") | {_P: GO},
    Verb.EXEC: _every(_NOT_RUNNING) | {_R: GO, _P: _PAUSED},
    Verb.ATTACH: _every(GO) | {_P: _PAUSED, _X: _REMOVING, _D: _REMOVING},
    Verb.RESIZE: _every(_NOT_RUNNING) | {_R: GO, _P: GO},
    Verb.TOP: _every(_NOT_RUNNING) | {_R: GO, _P: GO},
    Verb.REMOVE: {
        _C: GO, _E: GO, _D: GO,
        _R: "container is running: stop the container before removing or force remove",
        _T: "container is restarting: stop the container before removing or force remove",
        _P: "container is paused and must be unpaused first",
        _X: "removal of container {id} is already in progress",
    },
    Verb.UPDATE: _every(_NOT_RUNNING) | {_R: GO, _P: GO},
    Verb.RENAME: _every(GO) | {_X: "container {id} is marked for removal and cannot be renamed"},
}  # fmt: skip
"""Every verb in every state. A test holds that no pair is missing."""


def check(verb: Verb, state: State, id: str) -> Answer:
    """Look the pair up; a sentence in the table is raised as `Conflict`."""
    answer = TABLE[verb][state.status]
    if isinstance(answer, str):
        raise Conflict(answer.format(id=id, verb=verb.value))
    return answer
