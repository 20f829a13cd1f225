"""node.seat"""
