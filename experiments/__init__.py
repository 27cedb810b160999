"""Experiments: comparison, report, ablation, repeated data, claims, speed, audits."""
