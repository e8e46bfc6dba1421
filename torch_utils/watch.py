"""Notices within a minute that one of the processes that work together died or hangs, and says which."""

import contextlib
import hmac
import json
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from dnnlib.errors import TrainingError

BEAT_SEC = 2.0     # between two signs of life
CONNECT_SEC = 60.0
AGAIN = "Run the same command again to go on."


class Board(Protocol):
    """Where the first process leaves its address for the others: a store of torch.distributed."""

    def set(self, key: str, value: str) -> None: ...  # noqa: D102
    def get(self, key: str) -> bytes: ...  # noqa: D102


@dataclass
class Link:
    """A connection to another process."""

    rank: int
    name: str
    socket: socket.socket
    text: bytes = b""          # came in, less than a line so far
    silent_beats: int = 0


def _leave(text: str) -> None:
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h")  # a progress bar hid the cursor
        sys.stdout.flush()
    sys.stderr.write(f"error: {text}\n")
    sys.stderr.flush()
    time.sleep(0.3)  # the others must hear why before the connections break
    os._exit(2)      # the main thread cannot be reached in a collective


class Watch:
    """Exchanges signs of life on a thread of its own, whatever the main thread waits for.

    All processes are connected with the first one. A connection that breaks without a farewell means a process that
    died, one without news a process that was stopped or a computer that is off. The first process tells the others;
    each says it in one line and ends at once with exit code 2, as its main thread may be stuck in a collective that
    nothing can wake. A process whose main thread is merely busy still gives its signs.

    Args:
        links: to the first process, or from there to all others.
        silent_sec: how long one may give no sign. Beats without an answer are counted, not seconds: a process that was
            stopped itself must not blame the others for it.
        leave: says why and ends this process.
    """

    def __init__(self, links: list[Link], *, silent_sec: float, leave: Callable[[str], object] = _leave) -> None:
        self._links, self._silent_sec, self._leave = links, silent_sec, leave
        self._beat_sec = min(BEAT_SEC, silent_sec / 10)
        self._lock, self._over = threading.Lock(), False
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def close(self, reason: str | None = None) -> None:
        """Stop watching; tell the others that this process is done, or for what reason it fails."""
        with self._lock:
            if not self._over:
                self._over = True
                self._send({"failed": reason} if reason else {"done": True})

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for link in self._links:
                selector.register(link.socket, selectors.EVENT_READ, link)
            while self._links and not self._over:
                self._beat()
                end = time.monotonic() + self._beat_sec
                while (left := end - time.monotonic()) > 0 and self._links and not self._over:
                    for key, _ in selector.select(left):
                        if not self._hear(key.data):
                            selector.unregister(key.fileobj)
                            with self._lock:  # the main thread may be sending to them
                                self._links.remove(key.data)

    def _beat(self) -> None:
        with self._lock:
            if not self._over:
                self._send({})
        for link in self._links:
            link.silent_beats += 1
            if link.silent_beats * self._beat_sec > self._silent_sec:
                self._lose(f"{link.name} has not answered for {self._silent_sec:g} seconds: it is stopped, or its "
                           f"computer cannot be reached. {AGAIN}")

    def _hear(self, link: Link) -> bool:
        """Take in what came through a link; return whether it still stands."""
        try:
            data = link.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._lose(f"{link.name} died. {AGAIN}")
            return False
        link.silent_beats = 0
        *lines, link.text = (link.text + data).split(b"\n")
        for message in map(json.loads, lines):
            if message.get("done"):
                return False
            if "failed" in message:
                self._lose(f"{link.name} failed: {message['failed']}")
            if "lost" in message:
                self._lose(message["lost"])
        return True

    def _lose(self, text: str) -> None:
        """Tell the others, and end this process."""
        with self._lock:
            if self._over:
                return
            self._over = True
            self._send({"lost": text})
        self._leave(text)

    def _send(self, message: dict[str, Any]) -> None:
        for link in self._links:
            with contextlib.suppress(OSError):  # what broke is found when it is read from
                link.socket.sendall(json.dumps(message).encode() + b"\n")


def start_watch(rank: int, size: int, board: Board, master: str, *, silent_sec: float) -> Watch:
    """Connect this process with the others and begin to watch over all of them.

    Args:
        rank, size: place of this process, and their number.
        board: through which they find the first one.
        master: host name or address at which every process finds this board.
        silent_sec: how long one may give no sign of life.
    Raises:
        TrainingError: they find no connection.
    """
    me = f"Rank {rank} of {size} (pid {os.getpid()} on {socket.gethostname()})"
    links = _accept(size, board, master, me) if rank == 0 else [_connect(rank, board, master, me)]
    return Watch(links, silent_sec=silent_sec)


def _accept(size: int, board: Board, master: str, me: str) -> list[Link]:
    """Return connections from all others, which prove by a secret of the board that they belong here."""
    own = _own_address(master)
    secret = secrets.token_hex(16)
    with _listener() as listener:
        # Where it has none the board is on this computer, and the others know the way.
        board.set("watch", json.dumps({"host": own, "port": listener.getsockname()[1], "secret": secret, "name": me}))
        links: dict[int, Link] = {}
        end = time.monotonic() + CONNECT_SEC
        while len(links) < size - 1:
            listener.settimeout(max(end - time.monotonic(), 0.001))
            try:
                connection, _ = listener.accept()
                hello = _first_line(connection)
            except TimeoutError:
                missing = ", ".join(str(rank) for rank in range(1, size) if rank not in links)
                raise TrainingError(f"Ranks {missing} of {size} did not connect to {me} within {CONNECT_SEC:g} "
                                    "seconds. The computers must let each other through on all TCP ports.") from None
            if hmac.compare_digest(str(hello.get("secret")), secret):
                links[int(hello["rank"])] = Link(int(hello["rank"]), str(hello["name"]), _ready(connection))
            else:
                connection.close()
    return list(links.values())


def _connect(rank: int, board: Board, master: str, me: str) -> Link:
    """Return a connection to the first process, once all others have theirs."""
    place = json.loads(board.get("watch"))
    host = place["host"] or master
    try:
        connection = socket.create_connection((host, place["port"]), timeout=CONNECT_SEC)
        connection.sendall(json.dumps({"rank": rank, "secret": place["secret"], "name": me}).encode() + b"\n")
        connection.settimeout(2 * CONNECT_SEC)
        if not connection.recv(1, socket.MSG_PEEK):  # its first beat
            raise ConnectionResetError("it closed the connection")
    except OSError as error:
        raise TrainingError(f"{me} found no connection to {place['name']} at {host}:{place['port']} ({error}). "
                            "The computers must let each other through on all TCP ports.") from error
    return Link(0, place["name"], _ready(connection))


def _ready(connection: socket.socket) -> socket.socket:
    connection.settimeout(BEAT_SEC)  # of sending to a process that reads nothing; reading waits for data first
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _first_line(connection: socket.socket) -> dict[str, Any]:
    """Return what a new connection says first; nothing of a stranger."""
    connection.settimeout(5.0)
    text = b""
    with contextlib.suppress(OSError, ValueError):
        while not text.endswith(b"\n") and len(text) < 4096 and (data := connection.recv(4096)):
            text += data
        found = json.loads(text)
        return found if isinstance(found, dict) else {}
    return {}


def _own_address(master: str) -> str | None:
    """Return the address of this computer on the way to the board, or None where that is this computer."""
    family, *_, address = socket.getaddrinfo(master, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)  # of datagrams: picks a route and sends nothing
        own = str(probe.getsockname()[0])
    return None if own.startswith("127.") or own == "::1" else own


def _listener() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server(("", 0), backlog=1024)
