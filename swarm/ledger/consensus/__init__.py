"""ledger.consensus"""
