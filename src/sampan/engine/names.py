"""Names for containers whose user gave none: an adjective and something of the sea."""

from __future__ import annotations

import random

_ADJECTIVES = (
    "able", "agile", "amber", "ample", "balmy", "basic", "blue", "bold", "brave", "breezy", "brief", "bright",
    "brisk", "broad", "calm", "candid", "chilly", "civil", "clear", "clever", "cosy", "crisp", "curious",
    "daring", "deep", "deft", "dusty", "eager", "early", "easy", "even", "fair", "famous", "fast", "fine", "firm",
    "fleet", "fresh", "gentle", "glad", "golden", "good", "grand", "green", "happy", "hardy", "humble", "ideal",
    "jolly", "keen", "kind", "late", "light", "lively", "loyal", "lucky", "merry", "mighty", "mild", "modest",
    "neat", "nimble", "noble", "open", "patient", "plain", "polite", "prime", "proud", "quick", "quiet", "rapid",
    "ready", "ripe", "robust", "royal", "rustic", "salty", "sandy", "sharp", "silent", "silver", "smart",
    "smooth", "snug", "sober", "solid", "stable", "steady", "still", "stormy", "strong", "sunny", "swift",
    "tidal", "tidy", "tiny", "tough", "tranquil", "true", "upbeat", "valid", "vivid", "warm", "wary", "wide",
    "wild", "windy", "wise", "witty", "young", "zesty",
)  # fmt: skip

_BOATS = (
    "anchor", "ark", "barge", "bark", "bateau", "beacon", "boom", "bow", "brig", "buoy", "canoe", "capstan",
    "caravel", "catboat", "clipper", "coble", "cog", "coracle", "cruiser", "current", "curragh", "cutter", "dhow",
    "dinghy", "dock", "dory", "felucca", "ferry", "fleet", "frigate", "galleon", "galley", "gondola", "halyard",
    "harbour", "helm", "hull", "jetty", "jib", "junk", "kayak", "keel", "ketch", "knarr", "launch", "lighter",
    "lugger", "mast", "oar", "outrigger", "paddle", "pier", "pilot", "pinnace", "pontoon", "port", "prow", "punt",
    "raft", "reef", "rigging", "rudder", "sail", "sampan", "schooner", "scow", "shoal", "skiff", "sloop", "spar",
    "spray", "stern", "surf", "tender", "tide", "tiller", "trawler", "trimaran", "trireme", "tug", "umiak",
    "vessel", "wake", "wave", "wharf", "wherry", "winch", "yacht", "yawl",
)  # fmt: skip


def random_name() -> str:
    """Return a name such as "swift_sampan"; two of them may be alike."""
    return f"{random.choice(_ADJECTIVES)}_{random.choice(_BOATS)}"
