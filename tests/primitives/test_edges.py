"""A list of what was sent shows what it has at a place, or that it has nothing there, and nothing else."""

import pytest

from swarm.errors import BrokenPromise
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.edges import (
    ENTRY_BYTES_MAX,
    SENT_MAX,
    ActivationSent,
    GradientSent,
    Place,
    SentEntry,
    SentKind,
    SentOpening,
    are_in_order,
    check_opening,
    entry_at,
    open_at,
    open_place,
    sent_leaf,
    sent_root,
    signed_bytes,
)
from swarm.primitives.merkle import merkle_root
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex

KEY = SecretKey.from_seed(bytes(32))
NUMBER_MAX = (1 << 53) - 1


def some(name: str) -> Digest:
    return digest("test", name.encode())


def microbatch(step: int, number: int = 0, *, window: int = 0) -> SentEntry:
    name = f"{step} {number}"
    kind, up, down = SentKind.MICROBATCH, some(f"up {name}"), some(f"down {name}")
    return SentEntry(kind, 0, step, number, window, up, down)


def fragment(exchange: int, codec: int = 0) -> SentEntry:
    up = some(f"fragment {exchange} {codec}")
    return SentEntry(SentKind.FRAGMENT, exchange, codec, 0, 1, up, b"")


ENTRIES = (microbatch(2), microbatch(4), microbatch(4, 1), fragment(0), fragment(3, 2))
ROOT = sent_root(ENTRIES)
BEFORE, BETWEEN, BEHIND = (
    (SentKind.MICROBATCH, 0, 1, 9),
    (SentKind.MICROBATCH, 0, 3, 0),
    (SentKind.FRAGMENT, 3, 3, 0),
)


def shown(entries: tuple[SentEntry, ...], place: Place) -> SentEntry | None:
    return entry_at(sent_root(entries), open_place(entries, place), place)


def refused(opening: SentOpening | None, place: Place, root: Digest = ROOT) -> str:
    with pytest.raises(BrokenPromise) as caught:
        entry_at(root, opening, place)
    return str(caught.value)


@pytest.mark.parametrize("count", range(1, len(ENTRIES) + 1))
def test_every_entry_of_a_list_is_found_at_its_place(count: int) -> None:
    entries = ENTRIES[:count]
    for entry in entries:
        opening = open_place(entries, entry.place)
        assert opening is not None
        assert (opening.count, opening.entries) == (count, (entry,))
        assert shown(entries, entry.place) == entry


@pytest.mark.parametrize("count", range(1, len(ENTRIES) + 1))
def test_a_list_without_an_entry_proves_that_it_has_none(count: int) -> None:
    for missing in range(count):
        entries = (*ENTRIES[:missing], *ENTRIES[missing + 1 : count])
        assert shown(entries, ENTRIES[missing].place) is None
        assert all(shown(entries, entry.place) == entry for entry in entries)


@pytest.mark.parametrize(
    ("place", "index", "number"), [(BEFORE, 0, 1), (BETWEEN, 0, 2), (BEHIND, 4, 1)]
)
def test_one_end_or_two_neighbours_prove_that_nothing_is_there(
    place: Place, index: int, number: int
) -> None:
    opening = open_place(ENTRIES, place)
    assert opening == open_at(ENTRIES, index, number)
    assert entry_at(ROOT, opening, place) is None


def test_two_neighbours_show_what_one_of_them_is_too() -> None:
    for index, place in ((1, ENTRIES[1].place), (0, ENTRIES[1].place)):
        assert entry_at(ROOT, open_at(ENTRIES, index, 2), place) == ENTRIES[1]


def test_an_empty_list_has_no_root_and_nothing_to_show() -> None:
    assert sent_root(()) == NO_DIGEST
    assert open_place((), BETWEEN) is None
    assert entry_at(NO_DIGEST, None, BETWEEN) is None


def test_nothing_is_proven_by_showing_nothing_of_a_list_that_has_something() -> None:
    assert "not empty" in refused(None, BETWEEN)
    assert refused(open_at(ENTRIES, 0), BEFORE, NO_DIGEST), "nor by a part of another list"


@pytest.mark.parametrize(
    ("index", "number", "place"),
    [
        (1, 1, BEFORE),  # not the first
        (0, 1, BETWEEN),  # the first, and the place is behind it
        (0, 2, BEHIND),  # neighbours, and the place is behind both
        (2, 2, BETWEEN),  # neighbours, and the place is before both
        (3, 1, BEHIND),  # not the last
        (4, 1, BETWEEN),  # the last, and the place is before it
        (2, 1, ENTRIES[1].place),  # somewhere beside what is there
        (1, 1, ENTRIES[2].place),
    ],
)
def test_entries_that_do_not_stand_around_a_place_prove_nothing(
    index: int, number: int, place: Place
) -> None:
    opening = open_at(ENTRIES, index, number)
    check_opening(ROOT, opening)
    assert "do not stand where" in refused(opening, place)


GOOD = open_at(ENTRIES, 0, 2)
SPREAD = replace(
    GOOD,
    entries=(ENTRIES[0], ENTRIES[2]),
    paths=(GOOD.paths[0], open_at(ENTRIES, 2).paths[0]),
)


@pytest.mark.parametrize(
    "opening",
    [
        replace(GOOD, entries=(), paths=()),
        replace(GOOD, paths=GOOD.paths[:1]),
        replace(GOOD, entries=ENTRIES[:3], paths=(*GOOD.paths, open_at(ENTRIES, 2).paths[0])),
        replace(GOOD, paths=GOOD.paths[::-1]),
        replace(GOOD, paths=(GOOD.paths[0], GOOD.paths[1][:-1])),
        replace(GOOD, paths=(GOOD.paths[0], (*GOOD.paths[1], bytes(32)))),
        replace(GOOD, entries=GOOD.entries[::-1]),
        replace(GOOD, entries=(GOOD.entries[0], replace(GOOD.entries[1], window=7))),
        replace(GOOD, index=1),
        replace(GOOD, index=-1),
        replace(GOOD, count=4),
        replace(GOOD, count=6),
        replace(GOOD, count=8),
        replace(GOOD, count=1 << 60),
        SPREAD,
        open_at(ENTRIES[:4], 0, 2),
    ],
)
def test_an_opening_that_is_not_of_its_list_proves_nothing(opening: SentOpening) -> None:
    with pytest.raises(BrokenPromise):
        check_opening(ROOT, opening)
    refused(opening, BETWEEN)


def test_a_longer_list_cannot_be_shown_as_a_shorter_one() -> None:
    """Padding of a list is no entry, so its last entry is the last one in every opening."""
    opening = open_at(ENTRIES[:3], 2)
    assert entry_at(sent_root(ENTRIES[:3]), opening, BEHIND) is None
    refused(replace(open_at(ENTRIES[:4], 2), count=3), BEHIND, sent_root(ENTRIES[:4]))


def test_a_place_is_there_once_and_in_its_order() -> None:
    assert are_in_order(())
    assert are_in_order(ENTRIES[:1])
    assert are_in_order(ENTRIES)
    assert not are_in_order(ENTRIES[::-1])
    assert not are_in_order((*ENTRIES, ENTRIES[-1]))
    assert not are_in_order((ENTRIES[0], replace(ENTRIES[0], window=1)))
    assert not are_in_order((ENTRIES[0], ENTRIES[2], ENTRIES[1]))


def test_every_field_of_an_entry_is_under_the_root_and_so_is_its_order() -> None:
    entry = ENTRIES[0]
    others = [
        replace(entry, **{name: 7}) for name in ("kind", "first", "second", "third", "window")
    ]
    others += [replace(entry, up=b""), replace(entry, down=b"")]
    assert len({sent_leaf(one) for one in (entry, *others)}) == 8
    assert merkle_root([sent_leaf(one) for one in ENTRIES]) == ROOT
    assert len({sent_root(ENTRIES), sent_root(ENTRIES[::-1]), sent_root(ENTRIES[:-1])}) == 3


def test_the_longest_entry_fits_into_its_bound() -> None:
    longest = replace(
        ENTRIES[0],
        kind=SentKind.FRAGMENT,
        first=NUMBER_MAX,
        second=NUMBER_MAX,
        third=NUMBER_MAX,
        window=NUMBER_MAX,
    )
    assert len(encode(longest)) <= ENTRY_BYTES_MAX


def test_the_longest_list_shows_any_place_with_a_path_of_fourteen() -> None:
    entries = [microbatch(step) for step in range(0, 2 * SENT_MAX, 2)]
    opening = open_place(entries, microbatch(2 * SENT_MAX - 3).place)
    assert opening is not None
    assert opening.index == SENT_MAX - 2
    assert [len(path) for path in opening.paths] == [14, 14]
    assert entry_at(sent_root(entries), opening, microbatch(2 * SENT_MAX - 3).place) is None


ACTIVATION = ActivationSent(
    run=RunIndex(1),
    round=RoundIndex(7),
    step=5,
    microbatch=2,
    origin=9,
    stage=StageIndex(1),
    source=0,
    destination=3,
    incarnation=1,
    version=12,
    budget_ms=1500,
    batch=2,
    length=3,
    features=4,
    wire=some("wire"),
    signature=b"",
)
GRADIENT = GradientSent(
    run=RunIndex(1),
    round=RoundIndex(7),
    step=5,
    microbatch=2,
    origin=9,
    stage=StageIndex(1),
    source=0,
    destination=3,
    requested_by=1,
    version=12,
    incarnation=4,
    activations=some("wire"),
    loss_micro=0,
    tokens=6,
    wire=some("gradient"),
    signature=b"",
)


def test_what_goes_up_and_what_comes_down_of_a_micro_batch_have_one_place() -> None:
    assert ACTIVATION.place == GRADIENT.place == (SentKind.MICROBATCH, 9, 5, 2)


@pytest.mark.parametrize("statement", [ACTIVATION, GRADIENT], ids=lambda s: type(s).__name__)
def test_a_signature_covers_every_field_but_itself(
    statement: ActivationSent | GradientSent,
) -> None:
    signature = KEY.sign("test", signed_bytes(statement))
    assert signed_bytes(replace(statement, signature=signature)) == signed_bytes(statement)
    names = [name for name in statement.__struct_fields__ if name != "signature"]
    values = (getattr(statement, name) for name in names)
    others = (some("other") if isinstance(value, bytes) else value + 1 for value in values)
    changed = {
        signed_bytes(replace(statement, **{name: other}))
        for name, other in zip(names, others, strict=True)
    }
    assert len(changed | {signed_bytes(statement)}) == len(names) + 1
