"""Names, ids and their beginnings."""

from __future__ import annotations

import threading

import pytest

from sampan.engine.names import random_name
from sampan.engine.registry import Container, Registry
from sampan.engine.waiting import wait_for as wait
from sampan.errors import Conflict, InvalidInput, NotFound
from sampan.ids import check_name
from sampan.spec.state import State, Status
from support.engine import request, until


def container(id: str, name: str, state: State | None = None) -> Container:
    return Container(id, name, 0, ("sha256:1", "image"), request(), state or State())


@pytest.fixture
def registry() -> Registry:
    found = Registry()
    found.add(container("aa11", "web"))
    found.add(container("ab22", "db"))
    return found


@pytest.mark.parametrize(
    ("ref", "name"), [("aa11", "web"), ("web", "web"), ("/web", "web"), ("ab", "db"), ("aa", "web")]
)
def test_a_container_is_found_by_id_name_and_prefix(registry: Registry, ref: str, name: str) -> None:
    assert registry.find(ref).name == name


@pytest.mark.parametrize("ref", ["nope", "", "/", "aa111"])
def test_an_unknown_one_is_said_in_dockers_words(registry: Registry, ref: str) -> None:
    with pytest.raises(NotFound, match="No such container: "):
        registry.find(ref)


def test_an_ambiguous_prefix_is_refused(registry: Registry) -> None:
    with pytest.raises(InvalidInput, match="multiple IDs found with provided prefix: a"):
        registry.find("a")


def test_a_name_wins_over_a_prefix(registry: Registry) -> None:
    registry.add(container("ff00", "aa"))

    assert registry.find("aa").id == "ff00"


def test_a_name_in_use_is_refused_in_dockers_words(registry: Registry) -> None:
    with pytest.raises(Conflict) as e:
        registry.add(container("cc33", "web"))

    assert e.value.message == (
        'Conflict. The container name "/web" is already in use by container "aa11". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


def test_a_removed_or_renamed_containers_name_is_free(registry: Registry) -> None:
    registry.rename(registry.find("web"), "old")
    registry.remove(registry.find("db"))

    registry.add(container("cc33", "web"))
    registry.add(container("dd44", "db"))
    assert registry.find("old").id == "aa11"


def test_random_names_are_valid() -> None:
    for _ in range(50):
        check_name(random_name())


def waiting(subject: Container, condition: str) -> tuple[threading.Thread, list[int]]:
    results: list[int] = []
    begun = threading.Event()

    def run() -> None:
        results.append(wait(subject, condition, lambda _: begun.set()).status_code)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert begun.wait(5)
    return thread, results


def test_waiting_for_what_does_not_run_ends_at_once() -> None:
    assert wait(container("a", "a"), "not-running", None).status_code == 0
    exited = State(status=Status.EXITED, exit_code=3)
    assert wait(container("a", "a", exited), "", None).status_code == 3


def test_next_exit_waits_for_a_start_and_an_end() -> None:
    subject = container("a", "a")
    thread, results = waiting(subject, "next-exit")

    subject.become(State(status=Status.RUNNING))
    assert not results
    subject.become(State(status=Status.EXITED, exit_code=7))
    thread.join(5)
    assert results == [7]


def test_removed_waits_for_the_removal_and_tells_the_last_exit() -> None:
    subject = container("a", "a", State(status=Status.RUNNING))
    thread, results = waiting(subject, "removed")

    subject.become(State(status=Status.EXITED, exit_code=4))
    subject.update(status=Status.REMOVING)
    assert not results
    subject.vanish()
    thread.join(5)
    assert results == [4]


def test_a_waiting_client_that_leaves_frees_its_thread() -> None:
    subject = container("a", "a", State(status=Status.RUNNING))
    give_up: list = []
    thread = threading.Thread(target=wait, args=(subject, "removed", give_up.append), daemon=True)
    thread.start()

    until(lambda: give_up)[0]()
    thread.join(5)
    assert not thread.is_alive()


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(InvalidInput, match='invalid condition: "x"'):
        wait(container("a", "a"), "x", None)
