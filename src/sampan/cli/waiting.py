"""Waiting for a container's end beside its streams, also while the server is killed and comes up again."""

from __future__ import annotations

import select
import time

from sampan.cli.failure import Failure
from sampan.cli.output import warn
from sampan.cli.session import ServerError, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.client.wire import Response

_TRIES = 20
_PAUSE_S = 0.25
_NEAR_MS = 2000


class Waiting:
    """A request for the exit status that is under way. The server has taken it when this object exists."""

    def __init__(self, session: Session, target: str, condition: str) -> None:
        """`target` is the container's path: /containers/ID."""
        self._session = session
        self._target = target
        self._condition = condition
        self._text = b""
        self._done = False
        self._response: Response = self._ask(condition)

    def _ask(self, condition: str) -> Response:
        return self._session.open("POST", f"{self._target}/wait?condition={condition}")

    @property
    def _name(self) -> str:
        return self._target.rpartition("/")[2][:12]

    def fileno(self) -> int:
        """The descriptor that can be read when there is news."""
        return self._response.fileno()

    def poll(self) -> int:
        """Read what has come; return the descriptor to watch from now on, -1 when the answer is there."""
        from sampan.client.wire import ConnectionLost

        try:
            self._text += self._response.poll() or b""
            self._done = self._response.done
        except ConnectionLost:
            self._ask_again()
        return -1 if self._done else self.fileno()

    def exit_status(self, *, streamed: bool = False) -> int:
        """Return the program's exit status, waiting for it if need be. `streamed`: its output has just ended."""
        from sampan.client.jsontext import loads
        from sampan.client.wire import ConnectionLost

        if streamed:
            self._say_if_output_is_lost()
        while True:
            try:
                if not self._done:
                    self._text += self._response.read()
                answer = loads(self._text)
                break
            except (ConnectionLost, ValueError):
                self._ask_again()
        error = (answer.get("Error") or {}).get("Message")
        if error:
            raise Failure(f"Error waiting for container: {error}", status=125)
        return int(answer["StatusCode"])

    def _say_if_output_is_lost(self) -> None:
        """The stream has ended: the program's end is near, unless the process at the stream's other end was killed."""
        news = select.poll()
        news.register(self.fileno(), select.POLLIN)
        if not self._done and not news.poll(_NEAR_MS) and self._runs():
            warn(f"lost the output of {self._name}: its supervisor was killed; it runs on, and its log has the rest")

    def _runs(self) -> bool:
        """Whether it has not ended: one that has may take long to be removed, which is what `run --rm` waits for."""
        from sampan.errors import SampanError

        try:
            return bool(self._session.ask("GET", f"{self._target}/json").json()["State"]["Running"])
        except (ServerError, SampanError):
            return False

    def _ask_again(self) -> None:
        """The server went away. Its end may have been meanwhile: "next-exit" would wait for the one after it."""
        from sampan.errors import SampanError

        self._text, self._done = b"", False
        condition = "removed" if self._condition == "removed" else "not-running"
        for turn in range(_TRIES):
            time.sleep(_PAUSE_S if turn else 0)  # at once: the keeper's socket holds the request until a server is up
            try:
                self._response = self._ask(condition)
                return
            except ServerError as e:
                raise Failure(f"can't learn the exit status of {self._name}: {e.text}", status=125) from None
            except SampanError:
                continue
        raise Failure(f"can't learn the exit status of {self._name}: the server does not come up", status=125)
