"""Audit of samplers on sources of text whose conditionals are known exactly."""
