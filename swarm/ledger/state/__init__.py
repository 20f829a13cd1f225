"""ledger.state"""
