"""The comparison: trains both families, samples, evaluates and reports."""
