"""training.devices"""
