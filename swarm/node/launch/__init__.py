"""node.launch"""
