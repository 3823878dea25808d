"""The things a pool is made of: records, leases, cursors, listeners, errors."""
