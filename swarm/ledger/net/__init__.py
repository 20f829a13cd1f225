"""ledger.net"""
