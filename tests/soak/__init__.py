"""Soak: pools under all that happens in production, for a minute or for hours."""
