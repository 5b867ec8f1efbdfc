"""The words of a mount's `options`, told apart: what the kernel has flags for, and what is a filesystem's own. Pure.

The table is the specification's (config.md, "Linux mount options"), in mount(8)'s words. A later word overrules an
earlier one that says otherwise, as there.
"""

from __future__ import annotations

from typing import NamedTuple

PROPAGATIONS = frozenset({
    "private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable",
})  # fmt: skip
BINDS = frozenset({"bind", "rbind"})
IDMAPS = frozenset({"idmap", "ridmap"})

# What clears a flag → the flag's own word.
_CLEARS = {
    "rw": "ro", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "atime": "noatime", "diratime": "nodiratime",
    "norelatime": "relatime", "nostrictatime": "strictatime", "symfollow": "nosymfollow",
    "async": "sync", "nolazytime": "lazytime", "nomand": "mand", "noiversion": "iversion", "noacl": "acl",
    "loud": "silent", "nodirsync": "dirsync",
}  # fmt: skip
_ATTRIBUTES = frozenset({
    "ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime", "nosymfollow",
})  # fmt: skip
_SUPERBLOCK = frozenset({"sync", "dirsync", "lazytime", "mand", "iversion", "acl", "silent"})
_FLAGS = _ATTRIBUTES | _SUPERBLOCK
_RECURSIVE = {f"r{word}": word for word in (*_ATTRIBUTES, *(c for c, f in _CLEARS.items() if f in _ATTRIBUTES))}


class Options(NamedTuple):
    """A mount's options. `flags` are words of mount(8) to set, `cleared` words that clear one of the mount's."""

    flags: tuple[str, ...] = ()
    superblock: tuple[str, ...] = ()  # of `flags` those that are the filesystem's, not the mount's
    cleared: tuple[str, ...] = ()
    recursive: tuple[str, ...] = ()  # of either kind, for all mounts below too; without their r
    propagation: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()  # bind, rbind, remount, tmpcopyup, idmap, ridmap
    data: tuple[str, ...] = ()  # all else


_WORDS = BINDS | IDMAPS | {"remount", "tmpcopyup"}
KNOWN = _FLAGS | _CLEARS.keys() | _RECURSIVE.keys() | PROPAGATIONS | _WORDS | {"defaults"}
"""All that are not a filesystem's own."""


def read(options: tuple[str, ...]) -> Options:
    """Sort a mount's options."""
    flags: dict[str, None] = {}
    cleared: dict[str, None] = {}
    recursive: dict[str, None] = {}
    propagation, data = [], []
    for word in options:
        if word in _FLAGS:
            flags[word] = None
            for other in [c for c in cleared if _CLEARS[c] == word]:
                del cleared[other]
        elif word in _CLEARS:
            cleared[word] = None
            flags.pop(_CLEARS[word], None)
        elif word in _RECURSIVE:
            word = _RECURSIVE[word]  # noqa: PLW2901
            opposite = [w for w in recursive if _CLEARS.get(w) == word or _CLEARS.get(word) == w]
            for other in opposite:
                del recursive[other]
            recursive[word] = None
        elif word in PROPAGATIONS:
            propagation.append(word)
        elif word not in _WORDS and word != "defaults":
            data.append(word)
    return Options(
        tuple(flags),
        tuple(w for w in flags if w in _SUPERBLOCK),
        tuple(w for w in cleared if _CLEARS[w] in _ATTRIBUTES),
        tuple(recursive),
        tuple(propagation),
        _WORDS & set(options),
        tuple(data),
    )
