"""training.record"""
