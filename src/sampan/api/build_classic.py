"""What the classic builder says while it builds: `Step 2/5 : RUN make`, ` ---> Using cache`, `Successfully built …`.

Scripts and libraries look for these lines (docker-py for the last). Stages run side by side; they are told one after
another: what a step says while another one is being told waits for its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from sampan.spec import build, docker
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[[docker.ProgressMessage], None]

_SHORT = 12
_PREFIX, _SUFFIX = 'process "', '" did not complete successfully'


_UNNAMED = "stage-"


class Classic:
    """Takes a build's events, writes messages. `quiet`: only the image's id, and everything where the build fails."""

    def __init__(self, write: Write, *, quiet: bool) -> None:
        self._out = write
        self._quiet = quiet
        self._kept: list[docker.ProgressMessage] = []
        self._current: int | None = None  # the step that is told as it happens
        self._next = 1  # the position of what is told after that
        self._waiting: dict[int, list[build.BuildEvent]] = {}
        self._steps: dict[int, build.StepBegan] = {}

    def take(self, event: build.BuildEvent) -> None:
        """Tell one event, or keep it until its step's turn."""
        if isinstance(event, build.Built):
            self._built(event)
            return
        if isinstance(event, build.StepFailed):
            self._failed(event)
            return
        if isinstance(event, build.StepBegan):
            self._steps[event.step] = event
            if self._current is None and event.position <= self._next:
                self._current = event.step
        if event.step in self._steps and event.step != self._current:
            self._waiting.setdefault(event.step, []).append(event)
            return
        self._tell(event)
        if isinstance(event, build.StepEnded):
            self._turn()

    def _turn(self) -> None:
        """Go on with the next step: tell what it has said meanwhile, and so on while they are at their end."""
        while self._current is not None:
            self._next = max(self._next, self._steps[self._current].position + 1)
            ready = [step for step in self._waiting if self._steps[step].position <= self._next]
            self._current = min(ready, key=lambda step: (self._steps[step].position, step), default=None)
            if self._current is None or not self._told(self._current):
                return

    def _told(self, step: int) -> bool:
        """Tell what a step has said; return whether that was all of it."""
        events = self._waiting.pop(step)
        for event in events:
            self._tell(event)
        return isinstance(events[-1], build.StepEnded)

    def _rest(self) -> None:
        """Tell all that is still kept."""
        for step in sorted(self._waiting, key=lambda step: (self._steps[step].position, step)):
            self._told(step)

    def _tell(self, event: build.BuildEvent) -> None:
        match event:
            case build.StepBegan(position=position, positions=positions):
                if position:
                    self._stream(f"Step {position}/{positions} : {_written(event)}")
                    self._stream("\n")
            case build.StepOutput(stream=stream, data=data):
                text = data.decode(errors="replace")
                self._stream(f"\x1b[91m{text}\x1b[0m" if stream == "stderr" else text)
            case build.StepEnded():
                self._ended(event)
            case build.Transfer():
                self._transfer(event)
            case build.Warned(message=message, rule=rule):
                if not rule:  # Docker's classic builder knows no rules
                    self._stream(f"[Warning] {message}\n")
            case build.StepFailed() | build.Built():
                pass
            case _:
                assert_never(event)

    def _ended(self, event: build.StepEnded) -> None:
        began = self._steps.get(event.step)
        if began is None or not began.position:
            return
        is_from = began.text.upper().startswith("FROM ")
        if event.cached and not is_from:
            self._stream(" ---> Using cache\n")
        if event.layer:
            self._stream(f" ---> {event.layer.removeprefix('sha256:')[:_SHORT]}\n")

    def _transfer(self, event: build.Transfer) -> None:
        if not event.status:
            return
        detail = docker.ProgressDetail(current=event.current, total=event.total) if event.current else None
        self._write(docker.ProgressMessage(status=event.status, progress_detail=detail, id=event.what))

    def _built(self, event: build.Built) -> None:
        self._rest()
        for image in event.images:
            self._write(docker.ProgressMessage(aux={"ID": image.id}))
            self._stream(f"Successfully built {image.id.removeprefix('sha256:')[:_SHORT]}\n")
        for name in event.names:
            self._stream(f"Successfully tagged {Reference.parse(name).familiar()}\n")
        if self._quiet:
            for image in event.images:
                self._out(docker.ProgressMessage(stream=f"{image.id}\n"))

    def _failed(self, event: build.StepFailed) -> None:
        self._rest()
        for kept in self._kept:
            self._out(kept)
        message, code = event.message, event.exit_code or 0
        if code and message.startswith(_PREFIX) and _SUFFIX in message:
            command = message.removeprefix(_PREFIX).rpartition(_SUFFIX)[0]
            message = f"The command '{command}' returned a non-zero code: {code}"
        self.fail(message, event.hint, code)

    def fail(self, message: str, hint: str = "", code: int = 0) -> None:
        """Tell that it failed."""
        detail = docker.ErrorDetail(code=code, message=message, hint=hint)
        self._out(docker.ProgressMessage(error_detail=detail, error=message))

    def _stream(self, text: str) -> None:
        self._write(docker.ProgressMessage(stream=text))

    def _write(self, message: docker.ProgressMessage) -> None:
        if self._quiet:
            self._kept.append(message)
        else:
            self._out(message)


def _written(event: build.StepBegan) -> str:
    """Return an instruction as it stands in the Dockerfile: with the name that a FROM gives."""
    is_named = event.text.startswith("FROM ") and event.stage and not event.stage.startswith(_UNNAMED)
    return f"{event.text} AS {event.stage}" if is_named else event.written or event.text
