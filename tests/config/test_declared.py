"""Every key of a run file and every field of a spec has bounds, and says which; new ones are covered here."""

import random
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import annotated_types
import pytest

from swarm.config.bounds import BOUNDS, check_genesis, check_spec
from swarm.config.load import parse_node_file, parse_run_file
from swarm.config.schema import NodeConfig, RunFile, Section
from swarm.config.spec import Genesis, RunSpec
from swarm.errors import BadConfig, InvalidStatement, Reason
from swarm.ledger.transition.runs import check_run_spec
from swarm.testing.ledger import small_run_spec
from tests.config.declared import leaves, outside, with_value
from tests.config.test_bounds import GENESIS

SPEC = small_run_spec()
FIELDS = dict(leaves(RunSpec))
GENESIS_FIELDS = {
    path: kind for path, kind in leaves(Genesis) if path[0] not in {"accounts", "validators"}
}


def test_the_spec_that_is_bent_is_an_honest_one() -> None:
    check_spec(SPEC)
    check_run_spec(SPEC)
    assert len(FIELDS) > 45


@pytest.mark.rule("S1", "S27")
@pytest.mark.parametrize("path", sorted(FIELDS), ids=".".join)
def test_a_field_of_a_run_out_of_bounds_is_refused_by_file_and_by_ledger(
    path: tuple[str, ...],
) -> None:
    for value in outside(path[-1], FIELDS[path]):
        bent = with_value(SPEC, path, value)
        with pytest.raises(BadConfig) as caught:
            check_spec(bent)
        if FIELDS[path] is int:
            least, most = BOUNDS[path[-1]]
            assert str(caught.value) == f"{path[-1]} must be from {least} to {most}, not {value}"
        assert len(str(caught.value)) < 300
        assert "\x1b" not in str(caught.value)
        with pytest.raises(InvalidStatement) as refused:
            check_run_spec(bent)
        assert refused.value.reason is Reason.BAD_FIELD


@pytest.mark.rule("S27")
@pytest.mark.parametrize("path", sorted(GENESIS_FIELDS), ids=".".join)
def test_a_field_of_a_genesis_out_of_bounds_is_refused(path: tuple[str, ...]) -> None:
    kind = GENESIS_FIELDS[path]
    for value in outside(path[-1], kind):
        with pytest.raises(BadConfig):
            check_genesis(with_value(GENESIS, path, value))


def keys() -> Iterator[tuple[str, str, Any]]:
    """(section, key, field) of both files; a key of the node file that is in no section has section ""."""
    for file in (RunFile, NodeConfig):
        for name, field in file.model_fields.items():
            kind: Any = field.annotation
            if isinstance(kind, type) and issubclass(kind, Section):
                for key, inner in kind.model_fields.items():
                    yield name, inner.alias or key, inner
            else:
                yield "", field.alias or name, field


KEYS = {(section, key): field for section, key, field in keys()}


def refused(section: str, line: str) -> str:
    parse = parse_run_file if section in RunFile.model_fields else parse_node_file
    with pytest.raises(BadConfig) as caught:
        parse(f"[{section}]\n{line}\n" if section else f"{line}\n", "my.toml")
    assert "my.toml" in str(caught.value)
    return str(caught.value)


@pytest.mark.rule("S25")
@pytest.mark.parametrize(("section", "key"), sorted(KEYS), ids="-".join)
def test_a_misspelt_key_names_the_nearest(section: str, key: str, seed: int) -> None:
    """A letter that is missing, twice, wrong or in its neighbour's place."""
    at = random.Random(f"{seed}{section}{key}").randrange(1, len(key) - 1)
    for wrong in (
        key[:at] + key[at + 1 :],
        key[:at] + key[at] + key[at:],
        key[:at] + "q" + key[at + 1 :],
        key[: at - 1] + key[at] + key[at - 1] + key[at + 1 :],
        key.upper()[0] + key[1:],
    ):
        is_clear = len(key) > 3 or len(wrong) != 3  # of three letters, two may be another key's
        if (section, wrong) not in KEYS and is_clear:
            message = refused(section, f"{wrong} = 1")
            assert f'unknown key "{wrong}"' in message
            assert f'did you mean "{key}"' in message


def numeric() -> Iterator[tuple[str, str]]:
    for (section, key), field in KEYS.items():
        if any(
            isinstance(rule, annotated_types.Ge | annotated_types.Le) for rule in field.metadata
        ):
            yield section, key


@pytest.mark.rule("S25")
@pytest.mark.parametrize(("section", "key"), sorted(numeric()), ids="-".join)
def test_a_number_out_of_bounds_is_refused_with_its_bound(section: str, key: str) -> None:
    field = KEYS[section, key]
    least: Any = next(rule.ge for rule in field.metadata if isinstance(rule, annotated_types.Ge))
    most: Any = next(rule.le for rule in field.metadata if isinstance(rule, annotated_types.Le))
    step = 1 if field.annotation is int else max(abs(least), 1e-9) / 2
    for value, bound in ((least - step, least), (most * 2 + 1, most)):
        message = refused(section, f"{key} = {value!r}")
        setting = f"[{section}] {key}" if section else key
        assert f"{setting} = " in message
        assert float(message.rsplit(" ", 1)[1]) == pytest.approx(float(bound), rel=1e-6)
    for junk in ("nan", "inf", "-inf", '"12"', "true", "[]", "{}"):
        refused(section, f"{key} = {junk}")


def test_every_number_of_both_files_has_both_bounds() -> None:
    numbers = {setting for setting, field in KEYS.items() if field.annotation in {int, float}}
    assert numbers == set(numeric())


@pytest.mark.parametrize(
    ("section", "key"),
    sorted(setting for setting, f in KEYS.items() if get_origin(f.annotation) is Literal),
    ids="-".join,
)
def test_a_choice_that_does_not_exist_is_refused_with_those_that_do(section: str, key: str) -> None:
    message = refused(section, f'{key} = "{"y" * 200}"')
    assert all(str(choice) in message for choice in get_args(KEYS[section, key].annotation))
    assert len(message) < 250


def test_text_of_any_length_is_cut_before_it_is_kept() -> None:
    for (section, key), field in KEYS.items():
        if field.annotation is str:
            refused(section, f'{key} = "{"y" * 301}"')
