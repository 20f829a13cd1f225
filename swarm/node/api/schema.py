"""The document of GET /api/v1/state: every figure that any screen shows, defined once.

Core: frozen structs. ``snapshot`` fills them; the local page, ``swarm status``, ``swarm map``, the line of a
running node, the demo and the metrics read them. A field's docstring is the definition of its figure.

A figure is fresh as long as what it counts has moved, or was measured, within the last 15 s
(``health.STANDSTILL_S``). A rate or a loss that is stale is null, and a screen shows "-"; a total stays, with
its age in seconds beside it.
"""

from swarm.primitives.codec import Document


class AuditRecord(Document, frozen=True):
    """Counts of a peer's segments and checks by outcome, from the ledger."""

    verified: int = 0
    """Segments of this peer that stood: their sampled check found no difference."""
    failed: int = 0
    """Segments of this peer that were proven false."""
    silent: int = 0
    """Segments of this peer that it did not show when it had to."""
    checked: int = 0
    """Windows of other peers that it has replayed."""
    missed: int = 0
    """Checks that it asked for and did not finish."""
    refuted: int = 0
    """Accusations of this peer that were found false, or got no verdict."""
    tokens: int = 0
    """Tokens of all its segments."""
    shares: int = 0
    """Tokens of its segments that were verified and stand: its part of the run."""
    strikes: int = 0
    """Silent segments that no verified ones make up for; three cost the seat."""
    barred: bool = False
    """True once a segment of this peer was proven false: it holds no seat in this run any more."""


class HealthRow(Document, frozen=True):
    """Verdict on the progress of tokens and ledger, with cause and remedy when they stand still."""

    verdict: str = "unknown"
    """``progressing``, ``waiting``, ``stalled``, ``paused`` or ``ended`` (``health.Verdict``)."""
    cause: str = "the node does not say"
    """Cause of the standstill, as a clause without the age; empty while there is progress."""
    command: str = ""
    """The one command that helps; empty where none does."""
    age_s: int = 0
    """Seconds since the figure that decided the verdict last moved."""


class OwnChecks(Document, frozen=True):
    """Checks of others' work by this node since it started."""

    done: int = 0
    agreed: int = 0
    differed: int = 0
    missed: int = 0
    jackpots: int = 0
    """Errors that others had made on purpose, and this node found."""


class OwnSeconds(Document, frozen=True):
    """Seconds since the start, by activity: the parts add up to the whole, as long as one core works."""

    compute: float = 0.0
    commit: float = 0.0
    """Hashing, and recording windows: what being checkable costs a solver."""
    check: float = 0.0
    """Replaying the windows of others."""
    wire: float = 0.0
    """Links, signatures, ledger, fragments packed and opened: all other work of the process."""
    wait: float = 0.0


class NodeRow(Document, frozen=True):
    """This node."""

    peer: str = ""
    name: str = ""
    version: str = ""
    home: str = ""
    state: str = ""
    """Activity in one to three words; never ``training`` while its tokens or the ledger stand still."""
    waits_for: str = ""
    """Object of its wait, as a noun phrase; empty if it waits for nothing."""
    outlook: str = ""
    """Prospects of a seat while it waits for one, and what it lacks; of losing it, if a cheaper peer waits;
    of the end of its trial, while that lasts; empty otherwise."""
    uptime_s: int = 0
    addresses: tuple[str, ...] = ()
    reach: str = "unknown"
    """Machines that can dial this node, by most of the peers that it has asked to: ``unknown``, ``nobody``,
    ``machine``, ``network`` or ``public``."""
    reach_text: str = ""
    """The same as a sentence, with what helps."""
    api_url: str = ""
    pid: int = 0
    device: str = ""
    steps: int = 0
    """Inner steps that the seats of this node have made since it started."""
    loss_nats: float | None = None
    """Training loss of this node's own seats: see ``PeerRow.loss_nats``. Null when stale."""
    tokens: int = 0
    """Tokens that the shards held here have been trained on, by earlier holders of them too."""
    tokens_per_s: int | None = None
    """Own rate: tokens between two own steps, over at least 5 s. Null when stale."""
    tokens_age_s: int = 0
    """Seconds since this node's own tokens last rose; since its start before the first."""
    trades: int = 0
    solo: int = 0
    seats: tuple[tuple[int, int], ...] = ()
    validates: bool = False
    checks: OwnChecks = OwnChecks()
    seconds: OwnSeconds = OwnSeconds()
    calls: int = 0
    calls_s: float = 0.0
    links: int = 0
    """Connected peers."""
    links_chosen: int = 0
    """Those of them that this node dialled and keeps by its own choice."""
    link_networks: int = 0
    """Public networks that they are connected from; 0 where all are of this machine or a private network."""
    anchor_peers: int = 0
    """Peers remembered over restarts because they were connected for long, and dialled first."""
    isolated_s: int | None = None
    """Seconds since this node is isolated from its network: ``health`` has the cause. Null while it is not."""


class EvaluationRow(Document, frozen=True):
    """One checkpoint, measured by this node on held-out text."""

    round: int = 0
    loss_nats: float | None = None
    perplexity: float | None = None
    tokens: int = 0


class RunRow(Document, frozen=True):
    """The run that this node follows."""

    index: int = 0
    name: str = ""
    digest: str = ""
    phase: str = ""
    """Of the ledger: open, training, paused, cooling (final averaging), finished or settled."""
    round: int = 0
    """The number of the newest round boundary that the ledger has crossed: the round under way."""
    rounds: int = 0
    """Rounds that train."""
    final_round: int = 0
    consensus_round: int = 0
    """Round of final averaging under way, from 1; 0 before the first."""
    consensus_rounds: int = 0
    """Rounds of final averaging, at the end of the run."""
    is_pausing: bool = False
    num_stages: int = 0
    parameters: int | None = None
    loss_nats: float | None = None
    """Training loss: the mean, over the peers with a seat in the last stage that are neither gone nor silent,
    of ``PeerRow.loss_nats``. Null while none is known, and while a run that should train stands still."""
    tokens: int = 0
    """Tokens committed to the ledger by all seats of the last stage since the run began. Rises once a round."""
    tokens_age_s: int = 0
    """Seconds since any peer's steps, or the tokens above, were last seen to rise."""
    tokens_per_s: int | None = None
    """Rate of the swarm: the sum of ``PeerRow.tokens_per_s`` over the peers with a seat in the last stage. Null
    when it is known of none of them."""
    heldout: float | None = None
    """Held-out loss: mean loss per token, in nats, of the newest checkpoint on text that no peer trains on, as
    this node measured it. ``heldout_round`` says of which boundary, so it does not go stale."""
    perplexity: float | None = None
    """exp of ``heldout``."""
    heldout_round: int | None = None
    evaluations: tuple[EvaluationRow, ...] = ()
    """All measured checkpoints, oldest first."""
    is_measured_here: bool = False
    solver_stake: int = 0
    """Stake with which a peer is no volunteer: it may verify, report, and train with full weight."""
    price: int = 0
    """Pay for 1,000 verified tokens of the newest round, the same for every seat."""
    price_max: int = 0
    """Most that the run pays for 1,000 verified tokens."""
    escrow_rounds: int | None = None
    """Rounds that the escrow pays for all seats of now, at least. Null if the node does not say."""
    segments: int = 0
    """Segments committed to the ledger."""
    checks: dict[str, int] = {}  # noqa: RUF012  msgspec copies an empty default
    """Segments by phase: judged ones since the run began, the others now."""
    confirmed: int = 0
    """Segments of which another peer checked a window and agreed."""
    way: str = "replay"
    """``replay``, or ``spots``: whether a check replays a window, or looks at drawn elements of one step."""
    judged_steps: int | None = None
    """Steps of the segments that have passed their check and are still on record."""
    replayed_steps: int | None = None
    """Of ``judged_steps``: those that another peer replayed, or looked at, and agreed."""
    owner: str = ""
    checkpoints: tuple[tuple[tuple[int, str], ...], ...] = ()
    storage: tuple[str, ...] = ()
    """For each stage who holds its newest checkpoint, as text; empty before the first."""
    waiting: int = 0
    ticket: str | None = None


class TransactionRow(Document, frozen=True):
    """One transaction of a block."""

    kind: str = ""
    text: str = ""
    bytes: int = 0


class BlockRow(Document, frozen=True):
    """One final block."""

    height: int = 0
    leader: str = ""
    transactions: tuple[TransactionRow, ...] = ()


class LedgerRow(Document, frozen=True):
    """The ledger as this node has it."""

    chain: str = ""
    height: int = 0
    """Height of the last final block that this node has."""
    first: int = 1
    """Height from which on it has all blocks; older ones were pruned here, or never fetched."""
    age_s: int = 0
    """Seconds since ``height`` last rose; since this node's start before it has risen."""
    is_still: bool = False
    """True when no block became final for 15 s, or for three times the network's block interval."""
    finality_s: float | None = None
    """Mean time from a block's first sight to its finality. Null if it does not vote, and when stale."""
    validators: tuple[str, ...] = ()
    validators_missing: tuple[str, ...] = ()
    """Validators that this node neither is connected to nor hears of; itself, if it does not vote."""
    trust: str = ""
    """Sentence on who makes a block final: the launcher alone, or four validators and more."""
    supply: int = 0
    supply_conserved: bool = True
    tail: tuple[BlockRow, ...] = ()


class PeerRow(Document, frozen=True):
    """One peer, from the directory and this node's own connections."""

    peer: str = ""
    name: str = ""
    me: bool = False
    stages: tuple[int, ...] = ()
    seats: tuple[tuple[int, int], ...] = ()
    state: str = ""
    """Activity that it reports, as far as its figures bear it out."""
    reason: str = ""
    """Reason why that is not as it should be; ``ok`` if nothing is wrong."""
    condition: str = "ok"
    """ok, busy, slow, gone or out (proven false): what the shapes of the map stand for."""
    gone_s: int | None = None
    """Seconds since a peer that is gone was last heard of; null while it is there."""
    path: str = "-"
    """Way to it: lan, direct or relayed, of this node ``you``, of one that is not connected a dash."""
    rtt_ms: int | None = None
    up_bytes: int = 0
    down_bytes: int = 0
    lag: int = 0
    """Rounds behind the median of the live peers."""
    stake: int = 0
    earned: int = 0
    segments: int = 0
    audits: AuditRecord = AuditRecord()
    measured: bool = False
    age_s: int = 0
    """Seconds since its last announcement or, without one, since it was first heard of."""
    role: str = "peer"
    tokens_per_s: int | None = 0
    """Tokens a second as the peer counts them: between two of its steps, over at least 5 s. Null when it is
    gone, has not announced for 15 s, or its steps or the ledger stand still."""
    loss_nats: float | None = None
    """Training loss of its seats in the last stage: mean loss per token, in nats, of the micro-batches of its
    last closed segment; before the first, of the open one. Null when it has none, or is gone or silent."""
    round: int | None = 0
    """The round under way as the peer sees it. Null when it is gone or silent."""
    steps: int = 0
    """Inner steps since it started, as it last announced."""
    last_partner: str | None = None
    trades: int = 0
    solo: int | None = None
    """Outer steps without a partner: known of this node only."""
    version: str = ""


class SeatRow(Document, frozen=True):
    """One seat of the run, from the ledger."""

    stage: int = 0
    index: int = 0
    name: str = ""
    peer: str = ""
    last_commit_round: int = -1
    """-1 before the first commit."""
    tokens: int = 0


class VerifierRow(Document, frozen=True):
    """One drawn verifier of a segment."""

    name: str = ""
    window: int | None = None
    """Window that it checks; None until windows are dealt."""
    state: str = ""


class CheckRow(Document, frozen=True):
    """One segment whose check can still change."""

    round: int = 0
    stage: int = 0
    seat: int = 0
    name: str = ""
    height: int = 0
    steps: int = 0
    replayed_steps: int | None = None
    """Steps of it that another peer replayed, or looked at, and agreed."""
    tokens: int = 0
    start: str = ""
    phase: str = ""
    due: int = 0
    throws: int = 0
    reward: int = 0
    paid: bool = False
    windows: int = 0
    verifiers: tuple[VerifierRow, ...] = ()
    accusers: tuple[str, ...] = ()
    accusations: tuple[dict[str, str | int | bool], ...] = ()
    dispute: dict[str, int | str] | None = None
    judged: tuple[int, ...] = ()
    confirmed: bool = False
    proved_by: str | None = None
    """Peer that proved a lie by what the solver had signed itself."""
    demands: tuple[dict[str, str | int | bool], ...] = ()
    """Demands to show its list of what it sent, those that are over included."""
    demanded_by: str | None = None
    """Peer that demanded an entry of its list which nobody showed."""
    text: str = ""


class ConvictionRow(Document, frozen=True):
    """A segment that was proven false."""

    round: int = 0
    stage: int = 0
    seat: int = 0
    peer: str = ""
    name: str = ""
    height: int = 0
    accuser: str | None = None
    stake_taken: int | None = None
    text: str = ""


class TradeRow(Document, frozen=True, rename={"source": "from", "target": "to"}):
    """One trade of this node."""

    round: int = 0
    fragment: int = 0
    stage: int = 0
    source: str = ""
    target: str | None = None
    """The partner; null if there was none."""
    ok: bool = False
    """True if the fragments of both went into the weights of this node."""
    one_way: bool = False
    """True if the partner only receives: it is new, on trial or far behind, and nothing was to come from it."""


class EventRow(Document, frozen=True):
    """One event of this node."""

    at: float = 0
    """Milliseconds since 1970."""
    kind: str = ""
    text: str = ""


class StateDocument(Document, frozen=True):
    """The whole document."""

    health: HealthRow = HealthRow()
    node: NodeRow = NodeRow()
    run: RunRow | None = None
    ledger: LedgerRow = LedgerRow()
    peers: tuple[PeerRow, ...] = ()
    seats: tuple[SeatRow, ...] = ()
    checks: tuple[CheckRow, ...] = ()
    convictions: tuple[ConvictionRow, ...] = ()
    loss_curve: tuple[tuple[float, float], ...] = ()
    """(round, ``RunRow.loss_nats`` at the end of that round), as far back as this node has watched. The last
    pair is the figure itself once a round has ended."""
    trades: tuple[TradeRow, ...] = ()
    events: tuple[EventRow, ...] = ()
