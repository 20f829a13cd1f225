"""Say what is wrong with a key or a value in the words of the file that it stands in.

Core: pure functions of words.
"""

import difflib
from collections.abc import Mapping, Sequence

KEY_CHARS_MAX = 60
"""Shown of what a stranger's file calls a key."""
_DEVICE = "String should match pattern '^(auto|cpu|mps|cuda(:[0-9]{1,2})?)$'"
_RUN_NAME = "String should match pattern '^[a-z0-9][a-z0-9-]{0,39}$'"
_WORDS = {
    _DEVICE: "must be auto, cpu, cuda, cuda:N or mps",
    _RUN_NAME: "must be 1 to 40 of a-z, 0-9 and -, not - first",
    "Input should": "must",
    "Tuple should": "must",
    "String should": "must",
    "a valid tuple": "a list",
    " after validation": "",
    "valid integer": "whole number",
}
"""What pydantic says, in the words of a TOML file; the longest first."""
_MENDS = {
    (
        "data",
        "tokenizer",
    ): "swarm data build FOLDER --tokenizer FILE --out NAME, and dataset = NAME",
    ("data", "source"): 'source = ["FOLDER", "FILE.txt"] under [data]',
}
"""What to do instead, where editing the value does not help."""


def in_plain_words(message: str) -> str:
    """What the library of the forms says of a value, as a person says it."""
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message


def mend(path: Sequence[str], name: str) -> str:
    """The one action that mends a setting of the file ``name``; ``path`` is its section and key."""
    return _MENDS.get((path[0], path[1] if len(path) > 1 else ""), f"edit {name}")


def nearest(key: str, known: Sequence[str], *, cutoff: float = 0.6) -> str:
    """The known key that was meant: spelled alike, or of these initials (``lr``); empty if there is none."""
    if near := difflib.get_close_matches(key, known, n=1, cutoff=cutoff):
        return near[0]
    initials = {"".join(word[0] for word in name.split("_")): name for name in known if "_" in name}
    return initials.get(key.lower(), "")


def advice(key: str, known: Sequence[str], sections: Mapping[str, Sequence[str]]) -> str:
    """The end of a sentence about an unknown key: the nearest one here, or the section where it belongs.

    ``sections`` are the settings of each section of the file.
    """
    if near := nearest(key, known):
        return f'; did you mean "{near}"?'
    for section, settings in sections.items():
        if near := nearest(key, settings, cutoff=0.8):
            return f'; did you mean "{near}" in [{section}]?'
    return f"; known are: {', '.join(known)}"
