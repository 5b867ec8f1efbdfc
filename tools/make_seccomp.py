"""Compile the default seccomp profile for each architecture: src/sampan/spec/defaults/seccomp.json → seccomp/*.bpf.

Run it after a change of the profile or of its compiler, with libseccomp2 installed. A test compares what is shipped
with what this makes.

    python tools/make_seccomp.py [DIRECTORY]
"""

from __future__ import annotations

import sys
from pathlib import Path

from sampan.kernel import seccomp
from sampan.spec.defaults.seccomp import ARCHITECTURES, VARIANTS

DEFAULTS = Path(__file__).resolve().parent.parent / "src/sampan/spec/defaults"
KERNEL = (5, 10)  # the oldest that sampan runs on: the profile has nothing that depends on it


def filters() -> dict[str, bytes]:
    """Compile every variant for every architecture: file name → BPF."""
    profile = seccomp.default_profile()
    return {
        f"{architecture}-{variant}.bpf": seccomp.compile(profile, architecture, capabilities, KERNEL)
        for architecture in ARCHITECTURES
        for variant, capabilities in VARIANTS.items()
    }


def main() -> None:
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULTS / "seccomp"
    directory.mkdir(exist_ok=True)
    for name, bpf in filters().items():
        (directory / name).write_bytes(bpf)
        print(f"{name:24} {len(bpf) // 8:5} instructions")


if __name__ == "__main__":
    main()
