"""Settlement of the ledger's payouts by a contract on an existing engine; optional: the extra ``[evm]``.

Modules (C: pure, S: does I/O):

    contract.py S  Talk to the contract: deploy it, read it, send transactions to it. Entry point of
                   eth-account and eth-abi.
    engine.py   C  Define what an engine is asked and how it answers: the methods of Ethereum's
                   JSON-RPC.
    plan.py     C  Decide what to bring to the contract, from the ledger's state and the contract's.
    rpc.py      S  Ask an engine by JSON-RPC over HTTP.
"""
