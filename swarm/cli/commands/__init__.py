"""Implement the subcommands of `swarm`, one module per group.

Modules (C: pure, S: does I/O):

    audit.py            S  Audit the work of other peers through the node of this home, and report a
                           false window.
    checkpoint.py       S  Verify an exported model against the ledger that made it final, with no
                           node and no other file.
    control.py          S  Control a run that this node launched: pause, resume, stop; or leave one
                           of another.
    data.py             S  Build datasets, and list, verify or clean up those on this disk: data
                           build, ls, verify, clean.
    doctor.py           S  Look at everything that a node needs of this machine, and say what to
                           mend: doctor.
    dry_run.py          S  Check a launch without starting anything: read the file, the text, the
                           model; say what it takes.
    evidence.py         S  Verify a file of evidence with nothing but this program and the genesis
                           of a network: verify-evidence.
    join.py             S  Take part: join a run, launch one, write a run file.
    ledger.py           S  Read and check the ledger on this home's disk or in a file, so that no
                           node needs to run.
    ledger_views.py     C  Choose the segment to audit, and render the verdict of an audit and the
                           checks of a ledger.
    market.py           S  Show what runs pay and whose they are, and change it: market, ask, run
                           shares|continue|fund, peers record.
    models.py           S  Export the run's model, evaluate a model, and let it write: export, eval,
                           generate.
    network.py          S  Found a network with several validators, and look at the genesis of one:
                           network new, show, use, restart.
    relay.py            S  Run a public relay: libp2p's daemon in Go, which hivemind brings along.
    service.py          S  Keep a node running as a service of this user: install, status,
                           uninstall.
    settlement.py       S  Settle payouts outside, by the contract on an existing engine: deploy,
                           register, sign, post, claim.
    settlement_views.py C  Show settlement outside: what the ledger has stated, what the contract
                           holds, what an address may claim.
    status.py           S  Show the node that runs here: status, map, peers, run.
    ticket.py           S  Make and show tickets, and show or export the identity of this node.
    wallet.py           S  Show and move this node's own money: what is free, at stake, locked and
                           on its way.
    wallet_views.py     C  Sum up one account of a ledger: what is free, locked and on its way, and
                           where each line stands.
"""
