"""A file that people write is understood, or refused with the key and the bound that would mend it."""

from itertools import pairwise

import pytest

from swarm.config.bounds import LEARNING_RATES_MAX, check_spec, num_parameters
from swarm.config.load import (
    NodeConfig,
    RunFile,
    check_network,
    genesis_of,
    learning_rates,
    on_network,
    parse_node_file,
    parse_run_file,
    planned_data,
    run_spec,
    run_template,
)
from swarm.config.resources import packaged_file
from swarm.config.spec import NANO, DataSpec, RunSpec
from swarm.errors import BadConfig
from swarm.primitives.codec import decode, encode, replace
from swarm.types import Digest, PeerId


def a_spec(text: str = "") -> RunSpec:
    return run_spec(
        parse_run_file(text, "my.toml"),
        data=DataSpec("bytes", Digest(b"t" * 32), 1000, Digest(b"h" * 32), 100),
    )


def test_the_demo_is_the_model_it_says() -> None:
    file = parse_run_file(packaged_file("demo.toml"), "demo.toml")
    spec = a_spec(packaged_file("demo.toml"))
    assert round(num_parameters(spec.model) / 1e6, 2) == 0.27
    assert (spec.num_stages, spec.replicas_max, spec.round_blocks) == (2, 4, 10)
    assert file.data.source == "python-stdlib"


def test_the_node_file_shows_the_defaults() -> None:
    assert parse_node_file(packaged_file("node.toml"), "node.toml") == NodeConfig()
    assert parse_node_file("", "node.toml") == NodeConfig()
    assert parse_node_file("validate = true", "node.toml").validate_


def test_an_empty_file_and_the_template_mean_the_defaults() -> None:
    assert parse_run_file("", "my.toml") == RunFile()
    assert parse_run_file(run_template(), "my.toml") == RunFile()


def test_the_template_explains_every_section() -> None:
    lines = run_template().splitlines()
    for section in RunFile.model_fields:
        at = lines.index(f"[{section}]")
        assert lines[at - 1].startswith("# ")
    assert max(len(line) for line in lines) <= 112


def test_a_recipe_fills_what_the_file_does_not_say_and_nothing_else() -> None:
    plain, published = a_spec(), a_spec('[run]\nrecipe = "noloco"')
    assert a_spec('[run]\nrecipe = "muon"') == plain
    assert (plain.optimizer.name, plain.outer.codec) == ("muon", "int4-mean")
    outer = published.outer
    assert (published.optimizer.name, outer.codec, outer.trades_per_round) == ("adamw", "int8", 1)
    assert (outer.alpha_nano, outer.beta_nano, outer.gamma_nano) == (5 * 10**8, *[7 * 10**8] * 2)
    own = a_spec('[run]\nrecipe = "noloco"\n[outer]\ncodec = "bf16"\n[optimizer]\nbeta1 = 0.8')
    assert (own.outer.codec, own.outer.alpha_nano) == ("bf16", outer.alpha_nano)
    assert (own.optimizer.beta1_nano, own.optimizer.name) == (8 * 10**8, "adamw")


def test_an_adapter_has_a_recipe_of_its_own_unless_the_file_names_one() -> None:
    adapter = '[model]\ninit_from = "llama"\n[adapter]\nrank = 4\n'
    file = parse_run_file(adapter, "my.toml")
    assert (file.run.recipe, file.optimizer.name) == ("lora", "adamw")
    assert file.outer == RunFile().outer
    with pytest.raises(BadConfig, match="not by muon") as caught:
        parse_run_file('[run]\nrecipe = "muon"\n' + adapter, "my.toml")
    assert 'recipe = "lora"' in caught.value.hint


def test_trades_of_a_fragment_share_a_round_of_the_network_that_is_there() -> None:
    assert a_spec().deadlines.exchange_ms == 5_000
    assert a_spec("[ledger]\nblock_interval_s = 0.5").deadlines.exchange_ms == 17 * 500 // 6
    assert a_spec("[outer]\ntrades_per_round = 1").deadlines.exchange_ms == 5_000


@pytest.mark.parametrize("text", ['recipe = "x"', "recipe = 3", 'recipe = ["muon"]'])
def test_a_recipe_that_is_not_there_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="recipe"):
        parse_run_file(f"[run]\n{text}", "my.toml")


def test_fractions_become_billionths_and_seconds_milliseconds() -> None:
    spec = a_spec("[optimizer]\nbeta2 = 0.95\neps = 1e-8\n[deadlines]\nhop_s = 1.5\n")
    assert spec.optimizer.beta2_nano == 950_000_000
    assert spec.optimizer.eps_nano == 10
    assert spec.deadlines.hop_ms == 1500
    assert decode(RunSpec, encode(spec)) == spec


def test_the_same_file_gives_the_same_run_and_another_file_another() -> None:
    assert a_spec().digest == a_spec().digest
    assert a_spec().digest != a_spec("[outer]\nalpha = 0.4").digest


def test_the_learning_rate_warms_up_and_falls_to_its_floor() -> None:
    file = parse_run_file(
        "[optimizer]\nlearning_rate = 0.01\nwarmup_steps = 10\ndecay_steps = 100\n", "my.toml"
    )
    rates, stride = learning_rates(file)
    assert stride == 1
    assert rates[0] == NANO // 1000
    assert max(rates) == rates[9] == rates[10] == NANO // 100
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] == NANO // 1000
    assert len(rates) == 101


@pytest.mark.parametrize("steps", [1, 2, 1023, 1024, 1025, 100_000, 99_999_999])
def test_the_schedule_of_any_length_fits_the_table(steps: int) -> None:
    text = f"[optimizer]\nwarmup_steps = 0\ndecay_steps = {steps}\n"
    rates, stride = learning_rates(parse_run_file(text, "my.toml"))
    assert len(rates) <= LEARNING_RATES_MAX
    assert (len(rates) - 1) * stride >= steps
    assert rates[-1] == 3_000_000


@pytest.mark.parametrize("vocab_size", [256, 257, 50_304, 128_256])
def test_a_dataset_may_have_any_vocabulary(vocab_size: int) -> None:
    """What its tokens are is known when it is opened."""
    text = f'[data]\ndataset = "d"\n[model]\nvocab_size = {vocab_size}'
    assert parse_run_file(text, "my.toml").data.dataset == "d"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[modle]", 'unknown key "modle"; did you mean "model"?'),
        (
            "[model]\nhiden_size = 3",
            'unknown key "hiden_size" in [model]; did you mean "hidden_size"',
        ),
        ("[training]\nlearning_rate = 3", 'did you mean "learning_rate" in [optimizer]?'),
        ("seed = 3", 'did you mean "seed" in [run]?'),
        ("[model]\nqqq = 3", "known are: hidden_size"),
        ("[model]\nhidden_size = 3", "[model] hidden_size = 3: must be greater than or equal to 8"),
        ("[model]\nhidden_size = 1.5", "must be a whole number"),
        ("[model]\nhidden_size = true", "must be a whole number"),
        ("[model]\nhidden_size = 100", "must be a multiple of 2 * num_heads = 8"),
        ("[model]\nnum_kv_heads = 3", "must be a multiple of num_kv_heads 3"),
        ("[model]\nnum_layers = 1", "num_stages 2 must be at most num_layers = 1"),
        ("[model]\nvocab_size = 512", "bytes have a vocab_size of 256"),
        ("[data]\ndataset = 'd'\nsource = ['x']", "names a dataset and a source"),
        ("[data]\ndataset = 'd'\ndataset_hash = '12'", "is not 64 digits of 0-9 and a-f"),
        (f"[data]\ndataset_hash = '{'ab' * 32}'", "names none"),
        ("[data]\ndataset = 3", "[data] dataset = 3: must be a valid string"),
        ("[training]\nmicrobatch_size = 1024", "must fit into a frame of 8388608"),
        ("[outer]\nalpha = 0.9", "gamma 1 must be below 2 * (1 - alpha^2) = 0.38"),
        ("[outer]\nalpha = nan", "finite"),
        ("[outer]\nage_weights = [2.0]", "age_weights = 2.0: must be less than or equal to 1"),
        ("[outer]\nage_weights = []", "must have at least 1 item"),
        ("[data]\nsource = 'web'", "must be 'python-stdlib' or must be a list"),
        ("[run]\nname = 'My Run'", "name = My Run: must be 1 to 40 of a-z, 0-9 and -"),
        ("[optimizer]\nlr = 0.1", 'did you mean "learning_rate"'),
        ("[model]\nlr = 0.1", 'did you mean "learning_rate" in [optimizer]'),
        ("[run]\nnumerics = 'fast'", "'native', 'native-bf16' or 'seq-f32/1'"),
        ("[optimizer]\nwarmup_steps = 30000", "at most the 25000 steps"),
        ("[optimizer]\nlearning_rate = 0.0", "[optimizer] learning_rate"),
        ("[deadlines]\nhop_s = 20", "hop_s = 20 must be at most the step deadline step_s = 10"),
        (
            "[deadlines]\nstep_s = 41.0",
            "the deadline step_s = 41 must be at most a round = 40 s",
        ),
        ("[checks]\nwindow_steps = 51", "at most inner_steps_max = 50"),
        ("[checks]\nchallenge_window_blocks = 100", "at least 2 epochs = 240 blocks"),
        ("[ledger]\nunbonding_epochs = 2", "greater than or equal to 3"),
        ("[ledger]\nbeacon_delay = 20", "beacon_delay 20 must be below round_blocks = 20"),
        (
            "[model]\nhidden_size = 8192\nnum_heads = 64\nnum_kv_heads = 64\nintermediate_size = 22016\n"
            "[training]\nnum_stages = 1\nmicrobatch_size = 1",
            "a stage of 3240165376 parameters is larger than 2147483648: use more stages",
        ),
        ("model = 3", "model is a section: write [model]"),
        ("[model", "my.toml is not TOML"),
        ("[[model]]", "model is a section"),
        ("x = " + "[" * 5000, "not TOML"),
        ("#" * 70_000, "at most 64000"),
    ],
)
def test_a_run_file_that_cannot_be_used_names_the_cause(text: str, cause: str) -> None:
    with pytest.raises(BadConfig) as caught:
        parse_run_file(text, "my.toml")
    assert cause in str(caught.value)
    assert "my.toml" in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_run_on_a_network_that_is_there_keeps_to_its_pace_and_not_to_its_own_ledger() -> None:
    """What the file says of a ledger is not used: no pair of bounds contradict each other."""
    demo = parse_run_file(packaged_file("demo.toml"), "demo.toml")
    network = genesis_of(demo, validators={PeerId(bytes(32)): 1}, accounts={}, seed=bytes(32))
    file = parse_run_file("[ledger]\nepoch_blocks = 5000\n", "my.toml", network)
    check_network(file, network)
    spec = run_spec(file, data=planned_data(file))
    assert spec.checks.challenge_window_blocks == 2 * network.epoch_blocks
    again = genesis_of(
        on_network(file, network), validators={PeerId(bytes(32)): 1}, accounts={}, seed=bytes(32)
    )
    assert replace(again, name=network.name) == network
    for wide, cause in ((180, "must be below unbonding_epochs"), (119, "at least 2 epochs = 120")):
        text = f"[checks]\nchallenge_window_blocks = {wide}\n"
        with pytest.raises(BadConfig, match=cause):
            check_network(parse_run_file(text, "my.toml", network), network)
    with pytest.raises(BadConfig, match="hidden_size"):
        parse_run_file("[model]\nhidden_size = 100", "my.toml", network)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("valdate = true", 'unknown key "valdate"; did you mean "validate"?'),
        ("validate_ = true", 'did you mean "validate"?'),
        ("listen = ['4001']", "is not host:port"),
        ("listen = ['host:99999']", "is not host:port"),
        ("listen = []", "must have at least 1 item"),
        ("listen = '0.0.0.0:1'", "must be a list"),
        ("bootstrap = ['example.org']", "is not an address"),
        ("announce = ['1.2.3.4:5']", "is not an address"),
        ("api_port = 70000", "api_port = 70000: must be less than or equal to 65535"),
        ("threads = 0", "threads = 0"),
        ("[compute]\ndevice = 'gpu'", "[compute] device = gpu: must be auto, cpu, cuda"),
        ("[compute]\ndevice = ['cuda:0', 'gpu']", "must be auto, cpu, cuda, cuda:N or mps"),
        ("[compute]\ndevice = []", "at least 1 item"),
        ("[compute]\ndevic = 'cpu'", 'unknown key "devic" in [compute]; did you mean "device"?'),
        ("[compute]\nround = 3", "known are: compile, device"),
        ("compute = 'cuda'", "write [compute]"),
    ],
)
def test_a_node_file_that_cannot_be_used_names_the_cause(text: str, cause: str) -> None:
    with pytest.raises(BadConfig) as caught:
        parse_node_file(text, "node.toml")
    assert cause in str(caught.value)


def test_devices_are_one_name_or_several() -> None:
    one = parse_node_file("[compute]\ndevice = 'cuda:1'\ncompile = true", "node.toml").compute
    assert (one.device, one.compile_) == ("cuda:1", True)
    several = parse_node_file("[compute]\ndevice = ['cuda:0', 'cuda:1']", "node.toml").compute
    assert several.device == ("cuda:0", "cuda:1")


def test_listening_on_ipv6_is_understood() -> None:
    assert parse_node_file("listen = ['[::1]:4001']", "node.toml").listen == ("[::1]:4001",)


def test_a_genesis_is_sorted_whatever_the_order() -> None:
    first, second, third = (PeerId(bytes([i]) * 32) for i in (1, 2, 3))
    seed = b"s" * 32
    genesis = genesis_of(
        RunFile(), validators={third: 5, first: 7}, accounts={second: 9, first: 1}, seed=seed
    )
    again = genesis_of(
        RunFile(), validators={first: 7, third: 5}, accounts={first: 1, second: 9}, seed=seed
    )
    assert genesis == again
    assert genesis.validators == (first, third)
    assert [(a.peer, a.balance, a.stake) for a in genesis.accounts] == [
        (first, 1, 7),
        (second, 9, 0),
        (third, 0, 5),
    ]
    assert genesis.chain == again.chain


def test_a_genesis_without_validators_or_seed_is_refused() -> None:
    with pytest.raises(BadConfig, match="validators"):
        genesis_of(RunFile(), validators={}, accounts={}, seed=bytes(32))
    with pytest.raises(BadConfig, match="32 bytes"):
        genesis_of(RunFile(), validators={PeerId(bytes(32)): 1}, accounts={}, seed=b"")


SPOTS_TEXT = '[run]\nnumerics = "seq-f32/1"\n[checks]\nway = "spots"\n'


@pytest.mark.rule("L102")
def test_forced_errors_are_for_checks_that_look_at_elements() -> None:
    """One in a hundred there, or as many as the file says; elsewhere none, and more than none is refused."""
    assert a_spec(SPOTS_TEXT).checks.forced_nano == NANO // 100
    assert a_spec(SPOTS_TEXT + "forced = 0.5").checks.forced_nano == NANO // 2
    assert a_spec(SPOTS_TEXT + "forced = 0.0").checks.forced_nano == 0
    assert a_spec().checks.forced_nano == 0
    assert a_spec("[checks]\nforced = 0.0").checks.forced_nano == 0
    with pytest.raises(BadConfig, match=r"forced errors are for checks that look at elements"):
        check_spec(a_spec('[checks]\nway = "replay"\nforced = 0.1'))
    with pytest.raises(BadConfig, match="forced"):
        a_spec(SPOTS_TEXT + "forced = 0.51")
    spec = a_spec(SPOTS_TEXT)
    for forced in (-1, NANO // 2 + 1):
        with pytest.raises(BadConfig, match="forced"):
            check_spec(replace(spec, checks=replace(spec.checks, forced_nano=forced)))
