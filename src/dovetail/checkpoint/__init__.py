"""Checkpoints: a format without pickle, its verification, and the store that keeps the best and newest ones."""
