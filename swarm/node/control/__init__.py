"""node.control"""
