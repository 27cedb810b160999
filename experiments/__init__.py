"""Experiments: comparison, report, ablation, repeated data, claims and speed."""
