"""Decoding, templates, and files of samples."""
