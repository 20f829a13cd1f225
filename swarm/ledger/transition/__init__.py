"""ledger.transition"""
