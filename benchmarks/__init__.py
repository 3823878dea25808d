"""How fast anypool is, measured beside the pools that people use today."""
