"""Requests to a server: so many at once, each bounded in time and size, tried again where that may help."""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from slmbench.engines.server_address import ServerAddress, is_loopback
from slmbench.errors import EngineError, FileError, SlmbenchError, TrustError
from slmbench.foreign import Limits, decode_json
from slmbench.values import JsonObject
from slmbench.visible import visible

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

TRIES = 5
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
"""Also of what a server asks for by Retry-After."""
CONNECT_S = 10.0
BODY_BYTES = 32_000_000
"""Of an answer: log-probabilities of a window of 32,000 tokens have less."""
_CHUNK = 65_536
_TICK_S = 0.5
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LIMITS = Limits(bytes=BODY_BYTES, surrogates=True)


@frozen
class ServerRequest:
    """One request. body: None for a GET. tries: how often it is sent at most."""

    path: str
    body: JsonObject | None = None
    tries: int = TRIES


@frozen
class Reply:
    """What came back, of whatever status. value: its JSON, None if it has none. fault: why it is no JSON, '' if it is.

    took_ms: from the last time that it was sent to its end.
    """

    status: int
    headers: Mapping[str, str]
    value: Any
    fault: str
    took_ms: float

    @property
    def said(self) -> str:
        """What a server says of an error, in short."""
        value = self.value
        for key in ("error", "message", "detail"):
            if isinstance(value, dict) and key in value:
                value = value[key]
        text = value if isinstance(value, str) else json.dumps(value) if value else ""
        return visible(" ".join(text.split()))[:300].rstrip(".") or self.fault


class ServerFailure(EngineError):
    """A server that can't be reached, ends before its answer does, takes too long or says nothing that can be used."""


class ServerClient:
    """Asks a server. connections: how many requests are under way at once.

    Nothing is sent elsewhere: no redirect is followed, no proxy taken, and of an address that is this machine's each
    connection is looked at before anything is sent. key: goes with each request, and into no message.
    """

    def __init__(self, address: ServerAddress, *, key: str | None, connections: int, timeout_s: float) -> None:
        self.address = address
        self.connections = connections
        self._key = key
        self._timeout_s = timeout_s

    def ask(self, requests: Sequence[ServerRequest]) -> Generator[tuple[int, Reply | SlmbenchError], None, None]:
        """(index of a request, its reply or why there is none), in the order in which they end.

        Each is sent `tries` times at most, with waits between them: after a broken connection, 429 and 5xx. Closed
        early, it ends all connections.
        """
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for at in range(len(requests)):
            waiting.put(at)
        done: queue.SimpleQueue[tuple[int, Reply | SlmbenchError]] = queue.SimpleQueue()
        stop = threading.Event()
        lines = [_Line(self.address, self._timeout_s, stop) for _ in range(min(self.connections, len(requests)))]
        for line in lines:
            # Daemons, so that nobody waits for a server that hangs when the program ends.
            threading.Thread(target=self._work, args=(line, requests, waiting, done, stop), daemon=True).start()
        try:
            left = len(requests)
            while left:
                for line in lines:
                    line.cut_if_late()
                with contextlib.suppress(queue.Empty):
                    found = done.get(timeout=_TICK_S)
                    left -= 1
                    yield found
        finally:
            stop.set()
            for line in lines:
                line.cut()

    def ask_one(self, request: ServerRequest) -> Reply:
        """The reply to one request. Raises ServerFailure, TrustError."""
        with contextlib.closing(self.ask([request])) as replies:
            _, reply = next(replies)
        if isinstance(reply, SlmbenchError):
            raise reply
        return reply

    def _work(
        self,
        line: _Line,
        requests: Sequence[ServerRequest],
        waiting: queue.SimpleQueue[int],
        done: queue.SimpleQueue[tuple[int, Reply | SlmbenchError]],
        stop: threading.Event,
    ) -> None:
        while not stop.is_set():
            try:
                at = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((at, self._tried(line, requests[at], stop)))
            except SlmbenchError as error:
                done.put((at, error))
            except Exception as error:  # A thread that died would leave its request unanswered for ever.
                done.put((at, ServerFailure(f"{self.address.told(requests[at].path)}: {_short(error)}")))

    def _tried(self, line: _Line, request: ServerRequest, stop: threading.Event) -> Reply:
        where = self.address.told(request.path)
        wait_s = FIRST_WAIT_S
        for tries in range(1, request.tries + 1):
            fault, asked_s = "", 0.0
            try:
                reply = self._sent(line, request)
            except _Dropped as error:
                fault = str(error)
            else:
                if reply.status not in _AGAIN:
                    return reply
                fault, asked_s = f"HTTP {reply.status}" + f" ({reply.said})" * bool(reply.said), _retry_after(reply)
            last = tries == request.tries
            if last or stop.wait(min(max(wait_s, asked_s), LONGEST_WAIT_S)):
                raise ServerFailure(f"{where}: {fault}" + f", {tries} times in a row" * (tries > 1))
            wait_s *= 2
        raise AssertionError("unreachable")

    def _sent(self, line: _Line, request: ServerRequest) -> Reply:
        from urllib3 import exceptions

        where = self.address.told(request.path)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "slmbench"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        body = None
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(request.body).encode()
        started = time.perf_counter()
        line.due_at = time.monotonic() + self._timeout_s
        try:
            response = line.pool.urlopen(
                "GET" if body is None else "POST",
                self.address.base + request.path,
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
            data = _body(response, line.due_at, where)
        except (exceptions.NewConnectionError, exceptions.ConnectTimeoutError) as error:
            raise _Dropped(f"nothing answers there: {_short(error)}") from None
        except (exceptions.ReadTimeoutError, _Late):
            raise self._late(where) from None
        except exceptions.SSLError as error:
            hint = "; it may speak http://, not https://" if "WRONG_VERSION_NUMBER" in str(error).upper() else ""
            raise ServerFailure(f"{where}: no secure connection: {_short(error)}{hint}") from None
        except (exceptions.HTTPError, OSError) as error:
            if line.is_late:
                raise self._late(where) from None
            if "BadStatusLine" in repr(error):
                raise ServerFailure(
                    f"{where}: what answers there doesn't speak HTTP: {_short(error)}; https:// may be meant"
                ) from None
            raise _Dropped(f"the connection broke: {_short(error)}") from None
        finally:
            line.due_at = None
        took_ms = (time.perf_counter() - started) * 1000
        if self._key is not None and self._key.encode() in data:
            raise ServerFailure(f"{where}: its answer repeats the API key, so that nothing of it is kept")
        return _reply(response.status, dict(response.headers), data, took_ms)

    def _late(self, where: str) -> ServerFailure:
        return ServerFailure(f"{where}: no whole answer within {self._timeout_s:g} seconds; --timeout gives it longer")


class _Dropped(Exception):
    """A connection that there isn't, or that broke: another may hold."""


class _Late(Exception):
    """A body that isn't whole in time."""


class _Line:
    """One connection at a time, that another thread can cut. due_at: when the answer under way has to be whole."""

    def __init__(self, address: ServerAddress, timeout_s: float, stop: threading.Event) -> None:
        self.due_at: float | None = None
        self.is_late = False
        self._stop = stop
        self._handle: socket.socket | None = None
        self._lock = threading.Lock()
        self.pool = _pool(address, timeout_s, self._noted)

    def cut_if_late(self) -> None:
        """Ends the connection of an answer that is overdue: a server that dribbles meets each of the socket's waits."""
        due = self.due_at
        if due is not None and time.monotonic() > due:
            self.is_late = True
            self.cut()

    def cut(self) -> None:
        """Ends the connection, at whatever it is."""
        with self._lock, contextlib.suppress(OSError):
            if self._handle is not None:
                self._handle.shutdown(socket.SHUT_RDWR)

    def _noted(self, made: socket.socket) -> None:
        """Keeps a second handle of a connection: TLS, and http.client at a last answer, take the first one away."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
            self._handle = socket.socket(fileno=os.dup(made.fileno()))
            self.is_late = False
            if self._stop.is_set():
                self._handle.shutdown(socket.SHUT_RDWR)


def _pool(address: ServerAddress, timeout_s: float, note: Callable[[socket.socket], None]) -> HTTPConnectionPool:
    """A pool of one connection, which knows no proxies."""
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

    kind = urllib3.HTTPSConnectionPool if address.scheme == "https" else urllib3.HTTPConnectionPool
    of: Any = HTTPSConnection if address.scheme == "https" else HTTPConnection

    class Guarded(of):
        def _new_conn(self) -> socket.socket:
            made: socket.socket = super()._new_conn()
            if address.loopback and not is_loopback(str(made.getpeername()[0])):
                made.close()
                raise TrustError(
                    f"{address.told()}: the name leads to another machine by now; allow it by --allow-remote"
                )
            note(made)
            return made

    timeout = urllib3.Timeout(connect=min(CONNECT_S, timeout_s), read=timeout_s)
    pool = kind(address.host, address.port, maxsize=1, block=True, timeout=timeout, retries=False)
    pool.ConnectionCls = Guarded
    return pool


def _body(response: BaseHTTPResponse, due_at: float, where: str) -> bytes:
    """All of a body. Raises ServerFailure for one that is too large or packed."""
    found, whole = bytearray(), False
    try:
        if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
            raise ServerFailure(f"{where}: its answer is packed ({response.headers['Content-Encoding'][:40]}), unasked")
        while chunk := response.read1(_CHUNK):
            found += chunk
            if len(found) > BODY_BYTES:
                raise ServerFailure(f"{where}: its answer has more than {BODY_BYTES // 10**6} MB; none of it is kept")
            if time.monotonic() > due_at:
                raise _Late
        whole = True
    finally:
        if not whole:  # What is left in the connection is no answer to the next request.
            response.close()
        response.release_conn()
    return bytes(found)


def _reply(status: int, headers: Mapping[str, str], data: bytes, took_ms: float) -> Reply:
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        value, fault = decode_json(data, "the answer", _LIMITS), ""
    except FileError as error:
        begin = visible(" ".join(data[:80].decode(errors="replace").split()))
        value, fault = None, f"{error.problems[0].message}: {begin!r}" if begin else "it is empty"
    return Reply(status, lower, value, fault, took_ms)


def _retry_after(reply: Reply) -> float:
    """The seconds that a server asks for before the next try; 0 if it asks for none."""
    said = reply.headers.get("retry-after", "")
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, float(said))
    with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    return 0.0


def _short(error: BaseException) -> str:
    """What an error of the network says, without the objects that it names."""
    inner = error.__cause__ or error.__context__
    if isinstance(inner, OSError) and inner.strerror:
        return str(inner.strerror)
    text = visible(" ".join(str(error).split()))
    return text.rpartition(": ")[2][:200].rstrip(".") or type(error).__name__
