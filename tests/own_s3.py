"""An S3 server of moto on loopback, and a proxy before it that adds latency, failures and damage.

Run as a program it is both: it prints the proxy's port, and ends when its standard input does.
"""

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ACCESS = {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "people"
EXPECTS = b"\r\nExpect: 100-continue"


@dataclass
class Trouble:
    """What the proxy does: seconds before each answer, the share that gets 503 or is cut off, bytes that it flips."""

    latency_s: float = 0.0
    failures: float = 0.0
    is_damaging: bool = False
    is_silent: bool = False
    requests: int = 0
    failed: int = 0


class Proxy:
    """Forwards HTTP requests to a port, each after its latency; runs in a thread."""

    def __init__(self, port: int) -> None:
        self.trouble, self._to = Trouble(), port
        self._rng = random.Random(0)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(30)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if EXPECTS in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = head.replace(EXPECTS, b"")
        body = await _body(reader, head, reply_to=b"")
        trouble = self.trouble
        trouble.requests += 1
        await asyncio.sleep(trouble.latency_s)
        if trouble.is_silent:
            await asyncio.sleep(3600)
        if self._rng.random() < trouble.failures:
            trouble.failed += 1
            if trouble.failed % 2:  # every other is cut off without an answer
                return False
            writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return True
        up, down = await asyncio.open_connection("127.0.0.1", self._to)
        down.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) + body)
        await down.drain()
        answer = await up.readuntil(b"\r\n\r\n")
        content = await _body(up, answer, reply_to=head)
        down.close()
        if trouble.is_damaging and head.startswith(b"GET") and content:
            content = bytes([content[0] ^ 255]) + content[1:]
        kept = [line for line in answer.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        writer.write(b"\r\n".join(kept) + content)
        await writer.drain()
        return True


async def _body(reader: asyncio.StreamReader, head: bytes, reply_to: bytes) -> bytes:
    """The body that a head announces, as it was sent."""
    if reply_to.startswith(b"HEAD"):
        return b""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return await reader.readexactly(int(line.partition(b":")[2]))
        if line.startswith(b"transfer-encoding:") and b"chunked" in line:
            out = b""
            while True:
                size = await reader.readline()
                rest = await reader.readexactly(int(size.partition(b";")[0], 16) + 2)
                out += size + rest
                if rest == b"\r\n":
                    return out
    return b"" if not reply_to else await reader.read()


@contextmanager
def s3(log: Path) -> Iterator[Proxy]:
    """A server with one empty bucket behind a proxy; both end with the block."""
    code = (
        "import sys, threading; from moto.server import ThreadedMotoServer as S; s = S('127.0.0.1', 0, verbose=False);"
        " s.start(); print(s.get_host_and_port()[1], flush=True); sys.stdin.read()"
    )
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | ACCESS
    with open(log, "wb") as err:
        server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
            env=env,
        )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        proxy = Proxy(int(server.stdout.readline()))
        try:
            yield proxy
        finally:
            proxy.stop()
    finally:
        server.stdin.close()
        server.stdout.close()
        server.terminate()
        server.wait(30)
