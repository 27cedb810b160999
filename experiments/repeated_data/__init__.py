"""The same text seen again and again."""
