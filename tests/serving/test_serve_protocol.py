"""What ``dlnotes serve`` makes of the bytes of a connection: where requests begin, end, and fail."""

import json
import socket
import time

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from test_serve_process import GOOD, Served, answer_of, request

from dlnotes.errors import UserError
from dlnotes.serving.hosts import Hosts
from dlnotes.serving.limits import Refused

UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server(runs):
    served = Served(
        runs / "one", "--read-seconds", "3", "--allowed-hosts", "notes.example", "bücher.example"
    )
    yield served
    code, _, err = served.stop()
    assert (code, err) == (143, "Stopped.\n")


def answers(server, *parts, half_close=False, pause=0.0):
    """Status and body of each answer until the server closes, which it must do within 3 s."""
    found = b""
    with server.connect() as client:
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        client.settimeout(2.5)
        while chunk := client.recv(1 << 16):
            found += chunk
    told = []
    while found:
        head, _, rest = found.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        told.append((int(head[9:12]), rest[:length]))
        found = rest[length:]
    return told


def statuses(server, *parts, **options):
    return [status for status, _ in answers(server, *parts, **options)]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
def test_the_body_of_a_request_that_asks_for_an_upgrade_is_no_request(server, protocol):
    """RFC 9110, section 7.8: a server may ignore Upgrade. The body must not be smuggled."""
    smuggled = json.dumps({"text": "x"}).encode() + b" " * 10
    assert b"text" in smuggled
    more = UPGRADE.replace(b"h2c", protocol)
    told = answers(server, request(GOOD, more=more) + request(smuggled, more=more) + LAST)
    assert [status for status, _ in told] == [200, 200, 200]
    assert json.loads(told[0][1])["text"] == "the goal"
    hidden = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert statuses(server, request(hidden, more=more) + LAST) == [400, 200]
    in_pieces = request(GOOD, more=more)
    assert statuses(server, in_pieces[:-9], in_pieces[-9:], LAST, pause=0.02) == [200, 200]


def test_a_request_behind_a_get_that_asks_for_an_upgrade_is_answered(server):
    get = HEALTH.replace(b"\r\n\r\n", b"\r\n" + UPGRADE + b"\r\n")
    assert statuses(server, get + request() + get + LAST) == [200, 200, 200, 200]


@pytest.mark.parametrize("target", [b"a:1", b"/predict", b"http://localhost/", b"localhost"])
def test_connect_is_refused_and_the_connection_closed(server, target):
    sent = b"CONNECT " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ((status, body),) = answers(server, sent + HEALTH)
    assert (status, b"CONNECT" in body) == (405, True)


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1])
@pytest.mark.parametrize("kind", ["one header", "many", "spaces", "url"])
def test_the_bound_of_headers_does_not_depend_on_packets(server, size, kind):
    start = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    end = b"\r\n\r\n"
    left = size - len(start) - len(end)
    if kind == "one header":
        head = start + b"X: " + b"a" * (left - 3) + end
    elif kind == "spaces":
        head = start + b"X:" + b" " * (left - 3) + b"a" + end
    elif kind == "url":
        head = start.replace(b"health", b"health?" + b"a" * (left - 1 + 2)) + end[2:]
    else:
        lines = b"".join(b"X%04d: a\r\n" % i for i in range(left // 10 - 1))
        head = start + lines + b"Y: " + b"a" * (left - len(lines) - 3) + end
    assert len(head) == size
    expected = [200] if size == 1 << 16 else [431]
    assert statuses(server, head) == expected
    assert statuses(server, head[:40_000], head[40_000:], pause=0.02) == expected
    assert statuses(server, request() + head) == [200, *expected]
    body = request(b" " * 70_000)
    assert statuses(server, body + head[:100], head[100:], pause=0.02) == [400, *expected]


def test_a_client_that_has_sent_all_is_answered(server):
    assert statuses(server, request(), half_close=True) == [200]
    assert statuses(server, HEALTH * 3 + request(), half_close=True) == [200] * 4
    assert statuses(server, request() + b"\r\n", half_close=True) == [200]
    assert statuses(server, b"", half_close=True) == []


def test_what_was_broken_off_is_told_after_the_answers_before_it(server):
    ((_, told),) = answers(server, request()[:-3], half_close=True)
    assert json.loads(told) == {"error": "the connection ended before the request was whole"}
    for part in (request()[:-3], b"GET /hea", HEALTH[:-2]):
        assert statuses(server, HEALTH + request() + part, half_close=True) == [200, 200, 400]
    assert statuses(server, HEALTH + request() + b"\0") == [200, 200, 400]


def test_requests_that_are_sent_ahead_have_a_bound(server):
    assert statuses(server, HEALTH * 32 + LAST) == [200] * 33
    assert statuses(server, HEALTH * 100) == [200] * 33 + [429]


def test_a_request_that_waits_to_send_its_body_is_answered_behind_another(server):
    waits = (
        b"POST /predict HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    )
    assert statuses(server, HEALTH + waits % b"evil.example") == [200, 421]
    assert statuses(server, HEALTH, waits % b"evil.example", pause=0.1) == [200, 421]


def test_white_space_after_a_value_is_no_part_of_it(server):
    length = b"Content-Length: %d" % len(GOOD)
    for end in (b" ", b"\t \t"):
        sent = request().replace(length, length + end).replace(b"localhost", b"localhost" + end)
        assert end + b"\r\n" in sent
        assert statuses(server, sent + LAST) == [200, 200]


@pytest.mark.parametrize("zeros", [1, 30, 5000])
def test_a_length_may_have_leading_zeros(server, zeros):
    length = b"0" * zeros + b"%d" % len(GOOD)
    sent = request(length=0).replace(b"Content-Length: 0", b"Content-Length: " + length)
    assert statuses(server, sent + LAST) == [200, 200]
    large = sent.replace(length, b"0" * zeros + b"9999999")
    with server.connect() as client:
        client.sendall(large)
        assert answer_of(client)[9:12] == b"413"


@pytest.mark.parametrize(
    "line",
    [
        b"GET /health",
        b"GET /health HTTP/0.9",
        b"GET /health HTTP/2.0",
        b"GET /health HTTP/3.0",
        b"GET /health HTTP/9.9",
        b"PRI * HTTP/2.0",
    ],
)
def test_other_versions_of_http_are_refused(server, line):
    sentence = b"this server speaks HTTP/1.1 and HTTP/1.0"
    whole = line + b"\r\n"
    for sent in ([whole], [whole + b"\r\n"], [whole[:5], whole[5:11], whole[11:]]):
        ((status, body),) = answers(server, *sent, pause=0.01)
        assert (status, sentence in body) == (505, True)
    assert statuses(server, HEALTH + line + b"\r\n") == [200, 505]


def named(host, url=b"/health"):
    return b"GET %s HTTP/1.1\r\nConnection: close\r\nHost: %s\r\n\r\n" % (url, host)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (named(b"localhost:1"), 200),
        (named(b"127.0.0.1"), 200),
        (named(b"[::1]:80"), 200),
        (named(b"LOCALHOST."), 200),
        (named(b"notes.example"), 200),
        (named(b"xn--bcher-kva.example:"), 200),
        (b"GET /health HTTP/1.0\r\n\r\n", 200),
        (named(b"evil.example"), 421),
        (named(b"localhost.evil.example"), 421),
        (named(b"evil.example", b"/nowhere"), 421),
        (named(b""), 421),
        (named(b":80"), 421),
        (named(b"."), 421),
        (named(b"x.notes.example"), 421),
        (named(b"192.0.2.1"), 421),
        (named(b"evil.example", b"http://localhost:80/health"), 200),
        (named(b"evil.example", b"http://localhost?a"), 200),
        (named(b"localhost", b"http://evil.example/health"), 421),
        (named(b"localhost", b"http:///health"), 421),
        (request().replace(b"Host: localhost", b"Connection: close\r\nHost: evil"), 421),
        # RFC 9112, section 3.2: a bad value is 400.
        (named(b"localhost@evil.example"), 400),
        (named(b"localhost, localhost"), 400),
        (named(b"[::1"), 400),
        (named(b"localhost:a"), 400),
        (named("bücher.example".encode()), 400),
        (named(b"localhost", b"http://localhost@evil.example/health"), 400),
    ],
)
def test_another_sites_name_gets_no_answer(server, sent, status):
    """DNS rebinding: a page of evil.example lets that name resolve to this machine."""
    ((told, body),) = answers(server, sent)
    assert told == status, body
    if status != 200:
        told = json.loads(body)["error"]
        if b"evil" in sent and status == 421:
            assert told.endswith(", which is not a name of this server; --allowed-hosts adds names")
        elif status == 421 and b"19" not in sent and b"x." not in sent:
            assert told == "the header Host is empty; it must be a name of this server"


@pytest.mark.parametrize("url", [b"/health", b"http://localhost/health", b"/nowhere"])
@pytest.mark.parametrize("hosts", [0, 2, 3])
def test_a_request_has_one_header_host(server, hosts, url):
    """RFC 9112, section 3.2."""
    sent = b"GET %s HTTP/1.1\r\n%s\r\n" % (url, b"Host: localhost\r\n" * hosts)
    ((status, body),) = answers(server, sent + HEALTH)
    assert status == 400
    assert json.loads(body) == {"error": f"a request has one header Host, not {hosts}"}
    assert statuses(server, HEALTH + sent + HEALTH) == [200, 400]
    assert statuses(server, sent.replace(b"/1.1", b"/1.0")) == (
        [400] if hosts else [404] if b"now" in url else [200]
    )


REFUSED = {
    b"BREW / HTTP/1.1\r\n": (501, "knows the methods GET, HEAD and POST, not this one"),
    b"get / HTTP/1.1\r\n": (501, "knows the methods GET, HEAD and POST, not this one"),
    b"BR": (501, "knows the methods GET, HEAD and POST, not this one"),
    b"\x16\x03\x01": (400, "does not begin with the name of a method"),
    b"{}": (400, "does not begin with the name of a method"),
    b"GET /a b HTTP/1.1\r\n": (400, "not a valid HTTP request (Expected HTTP/"),
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n": (400, "must name a path, such as /health"),
    b"GET / HTTP/1.1\r\nA B: c\r\n": (400, "not a valid HTTP request (Invalid header token)"),
    b"GET / HTTP/1.1\r\nContent-Length: x\r\n": (400, "(Invalid character in Content-Length)"),
    b"GET /" + b"a" * (1 << 16): (431, "the request line and the headers have more than 65,536 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("sent", REFUSED, ids=lambda sent: sent[:12].decode("latin-1"))
def test_the_true_cause_is_told(server, sent):
    status, sentence = REFUSED[sent]
    ((told, body),) = answers(server, sent)
    assert told == status
    assert sentence in json.loads(body)["error"]


def allows(hosts, header):
    try:
        hosts.check(header)
    except Refused:
        return False
    return True


def test_which_names_are_allowed():
    everywhere = Hosts("0.0.0.0", ["*.example.org"])
    mine = socket.gethostname().encode()
    for host in (b"192.0.2.1:8000", b"[2001:db8::1]", b"localhost", b"a.example.org", mine):
        assert allows(everywhere, host)
    for host in (b"example.org", b"evil.example", b"1.evil", b"2001:db8::1", b"[::1", b"\xff"):
        assert not allows(everywhere, host)
    assert allows(Hosts("here.example"), b"Here.Example:80")
    assert allows(Hosts("127.0.0.1", ["*"]), b"evil.example")
    for local in ("localhost", "::1", "127.0.0.1", "127.0.0.2"):
        assert not allows(Hosts(local), b"192.0.2.1")
        assert allows(Hosts(local), f"[{local}]".encode() if ":" in local else local.encode())
    assert not allows(Hosts("[::1]"), b"192.0.2.1")  # it is this machine alone, as ::1 is


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ("bücher.example", b"xn--bcher-kva.example"),
        ("*.Bücher.Example", b"a.xn--bcher-kva.example"),
        ("faß.example", b"xn--fa-hia.example"),  # as browsers have it; not fass.example
        ("例え。jp", b"xn--r8jz45g.jp"),
        ("xn--bcher-kva.example", b"XN--bcher-kva.example"),
        ("Example.Org.", b"example.org"),
        ("*.example.org.", b"a.example.org"),
        ("my_service", b"my_service:80"),
        ("192.0.2.1", b"192.0.2.1"),
        ("2001:DB8::0:1", b"[2001:db8::1]"),
        ("[2001:db8::1]", b"[2001:db8:0::1]:80"),
        ("0x.example", b"0x.example"),
    ],
)
def test_a_name_that_is_accepted_matches(given, header):
    assert allows(Hosts("127.0.0.1", [given]), header)
    if "*" not in given:
        assert allows(Hosts(given), header)


@pytest.mark.parametrize(
    "wrong",
    [
        *("http://a.example", "a.example:80", "a:99999", "a:", "cafe:80", "[a]", "[::1", "::1]"),
        *("", "a b", "a.*", "*.", "*.*", "**", "a/", "a@b", "a,b", "a?b", "a#b", "a..b", ".a"),
        *("a" * 64, "a." * 127 + "a", "1.2.3", "256.1.1.1", "*.1.2.3.4", "fe80::1%eth0", "☃.net"),
        *("a_ü", "\u200d.example", "\ud800", "a.0x1", "0x7F000001", "*.a.0x"),
    ],
)
def test_a_name_that_would_never_match_is_refused(wrong):
    with pytest.raises(UserError, match=r"^allowed_hosts must be names such as") as told:
        Hosts("127.0.0.1", [wrong])
    assert "\n" not in str(told.value)
