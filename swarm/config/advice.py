"""Word the errors of run files and node files: values in plain words, and the nearest key for a typo.

Core: pure functions of strings.
"""

import difflib
from collections.abc import Mapping, Sequence

KEY_CHARS_MAX = 60
"""Characters of an unknown key that are shown; the file may come from a stranger."""
_DEVICE = "String should match pattern '^(auto|cpu|mps|cuda(:[0-9]{1,2})?)$'"
_RUN_NAME = "String should match pattern '^[a-z0-9][a-z0-9-]{0,39}$'"
_PHRASES = {
    _DEVICE: "must be auto, cpu, cuda, cuda:N or mps",
    _RUN_NAME: "must be 1 to 40 of a-z, 0-9 and -, not - first",
    "Input should": "must",
    "Tuple should": "must",
    "String should": "must",
    "a valid tuple": "a list",
    " after validation": "",
    "valid integer": "whole number",
}
"""Phrases of pydantic's messages and their wording for a TOML file, replaced in this order."""
_MENDS = {
    (
        "data",
        "tokenizer",
    ): "swarm data build FOLDER --tokenizer FILE --out NAME, and dataset = NAME",
    ("data", "source"): 'source = ["FOLDER", "FILE.txt"] under [data]',
}
"""Hints by (section, key), for settings that editing the value alone does not mend."""


def in_plain_words(message: str) -> str:
    """Return a pydantic message worded for a TOML file."""
    for phrase, wording in _PHRASES.items():
        message = message.replace(phrase, wording)
    return message


def mend(path: Sequence[str], name: str) -> str:
    """Return the one action that mends a setting of the file ``name``; ``path`` is its section and key."""
    return _MENDS.get((path[0], path[1] if len(path) > 1 else ""), f"edit {name}")


def nearest(key: str, known: Sequence[str], *, cutoff: float = 0.6) -> str:
    """Return the known key that was probably meant; empty if none is close.

    A key is close if it is spelled alike (``cutoff`` is difflib's least similarity, 0 to 1) or has these
    initials (``lr``).
    """
    if near := difflib.get_close_matches(key, known, n=1, cutoff=cutoff):
        return near[0]
    initials = {"".join(word[0] for word in name.split("_")): name for name in known if "_" in name}
    return initials.get(key.lower(), "")


def advice(key: str, known: Sequence[str], sections: Mapping[str, Sequence[str]]) -> str:
    """Return the end of an error about an unknown key: a close key here or in another section, else all keys.

    ``sections`` are the settings of each section of the file.
    """
    if near := nearest(key, known):
        return f'; did you mean "{near}"?'
    for section, settings in sections.items():
        if near := nearest(key, settings, cutoff=0.8):
            return f'; did you mean "{near}" in [{section}]?'
    return f"; known are: {', '.join(known)}"
