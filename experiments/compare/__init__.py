"""The main job: train both families, sample, evaluate, report."""
