"""node.inference"""
