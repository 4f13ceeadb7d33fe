"""``dlnotes serve`` as a process: signals, hostile clients, mistakes of whoever starts it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

pytestmark = pytest.mark.slow

GOOD = b'{"text": "the goal"}'


def request(body=GOOD, *, line=b"POST /predict HTTP/1.1", more=b"", length=None):
    size = str(len(body) if length is None else length).encode()
    head = b"\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    return line + head + size + b"\r\n" + more + b"\r\n" + body


class Served:
    """A server, and ways to talk to it."""

    def __init__(self, run, *options, host="127.0.0.1"):
        command = [sys.executable, "-m", "dlnotes", "serve", str(run), "--port", "0", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            # Where the tests run under nohup, it is ignored, and processes inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )  # fmt: skip
        self.line = self.process.stdout.readline()
        assert "http://" in self.line, self.process.stderr.read()
        self.url = self.line.partition(" at ")[2].split()[0]
        self.port = int(self.url.rpartition(":")[2])

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def raw(self, *parts, pause=0.0):
        """What comes back until the server closes, or until an answer is whole."""
        with self.connect() as client:
            try:
                for part in parts:
                    client.sendall(part)
                    time.sleep(pause)
                return answer_of(client)
            except (ConnectionResetError, BrokenPipeError):
                return b""

    def memory(self):
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def answer_of(client):
    """All bytes of one answer; those before a close where it is not whole."""
    found = b""
    while True:
        head, _, body = found.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length: ") and len(body) >= int(line[16:]) and _:
                return found
        chunk = client.recv(1 << 16)
        if not chunk:
            return found
        found += chunk


@pytest.fixture(scope="module")
def server(runs):
    served = Served(runs / "one", "--read-seconds", "2", "--max-connections", "40")
    yield served
    code, _, err = served.stop()
    assert (code, err) == (143, "Stopped.\n")  # nothing that came was worth a line


def test_a_folder_whose_name_is_no_utf_8_is_served(runs, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9\x1b[31m")
    try:
        shutil.copytree(runs / "one", folder)
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    served = Served(folder)
    last = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    health = served.raw(b"GET /health" + last)
    assert served.raw(b"GET /openapi.json" + last).startswith(b"HTTP/1.1 200")
    assert served.stop()[2] == "Stopped.\n"
    assert json.loads(health.partition(b"\r\n\r\n")[2])["name"] == r"caf\udce9\x1b[31m"
    assert "\x1b" not in served.line


def well(server):
    assert server.raw(request()).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\0\1\2\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200, b"400"),  # TLS
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"405"),
        (b"GET http://evil/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET /%00/%ff/../.. HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", b"400"),
        (request(more=b"Content-Length: 3\r\n"), b"400"),
        (request(length=-1), b"400"),
        (request(length=b"9" * 40), b"400"),
        (request(length=10**12), b"413"),
        (request(more=b"Transfer-Encoding: chunked\r\n"), b"400"),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: a\r\n" % i for i in range(50_000)), b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000_000, b"431"),
        (b"GET /" + b"a" * 10_000_000, b"431"),
        (request(b"[" * 500_000), b"400"),
        (request(b'{"text": "\xed\xa0\x80"}'), b"400"),
        (request(line=b"BREW /predict HTTP/1.1"), b"501"),
        (request(line=b"PATCH /predict HTTP/1.1"), b"405"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"200"),
    ],
)  # fmt: skip
def test_hostile_bytes_get_an_answer_or_a_closed_connection(server, sent, status):
    answer = server.raw(sent)
    # A connection that is closed while the client still writes may lose the answer.
    assert answer[9:12] == status or (answer == b"" and status in (b"431", b"400")), answer[:300]
    assert b"Traceback" not in answer
    well(server)


def test_slow_clients_are_told_or_closed(server):
    began = time.monotonic()
    assert server.raw() == b""  # says nothing at all
    assert server.raw(b"GET / HT")[9:12] == b"408"
    dribbled = server.raw(*(bytes([c]) for c in request(length=1000)[:-2]), pause=0.03)
    assert dribbled[9:12] == b"408" or dribbled == b""
    assert server.raw(request(GOOD[:5], length=20))[9:12] == b"408"
    assert time.monotonic() - began < 25
    well(server)


def test_a_client_that_does_not_read_is_closed(runs):
    served = Served(runs / "one", "--answer-seconds", "1")
    body = json.dumps({"texts": ["a" * 3000] * 256}).encode()
    with served.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        for _ in range(30):  # more than the buffers of the system take
            try:
                client.settimeout(2)
                client.sendall(request(body))
            except OSError:
                break
        client.settimeout(30)
        time.sleep(8)
        read = 0
        try:
            while chunk := client.recv(1 << 20):
                read += len(chunk)
        except ConnectionResetError:
            pass
        assert read < 30 * len(body)
    well(served)
    assert served.stop()[0] == 143


def test_pipelined_requests_are_answered_in_order_and_have_a_bound(server):
    texts = [f"goal {i}" for i in range(20)]
    asked = b"".join(request(json.dumps({"text": text}).encode()) for text in texts)
    with server.connect() as client:
        client.sendall(asked)
        found = b""
        while found.count(b'"text": "goal') < 20:
            found += client.recv(1 << 16)
    places = [found.index(f'"text": "{text}"'.encode()) for text in texts]
    assert places == sorted(places)
    found = b""
    with server.connect() as client, contextlib.suppress(ConnectionResetError):
        client.sendall(request() * 2000)
        while chunk := client.recv(1 << 16):
            found += chunk
    assert found.count(b"HTTP/1.1 200") < 2000
    well(server)


def test_half_a_request_that_begins_during_an_answer_has_its_time(server):
    """The end of the answer must not stop the clock of the next request."""
    text = json.dumps({"texts": ["the goal of a chip " * 210] * 256}).encode()
    with server.connect() as client:
        client.sendall(request(text))
        time.sleep(0.005)  # the answer takes longer
        client.sendall(b"P")
        began, found = time.monotonic(), client.recv(1 << 20)
        client.sendall(b"O")
        with contextlib.suppress(ConnectionResetError):
            while chunk := client.recv(1 << 20):
                found += chunk
    assert found.startswith(b"HTTP/1.1 200")
    assert time.monotonic() - began < 12


def test_a_connection_ends_when_nothing_follows_a_body_that_was_too_large(server):
    with server.connect() as client:
        client.sendall(request(b"a" * (1 << 20 | 1)))
        began, found = time.monotonic(), b""
        while chunk := client.recv(1 << 20):
            found += chunk
    assert found.startswith(b"HTTP/1.1 413")
    assert time.monotonic() - began < 12


def test_connections_and_memory_have_a_bound(server):
    well(server)
    before = server.memory()
    clients = [server.connect() for _ in range(60)]
    refused = 0
    for client in clients:
        with contextlib.suppress(OSError):
            client.sendall(request(b"", length=1 << 20)[:-1])
    for client in clients:
        client.settimeout(10)
        with contextlib.suppress(OSError):
            refused += b"503" in client.recv(100)[:20]
        client.close()
    assert refused >= 15
    for _ in range(300):
        server.raw(request(b'{"text": ' + b"[" * 900_000))
    well(server)
    assert server.memory() - before < 60 << 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_after_the_answers_in_flight(runs, number):
    served = Served(runs / "attention")
    body = json.dumps({"texts": ["the goal of a chip " * 60] * 100}).encode()
    answers = []
    clients = [served.connect() for _ in range(3)]
    for client in clients:
        client.sendall(request(body))
    threads = [threading.Thread(target=lambda c=c: answers.append(answer_of(c))) for c in clients]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    code, _, err = served.stop(number)
    for thread in threads:
        thread.join(30)
    assert (code, err) == (128 + number, "Stopped.\n")
    assert [a[9:12] for a in answers] == [b"200"] * 3
    with pytest.raises(ConnectionRefusedError):
        served.connect()
