"""The parts that a pool is put together from; each owns its state.

Connector, Closer, Inspector and Resetter do something to one connection. Checkouts,
Checkins, Reclaimer, Keeper and Shutdown put that in order, by what the ledger decides.
"""
