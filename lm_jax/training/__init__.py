"""Optimizer, train step, training loop, hooks and metrics."""
