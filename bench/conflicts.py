"""Sixteen clients with conflicting verbs on two containers, over and over: tests/e2e/test_conflicts.py at length.

    python bench/run.py conflicts [--minutes N] [--each N] [--kill] [--seed SEED]

Each round has a new seed, which is printed; `--kill` kills server, keeper and shims meanwhile. The first answer or
state that is not true ends it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time

from instance import stocked
from support.conflicts import ALONE, CONNECTED, REMOVING, VERBS, quarrel, turmoil
from support.sampan import Sampan

ROUNDS = list(itertools.product((VERBS, REMOVING), (ALONE, CONNECTED)))


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--each", type=int, default=40, help="verbs of a client in a round")
    parser.add_argument("--kill", action="store_true", help="kill the instance's processes meanwhile")
    parser.add_argument("--seed", help="one round of this one")
    options = parser.parse_args(words)
    end = time.monotonic() + options.minutes * 60
    with stocked() as sampan:
        while True:
            play(sampan, options.seed or f"{random.SystemRandom().getrandbits(32):x}", options)
            if options.seed or time.monotonic() > end:
                return 0


def play(sampan: Sampan, seed: str, options: argparse.Namespace) -> None:
    for verbs, host in ROUNDS:
        begin = time.monotonic()
        answers = (turmoil if options.kill else quarrel)(sampan, seed, verbs, host, each=options.each)
        refused = sum(answer.status >= 400 for answer in answers)
        longest = max(answers, key=lambda answer: answer.took_s)
        took = f"{time.monotonic() - begin:.1f} s, longest {longest.verb} {longest.took_s:.2f} s"
        print(f"{seed:>8}: {len(answers)} answers, {refused} refused, {took}", flush=True)
    for name in sampan("ps", "-aq").lines:
        sampan("rm", "-f", name)
    assert not (left := sampan.leftovers()), left


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
