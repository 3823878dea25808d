"""Hanging up without waiting: what asyncio and the operating system allow for that."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any


def hang_up(
    loop: asyncio.AbstractEventLoop, transport: Any, abort: Callable[[], object]
) -> None:
    """Abort a connection of an event loop, from any thread, even if the loop is gone.

    Args:
        loop: the connection's event loop.
        transport: its transport there.
        abort: closes the connection at once; to be called in the loop's own thread.
    """
    if loop.is_closed():
        # Its transports can't do anything any more, but the socket still can.
        peer = transport and transport.get_extra_info("socket")
        if peer is not None:
            shut_down(peer.fileno())
    elif loop.is_running() and asyncio._get_running_loop() is not loop:
        loop.call_soon_threadsafe(abort)
    else:
        abort()


def shut_down(fileno: int) -> None:
    """End a TCP connection whose socket somebody else may be using right now.

    Who waits for that socket is woken, finds the connection gone and closes it. Closing
    it here could hit another file that has got the same number meanwhile.
    """
    try:
        # A duplicate, since a socket object closes its file descriptor in the end.
        with socket.socket(fileno=os.dup(fileno)) as peer:
            peer.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is gone already
