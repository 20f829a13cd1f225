"""Agree: one final ledger of accounts, runs, seats and segments, kept by everybody.

blocks.py        C  headers, blocks, certificates, and what makes one hold
fields.py        C  bounds of the fields that statements share
transactions.py  C  everything a peer can sign for the ledger
check_statements.py  C  what is said while a segment is checked
records.py       C  what a state is made of: accounts, runs, seats, rounds, segments
check_records.py  C  what is kept about a segment while it is checked
verdicts.py      C  how a run's segments were judged, counted
state.py         C  one immutable map with one root; genesis; snapshots
draft.py         C  a state under construction, where money is only moved
economics.py     C  fees, rewards and deposits, in integers
accounts.py      C  balances, stake and nonces
spec_check.py    C  bounds on every field of a run spec from a stranger
seats.py         C  who sits where: the roster changes at boundaries, by rule
runs.py          C  the life of a run: opened, joined, trained, settled
segments.py      C  segment commits and checkpoints, and when they are accepted
sampling.py      C  who checks which segment: the dice
phases.py        C  when each phase of a segment ends
windows.py       C  do these leaves lead to the commit, and to the tokens it claims
payments.py      C  rewards, shares of a stake, eviction
checks.py        C  ask, answer blind, reveal, compare
rollback.py      C  set a stage back behind a proven fraud
disputes.py      C  report, vote, verdict
apply.py         C  apply_block(state, transactions) -> state
pool.py          C  transactions on their way into a block
chain.py         C  build the next block, judge it, verify them all
sync.py          C  what a follower asks, and how it knows the answer is true
queries.py       C  the ledger in words and rows, for people
check_texts.py   C  checking in words and rows
rehearsal.py     C  a ledger in one process, for tests and simulations
rehearsed_checks.py  C  a segment to be checked, and what everybody would say
votes.py         C  what validators say to each other, and the count of it
journal.py       C  the words a validator may not take back
timers.py        C  when a validator proposes, votes and gives up on a view
branch.py        C  the finalised tip and the blocks that may become final
ground.py        C  what a block may stand on, and the proof that it may
effects.py       C  what the consensus machine asks of its shell
consensus.py     C  Simplex, as one validator runs it
chamber.py       C  build and judge blocks for consensus
courier.py       S  small statements to many peers, none held up by a slow one
archive.py       S  the final chain on disk and the state after it
replica.py       S  one validator: votes out, blocks in, journal first
follower.py      S  blocks and transactions to and from everybody
relay.py         S  transactions of ours and of others, on their way to the leaders
service.py       S  the door: LedgerService
"""
