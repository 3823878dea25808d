"""A TCP proxy that does to a connection what networks do."""

from __future__ import annotations

import selectors
import socket
import threading


class Proxy:
    """Stands between a driver and its server, and can be told to misbehave.

    Attributes:
        port: where it listens, on 127.0.0.1.
        sent: bytes that clients have sent so far.
        connects: how many clients have connected so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakened = socket.socketpair()
        self._wakened.setblocking(False)
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.sent = 0
        self.connects = 0
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        # What an end can't take yet, as nobody reads there. Its peer is not read meanwhile,
        # and all other connections go on: a statement is cancelled by way of another one.
        self._unsent: dict[socket.socket, bytes] = {}
        self._stalled = False
        self._orders: list[str] = []
        self._obeyed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="proxy")
        self._thread.start()

    @property
    def open(self) -> int:
        """How many clients are connected now."""
        return len(self._clients)

    def stall(self) -> None:
        """Let nothing through any more; accept connections, and leave them at that."""
        self._order("stall")

    def lead_to(self, host: str, port: int) -> None:
        """Connect who comes from now on to another server."""
        self._target = host, port

    def resume(self) -> None:
        """Be a good proxy again."""
        self._order("resume")

    def cut(self) -> None:
        """Close all connections."""
        self._order("cut")

    def refuse(self) -> None:
        """Close all connections, and accept no more."""
        self._order("refuse")

    def close(self) -> None:
        self._order("end")
        self._thread.join(5)
        self._waker.close()
        self._wakened.close()

    def _order(self, what: str) -> None:
        with self._obeyed:
            self._orders.append(what)
            self._waker.send(b"!")
            assert self._obeyed.wait_for(lambda: not self._orders, 5)

    # In the proxy's thread.

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=100)
        self._selector.register(listener, selectors.EVENT_READ)
        return listener

    def _serve(self) -> None:
        self._selector.register(self._wakened, selectors.EVENT_READ)
        while True:
            for key, events in self._selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._wakened:
                    if self._obey():
                        return
                elif source is self._listener:
                    self._accept()
                elif events & selectors.EVENT_WRITE:
                    self._send(source, waited=True)
                else:
                    self._forward(source)

    def _obey(self) -> bool:
        self._wakened.recv(100)
        with self._obeyed:
            orders, self._orders = self._orders, []
            for order in orders:
                getattr(self, f"_{order}")()
            self._obeyed.notify_all()
        return "end" in orders

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self.connects += 1
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        self._clients.add(client)
        self._peers[client], self._peers[server] = server, client
        for end in (client, server):
            end.setblocking(False)
            self._watch(end)

    def _watch(self, end: socket.socket) -> None:
        """Look at what can be done with one end now, and at nothing else."""
        events = 0
        if not self._stalled:
            events |= selectors.EVENT_WRITE if end in self._unsent else 0
            events |= 0 if self._peers[end] in self._unsent else selectors.EVENT_READ
        if end in self._selector.get_map():
            self._selector.unregister(end)
        if events:
            self._selector.register(end, events)

    def _forward(self, source: socket.socket) -> None:
        if source not in self._peers:
            return  # closed a moment ago, in the same round
        try:
            data = source.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if source in self._clients:
            self.sent += len(data)
        if not data:
            self._drop(source)
            return
        self._unsent[self._peers[source]] = data
        self._send(self._peers[source])

    def _send(self, end: socket.socket, *, waited: bool = False) -> None:
        if end not in self._unsent:
            return  # as above
        try:
            sent = end.send(self._unsent[end])
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(end)
            return
        rest = self._unsent.pop(end)[sent:]
        if rest:
            self._unsent[end] = rest
        if rest or waited:
            for each in (end, self._peers[end]):
                self._watch(each)

    def _drop(self, source: socket.socket) -> None:
        for end in (source, self._peers.pop(source)):
            self._peers.pop(end, None)
            self._unsent.pop(end, None)
            self._clients.discard(end)
            if end in self._selector.get_map():
                self._selector.unregister(end)
            end.close()

    def _stall(self) -> None:
        self._stalled = True
        for end in self._peers:
            if end in self._selector.get_map():
                self._selector.unregister(end)

    def _resume(self) -> None:
        self._stalled = False
        if self._listener.fileno() == -1:
            self._listener = self._listen(self.port)
        for end in self._peers:
            self._watch(end)

    def _cut(self) -> None:
        while self._peers:
            self._drop(next(iter(self._peers)))

    def _refuse(self) -> None:
        if self._listener.fileno() != -1:
            self._selector.unregister(self._listener)
            self._listener.close()
        self._cut()

    def _end(self) -> None:
        self._refuse()
        self._selector.close()
