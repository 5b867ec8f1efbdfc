"""The table of what may be asked of a container when."""

from __future__ import annotations

import pytest

from sampan.engine.lifecycle import ALREADY, GO, TABLE, Answer, Verb, check
from sampan.errors import Conflict
from sampan.spec.state import State, Status


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("verb", Verb)
def test_every_pair_has_an_answer(verb: Verb, status: Status) -> None:
    answer = TABLE[verb][status]

    if isinstance(answer, Answer):
        assert check(verb, State(status=status), "abc") is answer
    else:
        with pytest.raises(Conflict):
            check(verb, State(status=status), "abc")


@pytest.mark.parametrize(
    ("verb", "status", "answer"),
    [
        (Verb.START, Status.CREATED, GO),
        (Verb.START, Status.RUNNING, ALREADY),
        (Verb.STOP, Status.EXITED, ALREADY),
        (Verb.STOP, Status.PAUSED, GO),
        (Verb.REMOVE, Status.EXITED, GO),
    ],
)
def test_what_goes(verb: Verb, status: Status, answer: Answer) -> None:
    assert check(verb, State(status=status), "abc") is answer


@pytest.mark.parametrize(
    ("verb", "status", "words"),
    [
        (Verb.KILL, Status.EXITED, "container abc is not running"),
        (Verb.START, Status.PAUSED, "cannot start a paused container, try unpause instead"),
        (Verb.REMOVE, Status.RUNNING, "container is running: stop the container before removing or force remove"),
        (Verb.EXEC, Status.PAUSED, "container abc is paused, unpause the container before exec"),
        (Verb.PAUSE, Status.PAUSED, "container abc is already paused"),
    ],
)
def test_what_does_not_is_said_in_dockers_words(verb: Verb, status: Status, words: str) -> None:
    with pytest.raises(Conflict, match=f"^{words}$"):
        check(verb, State(status=status), "abc")
