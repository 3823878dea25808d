"""2, 8 and 32 threads on one pool: throughput, waits, fairness and starvation."""

from __future__ import annotations

import time
from threading import Barrier, Thread

from ..measure import summarize
from ..peers.peer import BlockingPeer, Size
from ..peers.registry import blocking_peers
from ..result import Row, rows
from ..waits import Waits
from .options import Options

CROWDS = {2: "2 threads on 8", 8: "8 threads on 8", 32: "32 threads on 8"}
CONNECTIONS = 8


def measure(options: Options) -> list[Row]:
    """Measure each number of threads."""
    found = []
    for threads, case in CROWDS.items():
        found += _crowd(options, case, threads)
    return found


def _crowd(options: Options, case: str, threads: int) -> list[Row]:
    size = Size(keep=CONNECTIONS, extra=0)
    peers = {name: make(size) for name, make in blocking_peers().items()}
    # Long enough for every thread to have some hundred turns; the scheduler has moods.
    seconds = min(0.2, 20 * options.effort.turn)
    rounds = max(2, options.effort.rounds * 2 // 3)
    samples: dict[str, list[float]] = {name: [] for name in peers}
    starved: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(rounds):
        for name in peers if number % 2 == 0 else reversed(peers):
            cycles, took = _race(peers[name], threads, seconds)
            samples[name].append(took / max(1, sum(cycles)))
            starved[name].append(100 * min(cycles) * threads / max(1, sum(cycles)))
    details = {}
    for name, peer in peers.items():
        waits = Waits(tolerance=threads)
        _race(peer, threads, seconds, waits)
        details[name] = {
            "cycles/s": 1 / sorted(samples[name])[rounds // 2],
            "least served thread %": sorted(starved[name])[rounds // 2],
        } | waits.details()
        peer.close()
    return rows(case, "threads", summarize(samples, next(iter(peers))), details)


def _race(
    peer: BlockingPeer, threads: int, seconds: float, waits: Waits | None = None
) -> tuple[list[int], float]:
    """Have the threads cycle for a while; return how many cycles each had."""
    cycles = [0] * threads
    start = Barrier(threads + 1)
    stop: list[bool] = []

    def work(me: int) -> None:
        connect = peer.connect
        done = 0
        start.wait()
        while not stop:
            arrival = waits.arrive() if waits else None
            with connect():
                if waits is not None and arrival is not None:
                    waits.served(arrival)
                time.sleep(0)  # as with any real query: the others come to run
            done += 1
        cycles[me] = done

    workers = [Thread(target=work, args=(me,), daemon=True) for me in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    begun = time.perf_counter()
    time.sleep(seconds)
    stop.append(True)
    for worker in workers:
        worker.join()
    return cycles, time.perf_counter() - begun
