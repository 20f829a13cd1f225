"""gossip.codecs"""
