"""A spec of another peer is refused before anything is allocated from it."""

from typing import Any

import msgspec
import pytest

from swarm.config.bounds import (
    ACCOUNTS_MAX,
    BOUNDS,
    check_fit,
    check_genesis,
    check_spec,
    num_parameters,
    token_dtype,
)
from swarm.config.load import RunFile, genesis_of, parse_run_file, run_spec
from swarm.config.spec import DataSpec, Genesis, RunSpec, StageStart
from swarm.errors import BadConfig
from swarm.primitives.codec import replace
from swarm.types import NO_DIGEST, Amount, Digest, PeerId

NOLOCO = parse_run_file('[run]\nrecipe = "noloco"\n', "noloco.toml")
SPEC = run_spec(
    NOLOCO,
    data=DataSpec("bytes", Digest(bytes(32)), 1, Digest(bytes(32)), 1),
)
START = StageStart(Digest(bytes(32)), 1_000, 900, 0)
PEERS = [PeerId(bytes([i]) * 32) for i in range(3)]
GENESIS = genesis_of(
    RunFile(), validators={PEERS[0]: 5, PEERS[1]: 5}, accounts={PEERS[2]: 9}, seed=bytes(32)
)
PARTS = ("model", "optimizer", "outer", "data", "deadlines", "checks")


def changed(part: str, field: str, value: object) -> RunSpec:
    if not part:
        return msgspec.structs.replace(SPEC, **{field: value})
    inner: Any = msgspec.structs.replace(getattr(SPEC, part), **{field: value})
    return msgspec.structs.replace(SPEC, **{part: inner})


def integer_fields() -> list[tuple[str, str]]:
    found = [("", field) for field in SPEC.__struct_fields__ if type(getattr(SPEC, field)) is int]
    for part in PARTS:
        section = getattr(SPEC, part)
        found += [
            (part, f) for f in section.__struct_fields__ if isinstance(getattr(section, f), int)
        ]
    return found


def test_a_usable_spec_and_genesis_pass() -> None:
    check_spec(SPEC)
    check_genesis(GENESIS)


@pytest.mark.rule("S1")
def test_every_integer_has_a_bound() -> None:
    assert [field for _, field in integer_fields() if field not in BOUNDS] == []
    ledger = [f for f in GENESIS.__struct_fields__ if isinstance(getattr(GENESIS, f), int)]
    assert [field for field in ledger if field not in BOUNDS] == []


@pytest.mark.rule("S1")
@pytest.mark.parametrize(("part", "field"), integer_fields())
def test_no_integer_may_leave_its_bounds(part: str, field: str) -> None:
    least, most = BOUNDS[field]
    for value in (least - 1, most + 1, -(1 << 62), 1 << 63):
        with pytest.raises(BadConfig, match=field):
            check_spec(changed(part, field, value))


@pytest.mark.rule("S1")
@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("", "name", ""),
        ("", "name", "../../etc"),
        ("", "name", "a\x1b[2J"),
        ("", "name", "x" * 41),
        ("", "numerics", "fast-and-loose"),
        ("", "is_pretrained", True),
        ("", "starts", (START,)),
        ("", "starts", (START, replace(START, weights=b"short"))),
        ("", "starts", (START, replace(START, num_parameters=0))),
        ("", "starts", (START, replace(START, num_parameters=1 << 60))),
        ("", "starts", (START, replace(START, num_seconds=-1))),
        ("", "starts", (START, replace(START, num_residuals=-1))),
        ("data", "tokenizer", "pickle"),
        ("outer", "codec", "int2"),
        ("wire", "activations", "float8"),
        ("data", "train_root", b""),
        ("optimizer", "learning_rates_nano", ()),
        ("optimizer", "learning_rates_nano", (0,)),
        ("optimizer", "learning_rates_nano", (1,) * 1025),
        ("outer", "age_weights_nano", (-1,)),
        ("outer", "gamma_nano", 1_500_000_000),
        ("model", "hidden_size", 16_384),
        ("model", "seq_len", 16_384),
    ],
)
def test_a_hostile_or_senseless_field_is_refused(part: str, field: str, value: object) -> None:
    with pytest.raises(BadConfig):
        check_spec(changed(part, field, value))


WIDE: dict[str, object] = {
    "tokenizer": "file",
    "tokenizer_root": Digest(b"t" * 32),
    "dtype": "uint16",
    "num_token_ids": 300,
    "train_bytes": 20,
    "heldout_bytes": 4,
}


def with_data(vocab_size: int = 512, **changes: object) -> RunSpec:
    return msgspec.structs.replace(
        SPEC,
        model=msgspec.structs.replace(SPEC.model, vocab_size=vocab_size),
        data=msgspec.structs.replace(SPEC.data, **{**WIDE, **changes}),
    )


@pytest.mark.parametrize(
    ("num_token_ids", "dtype"),
    [(2, "uint8"), (256, "uint8"), (257, "uint16"), (1 << 16, "uint16"), (65_537, "uint32")],
)
def test_tokens_are_as_narrow_as_their_ids_allow(num_token_ids: int, dtype: str) -> None:
    assert token_dtype(num_token_ids) == dtype
    check_spec(with_data(1 << 17, num_token_ids=num_token_ids, dtype=dtype))
    for other in {"uint8", "uint16", "uint32", "int64"} - {dtype}:
        with pytest.raises(BadConfig, match=f"kept as {dtype}"):
            check_spec(with_data(1 << 17, num_token_ids=num_token_ids, dtype=other))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"vocab_size": 299}, "vocab_size 299 is below the 300 token ids"),
        ({"train_bytes": 21}, "train_bytes 21 is no whole number of uint16"),
        ({"heldout_bytes": 3}, "heldout_bytes 3 is no whole number"),
        ({"tokenizer_root": Digest(bytes(32))}, "tokenizer_root"),
        ({"tokenizer_root": Digest(b"short")}, "tokenizer_root is a hash"),
        ({"tokenizer": "bytes"}, "bytes have 256 token ids, not 300"),
        (
            {"tokenizer": "bytes", "num_token_ids": 256, "dtype": "uint8"},
            "tokenizer_root names the file",
        ),
    ],
)
def test_data_that_does_not_fit_itself_or_the_model_is_refused(
    changes: dict[str, Any], cause: str
) -> None:
    with pytest.raises(BadConfig, match=cause):
        check_spec(with_data(**changes))


@pytest.mark.rule("T19")
def test_the_edge_of_stability_is_outside() -> None:
    with pytest.raises(BadConfig, match=r"must be below .* = 1\.5"):
        check_spec(changed("outer", "gamma_nano", 1_500_000_000))
    check_spec(changed("outer", "gamma_nano", 1_499_999_999))


def test_parameters_of_stages_add_up() -> None:
    model = SPEC.model
    ends = 2 * model.vocab_size * model.hidden_size + model.hidden_size
    parts = num_parameters(model, 0, 1) + num_parameters(model, 1, 4)
    assert parts + ends == num_parameters(model) == 844_928


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("validators", ()),
        ("validators", (PEERS[1], PEERS[0])),
        ("validators", (PEERS[0], PEERS[0])),
        ("validators", (PEERS[2],)),
        ("accounts", tuple(reversed(GENESIS.accounts))),
        ("accounts", ()),
        ("seed", b"short"),
        ("name", "Big Name"),
        ("block_interval_ms", 0),
        ("epoch_blocks", 1 << 40),
        ("fee_min", -1),
    ],
)
def test_a_genesis_that_cannot_run_is_refused(field: str, value: object) -> None:
    with pytest.raises(BadConfig):
        check_genesis(msgspec.structs.replace(GENESIS, **{field: value}))


def test_amounts_of_a_genesis_cannot_overflow() -> None:
    rich = msgspec.structs.replace(GENESIS.accounts[0], balance=Amount(1 << 62))
    genesis: Genesis = msgspec.structs.replace(GENESIS, accounts=(rich, *GENESIS.accounts[1:]))
    with pytest.raises(BadConfig, match="2\\^62"):
        check_genesis(genesis)


@pytest.mark.rule("L13")
def test_a_run_has_no_more_seats_than_a_node_can_keep() -> None:
    wide = msgspec.structs.replace(SPEC.model, num_layers=64)
    with pytest.raises(BadConfig, match="16384 seats"):
        check_spec(msgspec.structs.replace(SPEC, model=wide, num_stages=64, replicas_max=256))


def test_a_segment_has_no_more_tokens_than_a_commitment_counts() -> None:
    many = msgspec.structs.replace(SPEC, inner_steps_max=10_000, microbatches_per_step=256)
    with pytest.raises(BadConfig, match="tokens must be at most"):
        check_spec(many)


@pytest.mark.rule("T4")
def test_starts_of_fewer_or_more_stages_are_refused() -> None:
    for count in (1, 3):
        spec = msgspec.structs.replace(SPEC, starts=(START,) * count)
        with pytest.raises(BadConfig, match=f"{count} starts for 2 stages"):
            check_spec(spec)
    check_spec(msgspec.structs.replace(SPEC, starts=(START,) * 2))


def test_a_tokenizer_is_bytes_or_a_file_that_is_named() -> None:
    with pytest.raises(BadConfig, match="tokenizer is one of bytes, file"):
        check_spec(with_data(tokenizer="words"))
    with pytest.raises(BadConfig, match="tokenizer_root names the file"):
        check_spec(with_data(tokenizer_root=NO_DIGEST))
    with pytest.raises(BadConfig, match="tokenizer_root names the file"):
        check_spec(changed("data", "tokenizer_root", Digest(b"t" * 32)))


def test_a_genesis_names_at_most_so_many_accounts() -> None:
    accounts = {PeerId(n.to_bytes(32, "big")): 1 for n in range(1, ACCOUNTS_MAX + 2)}
    with pytest.raises(BadConfig, match=f"at most {ACCOUNTS_MAX} accounts"):
        genesis_of(RunFile(), validators={PEERS[0]: 5}, accounts=accounts, seed=bytes(32))


def test_an_optimizer_that_nobody_has_is_refused_by_name() -> None:
    check_spec(changed("optimizer", "name", "muon"))
    with pytest.raises(BadConfig, match="adamw, muon, not 'sgd'"):
        check_spec(changed("optimizer", "name", "sgd"))


def test_rates_of_muon_are_bounded() -> None:
    spec = changed("optimizer", "name", "muon")
    for wrong in ({"momentum_nano": 10**9}, {"momentum_nano": -1}, {"adamw_rate_nano": 0}):
        optimizer = msgspec.structs.replace(spec.optimizer, **wrong)
        with pytest.raises(BadConfig, match=f"{next(iter(wrong))} must be from"):
            check_spec(msgspec.structs.replace(spec, optimizer=optimizer))
    fast = msgspec.structs.replace(
        spec.optimizer, learning_rates_nano=(200_000_000,), adamw_rate_nano=6 * 10**9
    )
    with pytest.raises(
        BadConfig, match=r"adamw_rate 6 times the learning rate 0\.2 must be at most 1"
    ):
        check_spec(msgspec.structs.replace(spec, optimizer=fast))
    check_spec(msgspec.structs.replace(spec, optimizer=msgspec.structs.replace(fast, name="adamw")))


def with_trades(trades: int, *, exchange_ms: int, round_blocks: int = 20) -> RunSpec:
    deadlines = msgspec.structs.replace(SPEC.deadlines, exchange_ms=exchange_ms)
    outer = msgspec.structs.replace(SPEC.outer, trades_per_round=trades)
    return msgspec.structs.replace(
        SPEC, outer=outer, deadlines=deadlines, round_blocks=round_blocks
    )


@pytest.mark.rule("N12a")
def test_every_trade_of_a_fragment_has_a_block_of_its_own() -> None:
    check_spec(with_trades(1, exchange_ms=100, round_blocks=3))
    check_spec(with_trades(7, exchange_ms=100, round_blocks=10))
    with pytest.raises(BadConfig, match="trades_per_round 8 must be at most 7") as caught:
        check_spec(with_trades(8, exchange_ms=100, round_blocks=10))
    assert "round_blocks" in (caught.value.hint or "")


@pytest.mark.rule("N12a")
def test_a_trade_ends_before_the_next_of_its_fragment_begins() -> None:
    """Seventeen blocks of two seconds are for trades, so four of a fragment have 8.5 s each."""
    check_fit(with_trades(4, exchange_ms=8_500), GENESIS)
    with pytest.raises(BadConfig, match=r"exchange_s = 8\.6 must be at most 8\.5 s") as caught:
        check_fit(with_trades(4, exchange_ms=8_600), GENESIS)
    assert "exchange_s = 8.5" in (caught.value.hint or "")
    check_fit(with_trades(1, exchange_ms=40_000), GENESIS)
