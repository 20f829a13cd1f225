"""training.model.exact"""
