"""The pools, written once as coroutines over a runtime and a driver."""
