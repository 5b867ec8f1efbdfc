"""Users and passwords: a file as `htpasswd -B` writes it, `USER:BCRYPT-HASH` a line; read again when it changes."""

from __future__ import annotations

import binascii
import hmac
import os
import re
import threading
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import InvalidInput, Unsupported, doing
from sampan.registry.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.registry.log import Log

_HASH = re.compile(r"\$2[aby]\$(0[4-9]|1[0-9]|2[0-9]|3[01])\$[./A-Za-z0-9]{53}")
_REMEMBERED = 1024
_LONGEST = 4096
_PASSWORD_MAX = 72  # of which bcrypt uses the first so many bytes, as htpasswd does
_PATIENCE_S = 15


class Login(NamedTuple):
    """What a client says who it is."""

    user: str
    password: bytes


class Htpasswd:
    """Checks logins. bcrypt is slow on purpose, so what was right is remembered, hashed with a key of this process."""

    def __init__(self, path: str, log: Log) -> None:
        self._path = path
        self._log = log
        self._check = _bcrypt()
        self._lock = threading.Lock()
        # Passwords that are guessed must not take all cores from those who are known already.
        self._turns = threading.BoundedSemaphore(max(1, (os.cpu_count() or 1) - 1))
        self._key = os.urandom(32)
        self._right: dict[bytes, None] = {}
        self._seen = _state(path)
        with doing("can't read --htpasswd"):
            self._hashes = read(path)
        # Whoever asks for a user who isn't there must wait as long as for one who is.
        self._nobody = next(iter(self._hashes.values()), b"$2b$10$" + b"." * 53)

    def is_right(self, login: Login) -> bool:
        """Tell whether there is such a user with this password. Raises Refusal when too many ask at once."""
        hashed = self._current().get(login.user)
        known = hmac.digest(self._key, b"\0".join((login.user.encode(), login.password, hashed or b"")), "sha256")
        if hashed is not None and self._remembers(known):
            return True
        if not self._turns.acquire(timeout=_PATIENCE_S):
            raise Refusal("TOOMANYREQUESTS", "too many logins at once", headers={"Retry-After": "5"})
        try:
            if hashed is not None and self._remembers(known):  # somebody was first, with the same
                return True
            right = self._check(login.password[:_PASSWORD_MAX], hashed or self._nobody)
        except ValueError:  # a NUL in the password
            return False
        finally:
            self._turns.release()
        if right and hashed is not None:
            with self._lock:
                self._right[known] = None
                if len(self._right) > _REMEMBERED:
                    del self._right[next(iter(self._right))]
            return True
        return False

    def _remembers(self, known: bytes) -> bool:
        with self._lock:
            return known in self._right

    def _current(self) -> dict[str, bytes]:
        """Return the users, of the file as it is now; as it was, where that is of no use."""
        with self._lock:
            state = _state(self._path)
            if state != self._seen:
                self._seen = state
                try:
                    self._hashes = read(self._path)
                except (InvalidInput, OSError) as e:
                    self._log.problem(f"{self._path} has changed and is of no use: {e}")
            return self._hashes


def read(path: str) -> dict[str, bytes]:
    """Return the users' hashes. Raises InvalidInput with the line that is wrong, OSError."""
    found = {}
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            user, colon, hashed = text.partition(":")
            if not colon or not user:
                raise InvalidInput(
                    f"line {number} of {path} does not read USER:HASH", "htpasswd -B FILE USER writes it"
                )
            if not _HASH.fullmatch(hashed):
                raise InvalidInput(
                    f"line {number} of {path}: the hash of {user!r} is not bcrypt's",
                    "set the password again with htpasswd -B",
                )
            found[user] = hashed.encode()
    return found


def login(header: str) -> Login | None:
    """Read an Authorization header of the scheme Basic; None for others, and for what is malformed."""
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "basic" or len(given) > _LONGEST:
        return None
    try:
        user, colon, password = binascii.a2b_base64(given.strip(), strict_mode=True).partition(b":")
        return Login(user.decode(), password) if colon else None
    except ValueError:  # also of the decoding
        return None


def _state(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _bcrypt() -> Callable[[bytes, bytes], bool]:
    try:
        import bcrypt
    except ImportError:
        raise Unsupported(
            "can't check passwords: the Python package bcrypt is not installed", "pip install 'sampan[registry]'"
        ) from None
    return bcrypt.checkpw
