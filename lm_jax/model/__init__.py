"""The transformer backbone, its layers and its cross-entropy."""
