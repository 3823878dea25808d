"""How long things may take for which no caller waits, or which none can cut short.

All in seconds. To be looked up when they are needed: tests set them.
"""

RETURN_TIMEOUT = 5.0
"""The return of a connection, in an event loop."""

CLOSE_TIMEOUT = 5.0
"""The close of a connection."""

PING_TIMEOUT = 5.0
"""A server's answer to a ping. A blocking driver in a blocking pool can't be stopped; its
own timeouts count there."""

CONNECT_TIMEOUT = 30.0
"""A connect for which nobody in particular waits, at least."""

END_TIMEOUT = 5.0
"""What an event loop that shuts down is held up for: whatever is still being returned."""
