"""Where a pool runs: an event loop, or plain threads."""
