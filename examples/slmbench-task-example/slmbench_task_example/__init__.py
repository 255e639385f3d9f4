"""Task folders and what they need, found by slmbench through the entry points in pyproject.toml."""
