"""training.hf"""
