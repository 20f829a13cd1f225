"""training.averaging"""
