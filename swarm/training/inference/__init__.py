"""training.inference"""
