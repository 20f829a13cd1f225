"""Doubt: what a trainer commits to, and whether it holds.

transcript.py  C  leaves, roots and proofs of one segment
"""
