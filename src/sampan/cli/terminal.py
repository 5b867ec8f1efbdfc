"""The terminal that we were started in: raw mode that is always undone, its size, the keys that detach."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` imports enum
import os
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Self

    from sampan.cli.session import Session
    from sampan.cli.stream import Conversation
    from sampan.cli.waiting import Waiting


_ENDING = (_signal.SIGHUP, _signal.SIGTERM, _signal.SIGQUIT)


class Raw:
    """Every key goes to the program, none is turned into a signal or echoed; cfmakeraw(3). Undone at the end."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._before: list[object] | None = None
        self._caught: list[int] = []

    def __enter__(self) -> Self:
        if os.isatty(self._descriptor):
            self._before = termios.tcgetattr(self._descriptor)
            self._caught = [n for n in _ENDING if _signal.getsignal(n) == _signal.SIG_DFL]
            for number in self._caught:
                _signal.signal(number, self._end)
            termios.tcsetattr(self._descriptor, termios.TCSANOW, _raw(self._before))  # type: ignore[arg-type]
        return self

    def __exit__(self, *ignored: object) -> None:
        if self._before is not None:
            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)  # type: ignore[arg-type]
            self._before = None
            for number in self._caught:
                _signal.signal(number, _signal.SIG_DFL)

    def _end(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """End by the signal, as we would without a terminal to care for."""
        self.__exit__()
        os.kill(os.getpid(), number)


def _raw(mode: list[object]) -> list[object]:
    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = mode
    assert isinstance(iflag, int)
    assert isinstance(oflag, int)
    assert isinstance(cflag, int)
    assert isinstance(lflag, int)
    assert isinstance(characters, list)
    iflag &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
        | termios.ICRNL | termios.IXON
    )  # fmt: skip
    oflag &= ~termios.OPOST
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    characters = list(characters)
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, characters]


def size() -> tuple[int, int]:
    """Return rows and columns of the terminal at standard output, else input; 0, 0 if there is none."""
    for descriptor in (1, 0, 2):
        try:
            columns, rows = os.get_terminal_size(descriptor)
        except OSError:
            continue
        return rows, columns
    return 0, 0


def follow_size(session: Session, target: str, *, redraw: bool = False) -> None:
    """Tell the engine the terminal's size now and whenever it changes; `target` is …/resize.

    `redraw`: another size comes first, so that a program that has long been running paints its screen again.
    """
    from sampan.cli.signals import ask_quietly

    def tell(*_signal_and_frame: object) -> None:
        rows, columns = size()
        if rows or columns:
            ask_quietly(session, f"{target}?h={rows}&w={columns}")

    _signal.signal(_signal.SIGWINCH, tell)
    if redraw:
        rows, columns = size()
        ask_quietly(session, f"{target}?h={rows + 1}&w={columns + 1}")
    tell()


def detach_keys(session: Session, text: str) -> tuple[str, bytes]:
    """Return the keys as written and as bytes: the flag, config.json's detachKeys, or ctrl-p,ctrl-q."""
    from sampan.cli.failure import Failure

    text = text or str(session.config().get("detachKeys") or "")
    try:
        return text, parse_keys(text or "ctrl-p,ctrl-q")
    except ValueError:
        raise Failure(f"invalid detach keys ({text}) provided", "write them as ctrl-p,ctrl-q") from None


def parse_keys(text: str) -> bytes:
    r"""Return the bytes of "ctrl-p,ctrl-q": single characters, or ctrl- with a letter or one of @[\]^_."""
    keys = bytearray()
    for key in text.split(","):
        control = key.removeprefix("ctrl-")
        code = ord(key) if len(key) == 1 else ord(control.upper()) - 64 if len(control) == 1 and key != control else -1
        if not 0 <= code < (128 if len(key) == 1 else 32):
            raise ValueError(text)
        keys.append(code)
    return bytes(keys)


def check_tty(*, wanted: bool) -> None:
    """Refuse to give a terminal to a program whose input is a pipe of ours, as Docker's client does."""
    from sampan.cli.failure import Failure

    if wanted and not os.isatty(0):
        raise Failure("the input device is not a TTY", "leave -t out where the input is a pipe or a file")


def converse_raw(
    session: Session, talk: Conversation, resize: str, waiting: Waiting | None = None, *, redraw: bool = False
) -> bool:
    """Carry a terminal's streams in raw mode; False if the detach keys were typed."""
    from sampan.cli.output import warn
    from sampan.cli.stream import Detached

    follow_size(session, resize, redraw=redraw)
    try:
        with Raw():
            if waiting is None:
                talk.run()
            else:
                talk.run(waiting.fileno(), waiting.poll)
    except Detached:
        warn("read escape sequence")
        return False
    return True
