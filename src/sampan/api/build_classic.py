"""What the classic builder says while it builds: `Step 2/5 : RUN make`, ` ---> Using cache`, `Successfully built …`.

Scripts and libraries look for these lines (docker-py for the last). Stages run side by side; they are told one after
another: what a step says while another one is being told waits for its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from sampan.spec import build, docker

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
        self._current: int | None = None
        self._waiting: dict[int, list[build.BuildEvent]] = {}
        self._steps: dict[int, build.StepBegan] = {}
        self._tags: tuple[str, ...] = ()

    def take(self, event: build.BuildEvent) -> None:
        """Tell one event, or keep it until its step's turn."""
        if isinstance(event, build.Built):
            self._built(event)
            return
        if isinstance(event, build.StepFailed):
            self._failed(event)
            return
        step = event.step
        if isinstance(event, build.StepBegan):
            self._steps[step] = event
            self._current = step if self._current is None else self._current
        if step in self._steps and step != self._current:
            self._waiting.setdefault(step, []).append(event)
            return
        self._tell(event)
        if isinstance(event, build.StepEnded):
            self._next()

    def _next(self) -> None:
        """Tell what others have said meanwhile: the first of them that began, and on while they are at their end."""
        self._current = None
        while self._waiting and self._current is None:
            self._current = min(self._waiting)
            ended = False
            for event in self._waiting.pop(self._current):
                self._tell(event)
                ended = ended or isinstance(event, build.StepEnded)
            if ended:
                self._current = None

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
        self._next()
        for image in event.images:
            self._write(docker.ProgressMessage(aux={"ID": image.id}))
            self._stream(f"Successfully built {image.id.removeprefix('sha256:')[:_SHORT]}\n")
        for name in event.names:
            self._stream(f"Successfully tagged {name}\n")
        if self._quiet:
            for image in event.images:
                self._out(docker.ProgressMessage(stream=f"{image.id}\n"))

    def _failed(self, event: build.StepFailed) -> None:
        for waiting in self._waiting.pop(event.step, ()):
            self._tell(waiting)
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
    return f"{event.text} AS {event.stage}" if is_named else event.text
