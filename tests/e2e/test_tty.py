"""Terminals, as a person uses them: typed into tmux and read from its screen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sampan import Sampan, wait_until
from support.terminal import Terminal


@pytest.fixture
def terminal(sampan: Sampan, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(sampan, tmp_path)
    yield terminal
    terminal.end()


def test_an_interactive_shell_has_a_terminal_and_ends_with_its_code(terminal: Terminal) -> None:
    terminal.enter("sampan run -it --rm busybox sh; echo code $?")
    terminal.shows("/ #")
    terminal.enter("tty; stty size; exit 5")

    screen = terminal.shows("code 5")
    assert "/dev/pts/0" in screen or "/dev/console" in screen
    assert "24 80" in screen
    terminal.enter("stty -a | grep -o ' icanon' && echo sane")
    terminal.shows("sane")


def test_control_c_interrupts_the_program_and_not_the_shell(terminal: Terminal) -> None:
    terminal.enter("sampan run -it --rm busybox sh")
    terminal.shows("/ #")
    terminal.enter("echo be''gun; sleep 100")
    terminal.shows("begun")
    terminal.type("", "C-c")
    terminal.prompts("/ #")
    terminal.enter("echo still $((40+2))")

    terminal.shows("still 42")
    terminal.enter("exit")


def test_the_window_size_follows(terminal: Terminal) -> None:
    terminal.enter("sampan run -it --rm busybox sh")
    terminal.shows("/ #")

    terminal.resize(100, 40)
    terminal.enter("until stty size | grep '^40'; do usleep 10000; done")

    terminal.shows("40 100")
    terminal.enter("exit")


def test_detaching_with_ctrl_p_ctrl_q_and_attaching_again(terminal: Terminal, sampan: Sampan) -> None:
    terminal.enter("sampan run -it --name web busybox sh")
    terminal.shows("/ #")
    terminal.enter("X=kept")
    terminal.shows("X=kept\n/ #")  # it asks the terminal where the cursor is: the host's shell would get the answer
    terminal.type("", "C-p", "C-q")
    terminal.prompts("host$")
    assert sampan("ps", "--format", "{{.Names}}").lines == ["web"]

    terminal.enter("clear; sampan attach web; echo code $?")
    wait_until(lambda: "sampan" not in terminal.screen())
    terminal.enter("")
    terminal.prompts("/ #")
    terminal.enter("echo $X again")
    terminal.shows("kept again")
    terminal.enter("exit 3")
    terminal.shows("code 3")


def test_other_detach_keys(terminal: Terminal, sampan: Sampan) -> None:
    terminal.enter("sampan run -it --name web --detach-keys ctrl-x,q busybox sh")
    terminal.shows("/ #")
    terminal.type("", "C-x")
    terminal.type("q")

    terminal.prompts("host$")
    assert sampan("ps", "--format", "{{.Names}}").lines == ["web"]


def test_exec_with_a_terminal_and_detaching_from_it(terminal: Terminal, sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "busybox", "sleep", "100")
    terminal.enter("sampan exec -it web sh; echo code $?")
    terminal.shows("/ #")
    terminal.enter("stty size; exit 4")

    screen = terminal.shows("code 4")
    assert "24 80" in screen


def test_a_client_that_is_ended_leaves_the_terminal_sane_and_the_container_running(
    terminal: Terminal, sampan: Sampan
) -> None:
    sampan("run", "-dit", "--name", "web", "busybox", "sh")
    terminal.enter("timeout --foreground 1 sampan exec -it web cat; stty -a | grep -o ' icanon' && echo s''ane")
    terminal.shows("sane")
    terminal.enter("timeout --foreground -s HUP 1 sampan attach web; echo code $?")
    terminal.shows("code 124")

    assert sampan("ps", "--format", "{{.Names}}").lines == ["web"]
    assert [line.split()[1] for line in sampan("top", "web", "-o", "pid,comm").lines] == ["COMMAND", "sh", "cat"]


def test_vi_draws_on_the_screen_and_saves(terminal: Terminal, sampan: Sampan) -> None:
    terminal.enter("sampan run -it --name web busybox vi /note")
    terminal.shows("- /note")
    terminal.type("ihello from vi")
    terminal.shows("I /note")
    terminal.type("", "Escape")
    terminal.shows("- /note")  # no more I: what follows at once would belong to the Escape
    terminal.enter(":wq")
    terminal.prompts("host$")

    terminal.enter("clear; sampan start -a web >/dev/null & sampan ps -aq | wc -l")
    terminal.shows("1")
    sampan("rm", "-f", "web")


def test_job_control_in_bash(terminal: Terminal) -> None:
    if not os.path.exists("/bin/bash"):
        pytest.skip("kernel: none, this host has no bash")
    terminal.enter("sampan run -it --rm -e PS1='in> ' host bash --norc --noprofile")
    terminal.shows("in>")
    terminal.enter("sh -c 'echo be''gun; exec sleep 100'")
    terminal.shows("begun")
    terminal.type("", "C-z")
    terminal.shows("Stopped")
    terminal.prompts("in>")
    terminal.enter("fg")
    terminal.prompts("sh -c 'echo be''gun; exec sleep 100'")
    terminal.type("", "C-c")
    terminal.prompts("in>")
    terminal.enter("jobs; echo back $((1+1))")

    screen = terminal.shows("back 2")
    assert "no job control" not in screen
    terminal.enter("exit")
    terminal.prompts("host$")


def test_a_terminal_is_refused_where_there_is_none(sampan: Sampan) -> None:
    said = sampan.fails(1, "run", "-it", "--rm", "busybox", "true")

    assert "the input device is not a TTY" in said.err


def test_output_with_a_terminal_has_carriage_returns_as_dockers(sampan: Sampan) -> None:
    assert sampan("run", "-t", "--rm", "busybox", "echo", "hi").out == "hi\r\n"
    sampan("run", "-dt", "--name", "web", "busybox", "sh", "-c", "echo logged; sleep 100")
    wait_until(lambda: sampan("logs", "web").out == "logged\r\n")


def test_a_prune_asks_with_what_a_yes_would_remove(terminal: Terminal, sampan: Sampan) -> None:
    sampan("create", "--name", "idle", "busybox", "true")

    terminal.enter("sampan container prune")
    screen = terminal.shows("[y/N]")
    assert "Would be removed:" in screen
    assert "container   idle      0B" in screen
    terminal.enter("y")

    terminal.shows("Total reclaimed space: 0B")
    assert sampan("ps", "-aq").lines == []
