"""node.join"""
