"""Harnesses that show that nothing is lost, whatever happens: bounded in `make test`."""
