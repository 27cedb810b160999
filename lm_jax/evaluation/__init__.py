"""Metrics of likelihood and of samples, with 95% intervals."""
