"""The ledgers: who has which slot, and every decision on that. Plain, without any I/O."""
