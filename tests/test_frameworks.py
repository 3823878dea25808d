"""Overlapping requests of Flask, Django and Starlette: none shares a connection."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import anyio
import django
import django.conf
import django.http
import django.test
import django.urls
import flask
import httpx
import pytest
import werkzeug.serving
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from anypool import sync

REQUESTS = 4
"""How many are under way at the same time."""

PATIENCE = 10.0


class Journal:
    """A pool, and what requests do with it: each writes its own number and reads it back.

    What a request has written is in a temporary table of the connection's, in a transaction
    that isn't committed: whoever shared the connection would see it.
    """

    def __init__(self, path: Path) -> None:
        self.pool = sync.QueuePool(
            lambda: sqlite3.connect(path, check_same_thread=False),
            pool_size=REQUESTS,
            max_overflow=REQUESTS,
        )
        self.meeting = threading.Barrier(REQUESTS)
        self.background: list[Any] = []

    def write(self, connection: sqlite3.Connection, number: int) -> None:
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS mine (number)")
        connection.execute("INSERT INTO mine VALUES (?)", (number,))

    def read(self, connection: sqlite3.Connection) -> list[int]:
        rows = connection.execute("SELECT number FROM mine").fetchall()
        connection.rollback()
        return [number for (number,) in rows]

    def meet(self) -> None:
        """Wait until all requests have come as far."""
        self.meeting.wait(PATIENCE)

    def nested(self, number: int) -> list[int]:
        """Be a request, whose helper functions ask the pool by themselves."""
        with self.pool.connect() as connection:
            self.write(connection, number)
            self.meet()
            with self.pool.connect() as same:
                assert same is connection
                found = self.read(same)
            self.meet()
            return found

    def lines(self, number: int) -> Iterator[str]:
        """Be a download."""
        with self.pool.connect() as connection:
            self.write(connection, number)
            for _ in range(3):
                yield " "
            self.meet()
            yield str(self.read(connection))
            self.meet()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "app.db")
    yield journal
    assert journal.pool.checkedout() == 0
    journal.pool.close()


@contextmanager
def _serving(server: Any) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()


def _overlap(port: int, kind: str, rounds: int = 2) -> None:
    """Send requests from threads; more than once, as threads and connections are reused."""

    def get(number: int) -> bytes:
        url = f"http://127.0.0.1:{port}/{kind}/{number}"
        with urllib.request.urlopen(url, timeout=3 * PATIENCE) as answer:
            body: bytes = answer.read()
            return body

    with ThreadPoolExecutor(REQUESTS) as clients:
        for start in range(0, rounds * REQUESTS, REQUESTS):
            numbers = range(start, start + REQUESTS)
            answers = list(clients.map(get, numbers))
            assert [flask.json.loads(each) for each in answers] == [[n] for n in numbers]


async def _overlap_in_loop(app: Any, kind: str, rounds: int = 2) -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

        async def request(number: int) -> None:
            answer = await client.get(f"/{kind}/{number}", timeout=3 * PATIENCE)
            assert answer.json() == [number]

        for start in range(0, rounds * REQUESTS, REQUESTS):
            async with anyio.create_task_group() as group:
                for number in range(start, start + REQUESTS):
                    group.start_soon(request, number)


# Flask.


def _flask(journal: Journal) -> flask.Flask:
    app = flask.Flask("app")

    @app.get("/plain/<int:number>")
    def plain(number: int) -> Any:
        return journal.nested(number)

    @app.before_request
    def begin() -> None:
        if flask.request.path.startswith("/hooks"):
            flask.g.lease = journal.pool.connect()

    @app.teardown_request
    def end(error: BaseException | None) -> None:
        lease = flask.g.pop("lease", None)
        if lease is not None:
            lease.close()

    @app.get("/hooks/<int:number>")
    def hooks(number: int) -> Any:
        return journal.nested(number)

    @app.get("/stream/<int:number>")
    def stream(number: int) -> Any:
        return flask.Response(journal.lines(number))

    @app.get("/context/<int:number>")
    def in_context(number: int) -> Any:
        return flask.Response(flask.stream_with_context(journal.lines(number)))

    @app.get("/async/<int:number>")
    async def asynchronous(number: int) -> Any:  # in a loop of the request's own
        with journal.pool.connect() as connection:
            journal.write(connection, number)
            await asyncio.to_thread(journal.meet)
            return journal.read(connection)

    return app


@pytest.mark.parametrize("kind", ["plain", "hooks", "stream", "context", "async"])
def test_flask(journal: Journal, kind: str) -> None:
    app = _flask(journal)
    server = werkzeug.serving.make_server(
        "127.0.0.1", 0, app, threaded=True, request_handler=_QuietFlask
    )
    with _serving(server):
        _overlap(server.server_port, kind)


class _QuietFlask(werkzeug.serving.WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        pass


# Django.


class _Urls:
    """A module of URLs, as Django wants one."""

    def __init__(self) -> None:
        self.urlpatterns: list[Any] = []


@pytest.fixture
def views(journal: Journal) -> Iterator[None]:
    if not django.conf.settings.configured:
        django.conf.settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=_Urls(),
            SECRET_KEY="of a test",
            LOGGING_CONFIG=None,
        )
        django.setup()
    urls = _Urls()
    urls.urlpatterns = list(_django(journal))
    with django.test.override_settings(ROOT_URLCONF=urls):
        yield


def _django(journal: Journal) -> Iterator[Any]:
    JSON: Callable[[Any], Any] = lambda found: django.http.JsonResponse(found, safe=False)  # noqa: E731, N806

    def plain(request: Any, number: int) -> Any:
        return JSON(journal.nested(number))

    def stream(request: Any, number: int) -> Any:
        return django.http.StreamingHttpResponse(journal.lines(number))

    async def insensitive(request: Any, number: int) -> Any:
        return JSON(await sync_to_async(journal.nested, thread_sensitive=False)(number))

    async def sensitive(request: Any, number: int) -> Any:
        """All requests' calls run in one and the same thread, one after the other."""
        lease = await sync_to_async(journal.pool.connect)()
        await sync_to_async(journal.write)(lease.connection, number)
        await asyncio.to_thread(journal.meet)
        found = await sync_to_async(journal.read)(lease.connection)
        await asyncio.to_thread(journal.meet)
        await sync_to_async(lease.close)()
        return JSON(found)

    async def in_the_loop(request: Any, number: int) -> Any:
        with journal.pool.connect() as connection:
            journal.write(connection, number)
            await asyncio.to_thread(journal.meet)
            found = journal.read(connection)
            await asyncio.to_thread(journal.meet)
        return JSON(found)

    async def async_stream(request: Any, number: int) -> Any:
        async def lines() -> AsyncIterator[str]:
            with journal.pool.connect() as connection:
                journal.write(connection, number)
                yield " "
                await asyncio.to_thread(journal.meet)
                yield str(journal.read(connection))
                await asyncio.to_thread(journal.meet)

        return django.http.StreamingHttpResponse(lines())

    for view in (plain, stream, insensitive, sensitive, in_the_loop, async_stream):
        yield django.urls.path(f"{view.__name__}/<int:number>", view)


class _ThreadedServer(ThreadingMixIn, WSGIServer):
    daemon_threads = False
    request_queue_size = 2 * REQUESTS


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.mark.usefixtures("views")
@pytest.mark.parametrize(
    "kind", ["plain", "stream", "insensitive", "sensitive", "in_the_loop"]
)
def test_django_under_wsgi(journal: Journal, kind: str) -> None:
    app: Any = WSGIHandler()
    server = make_server("127.0.0.1", 0, app, _ThreadedServer, _Quiet)
    with _serving(server):
        _overlap(server.server_port, kind)


@pytest.mark.usefixtures("views")
@pytest.mark.parametrize(
    "kind", ["insensitive", "sensitive", "in_the_loop", "async_stream"]
)
def test_django_under_asgi(journal: Journal, kind: str) -> None:
    asyncio.run(_overlap_in_loop(ASGIHandler(), kind))


@pytest.mark.usefixtures("views")
@pytest.mark.parametrize("kind", ["insensitive", "sensitive", "in_the_loop"])
def test_djangos_client(journal: Journal, kind: str) -> None:
    async def main() -> None:
        client = django.test.AsyncClient()

        async def request(number: int) -> None:
            answer = await client.get(f"/{kind}/{number}")
            assert answer.json() == [number]

        await asyncio.gather(*(request(number) for number in range(REQUESTS)))

    asyncio.run(main())


@pytest.mark.usefixtures("views")
def test_djangos_plain_views_under_asgi_take_turns(journal: Journal) -> None:
    """In the one thread that is for them; a connection that one forgot isn't another's."""
    journal.meeting = threading.Barrier(1)
    asyncio.run(_overlap_in_loop(ASGIHandler(), "plain"))


@pytest.mark.parametrize("used_before", [False, True])
def test_calls_in_the_one_thread_of_sync_to_async(
    journal: Journal, used_before: bool
) -> None:
    """It hands back what was set there in a context, and on to all that come later."""
    connect = sync_to_async(journal.pool.connect)

    async def main() -> None:
        if used_before:
            lease = await connect()
            await sync_to_async(lease.close)()
        requests = (asyncio.create_task(connect()) for _ in range(REQUESTS))
        leases = await asyncio.gather(*requests)
        assert len({id(lease.connection) for lease in leases}) == REQUESTS
        for lease in leases:
            await sync_to_async(lease.close)()

    asyncio.run(main())


@pytest.mark.usefixtures("views")
def test_a_plain_middleware_and_its_view_share(journal: Journal) -> None:
    """A request's own nested calls in its thread are nested calls."""
    journal.meeting = threading.Barrier(1)

    def middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def handle(request: Any) -> Any:
            with journal.pool.connect() as connection:
                answer = get_response(request)
                assert journal.pool.checkedout() == 1
                assert connection.in_transaction is False
                return answer

        return handle

    name = f"{__name__}.current_middleware"
    globals()["current_middleware"] = middleware
    with django.test.override_settings(MIDDLEWARE=[name]):
        asyncio.run(_one(ASGIHandler(), "plain"))


async def _one(app: Any, kind: str) -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get(f"/{kind}/1")).json() == [1]


# Starlette.


def _starlette(journal: Journal) -> Starlette:
    def plain(request: Request) -> Response:
        return JSONResponse(journal.nested(int(request.path_params["number"])))

    def stream(request: Request) -> Response:
        return StreamingResponse(journal.lines(int(request.path_params["number"])))

    async def async_stream(request: Request) -> Response:
        return StreamingResponse(journal.lines(int(request.path_params["number"])))

    def task(request: Request) -> Response:
        number = int(request.path_params["number"])

        def work() -> None:
            journal.background.append((number, journal.nested(number)))

        return JSONResponse([number], background=BackgroundTask(work))

    routes = [
        Route(f"/{endpoint.__name__}/{{number:int}}", endpoint)
        for endpoint in (plain, stream, async_stream, task)
    ]
    return Starlette(routes=routes)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ["plain", "stream", "async_stream", "task"])
def test_starlette(journal: Journal, kind: str, backend: str) -> None:
    anyio.run(_overlap_in_loop, _starlette(journal), kind, backend=backend)
    if kind == "task":
        numbers = range(2 * REQUESTS)
        assert sorted(journal.background) == [(number, [number]) for number in numbers]


@pytest.mark.parametrize("kind", ["stream", "async_stream"])
def test_a_download_that_nobody_reads_to_its_end(journal: Journal, kind: str) -> None:
    """The client goes away: the generator is dropped, and what it had comes back."""
    journal.meeting = threading.Barrier(1)

    async def main() -> None:
        started = anyio.Event()

        async def receive() -> Any:
            await started.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                started.set()
                await anyio.sleep_forever()

        path = f"/{kind}/1"
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": [],
        }
        scope["query_string"] = b""
        scope["asgi"] = {"version": "3.0", "spec_version": "2.0"}
        with anyio.fail_after(PATIENCE):
            await _starlette(journal)(scope, receive, send)

    asyncio.run(main())
    pause, patience = threading.Event(), time.monotonic() + PATIENCE
    while journal.pool.checkedout():  # the worker thread that ran it lets go of it last
        assert time.monotonic() < patience
        pause.wait(0.002)
