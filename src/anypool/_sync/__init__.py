"""The blocking facade: every async pool, driven from threads."""
