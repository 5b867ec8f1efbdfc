"""Change inputs at random and look for what no target may do: `make fuzz`, SECONDS_EACH for each target, or for those
that are named.

A finding is written to a file and shown with its traceback; the seed in it makes the same inputs again.
"""

from __future__ import annotations

import os
import random
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzz.targets import TARGETS
from sampan.errors import SampanError

if TYPE_CHECKING:
    from fuzz.targets import Target

SLOW_S = 5.0
LONGEST = 1 << 16


def changed(target: Target, chance: random.Random) -> bytes:
    """Make an input: a seed, or two put together, changed in a few places."""
    seeds = list(target.seeds)
    data = bytearray(chance.choice(seeds))
    if chance.random() < 0.1:
        other = chance.choice(seeds)
        data = data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 8))):
        change(data, target, chance)
    if target.mend and chance.random() < 0.9:
        target.mend(data)
    return bytes(data[:LONGEST])


def change(data: bytearray, target: Target, chance: random.Random) -> None:
    """Change `data` in one place."""
    place = chance.randrange(len(data) + 1)
    if target.mend and chance.random() < 0.5:  # fields of a header are at its beginning
        place = place // 512 * 512 + chance.choice((0, 100, 108, 116, 124, 136, 156, 157, 257, 329, 345, 386, 482, 483))
        place = min(place, len(data))
    end = min(len(data), place + chance.choice((1, 1, 2, 8, 12, 100, 512)))
    match chance.randrange(6):
        case 0:
            data[place:end] = chance.randbytes(end - place)
        case 1:
            del data[place:end]
        case 2:
            data[place:place] = data[place:end]
        case 3 if place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        case 4 if target.words:
            word = chance.choice(target.words)
            data[place : place + len(word)] = word
        case _ if target.words:
            data[place:place] = chance.choice(target.words)


def check(target: Target, data: bytes) -> str | None:
    """Run a target once; return what is wrong, if anything."""
    begun = time.process_time()
    try:
        target.run(data)
    except SampanError:
        pass
    except Exception:
        return traceback.format_exc()
    took = time.process_time() - begun
    return f"it took {took:.1f} s" if took > SLOW_S else None


def main() -> int:
    seconds = float(os.environ.get("SECONDS_EACH", "60"))
    chosen = sys.argv[1:] or TARGETS
    found = 0
    for name, target in ((name, TARGETS[name]) for name in chosen):
        if target.root and os.geteuid():
            print(f"{name}: only root can")
            continue
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            seed = f"{name} {time.time_ns()}"
            data = changed(target, random.Random(seed))
            count += 1
            if (wrong := check(target, data)) is not None:
                path = Path(f"fuzz-{name}-{found}.bin")
                path.write_bytes(data)
                print(f"{name}: {path}, seed {seed!r}:\n{wrong}")
                found += 1
                break
        print(f"{name}: {count} inputs", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
