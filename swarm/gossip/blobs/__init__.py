"""gossip.blobs"""
