"""Agree: the replicated ledger of accounts, runs, seats and segments, finalised by its validators.

blocks.py        C  headers, blocks and certificates, and how they are checked
fields.py        C  bounds of the fields that statements share
transactions.py  C  all statements that a peer can sign for the ledger
check_statements.py  C  statements made while a segment is checked
records.py       C  entries of the state: accounts, runs, seats, rounds, segments
check_records.py  C  parts of a segment's record that concern its check
verdicts.py      C  counts of a run's judged segments, by verdict
state.py         C  one immutable map with one root; genesis; snapshots
draft.py         C  a state under construction, in which money is only moved
economics.py     C  fees, rewards and deposits, in integers
accounts.py      C  balances, stake and nonces
spec_check.py    C  bounds of every field of an untrusted run spec
seats.py         C  rules by which the roster of a run changes at round boundaries
runs.py          C  life cycle of a run: opened, joined, trained, settled
segments.py      C  acceptance of segment commits and checkpoints
sampling.py      C  VRF draw of the verifiers of a segment
phases.py        C  heights at which the phases of a segment end
windows.py       C  check of revealed leaves and token counts against the commit
payments.py      C  rewards, shares of a stake, eviction
checks.py        C  request, blind answer, reveal, comparison
rollback.py      C  return of a stage to a checkpoint before a proven fraud
disputes.py      C  report, vote, verdict
apply.py         C  apply_block(state, transactions) -> state
pool.py          C  mempool: transactions that wait for a block
chain.py         C  build, validate and audit a chain of blocks
sync.py          C  requests and replies of bulk sync, and the check of a reply
queries.py       C  ledger state as rows and text
check_texts.py   C  segment checks as rows and text
rehearsal.py     C  an in-memory test ledger, for tests and simulations
rehearsed_checks.py  C  synthetic segments and the statements that check them
votes.py         C  consensus messages, leader schedule, vote counting
journal.py       C  hash-chained vote log of one validator
timers.py        C  timers for proposing, voting and abandoning a view
branch.py        C  the finalised tip and the blocks that may become final
ground.py        C  justification of a parent block, and the certificates it lacks
effects.py       C  effects that the consensus machine returns to its shell
consensus.py     C  Simplex, as one validator runs it
chamber.py       C  block executor of a validator
courier.py       S  batching sender with one queue per peer
archive.py       S  the final chain on disk and the state after it
replica.py       S  one validator: inbox, timer, vote log, sending
follower.py      S  bulk sync of final blocks, as client and server
relay.py         S  submission and forwarding of transactions
service.py       S  entry point of the package: LedgerService
"""
