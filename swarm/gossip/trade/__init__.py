"""gossip.trade"""
