"""Published models as runs of this library, and its runs for other people's tools."""
