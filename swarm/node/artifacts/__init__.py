"""node.artifacts"""
