"""What a pool needs to know of a driver, one module per family."""
