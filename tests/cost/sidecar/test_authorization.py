"""Who may reach what: keys, roles, hosts, certificates, and input that wants to be code."""

from __future__ import annotations

import hmac
import http.client
import socket
import ssl
from base64 import b64encode

import grpc
import pytest
from support.certificates import make_certificate
from support.sidecars import PROTOBUF, request

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.sidecar.api_keys import keys_from
from crewmeter_cost.sidecar.authorization import role_of
from crewmeter_cost.sidecar.settings import SidecarSettings, checked

INGEST, READ, ALL, CONTENT = "ingest-key-1234", "read-key-5678", "all-key-9012", "content-key-3456"
KEYS = f"ingest:{INGEST},read:{READ},{ALL},content:{CONTENT}"
OF_ROLE = {"ingest": INGEST, "read": READ, "content": CONTENT}
ENDPOINTS = {
    ("POST", "/v1/traces"): "ingest",
    ("POST", "/v1/metrics"): "ingest",
    ("POST", "/v1/logs"): "ingest",
    ("GET", "/metrics"): "read",
    ("GET", "/"): "read",
    ("GET", "/static/app.js"): "read",
    ("GET", "/api/report"): "read",
    ("GET", "/api/runs"): "read",
    ("GET", "/api/runs/abc"): "read",
    ("GET", "/api/boards"): "read",
    ("POST", "/mcp"): "read",
    ("GET", "/nothing"): "read",
    ("GET", "/api/content/abc/def"): "content",
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
}


@pytest.fixture(scope="module")
def locked(nursery, tmp_path_factory):
    """A sidecar with a key of each role, and one of all."""
    ledger = tmp_path_factory.mktemp("locked") / "ledger.db"
    with nursery.start(ledger, grpc=True, token=KEYS) as running:
        yield running


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize("key", [None, "wrong-key-0000", INGEST, READ, CONTENT, ALL])
def test_every_endpoint_asks_for_its_role(locked, method, path, key):
    """The matrix of endpoints and keys: 401 exactly where the key lacks the role.

    A key that reads the page gets 403 for content, as 401 makes browsers ask for another.
    """
    role = ENDPOINTS[method, path]
    assert role_of(path) == role
    headers = PROTOBUF | ({"authorization": f"Bearer {key}"} if key else {})
    status = locked.ask(method, path, b"" if method == "POST" else None, headers).status
    allowed = role is None or key == ALL or key == OF_ROLE[role]
    refusal = 403 if role == "content" and key == READ else 401
    assert (status != refusal) == allowed
    assert status != 403 or refusal == 403


@pytest.mark.parametrize(
    ("key", "code"),
    [(None, "UNAUTHENTICATED"), (READ, "UNAUTHENTICATED"), (INGEST, "OK"), (ALL, "OK")],
)
def test_grpc_asks_for_the_ingest_role(locked, key, code):
    """The same keys guard gRPC."""
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    with grpc.insecure_channel(f"127.0.0.1:{locked.grpc_port}") as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        _, call = export.with_call(request(1), metadata=metadata) if code == "OK" else (None, None)
        if code != "OK":
            with pytest.raises(grpc.RpcError) as caught:
                export(request(1), metadata=metadata)
            assert caught.value.code().name == code
        else:
            assert call.code().name == "OK"


def test_a_browser_gives_the_key_as_a_password(locked):
    """The page asks the browser for a password; the key is it."""
    assert locked.get("/").headers["www-authenticate"].startswith("Basic")
    basic = b64encode(f"anyone:{READ}".encode()).decode()
    assert locked.get("/", authorization=f"Basic {basic}").status == 200
    assert locked.get("/", authorization="Basic !!!").status == 401


def test_an_open_sidecar_is_refused():
    """Beyond loopback without a key only if one says so."""
    for host in ("0.0.0.0", "::", "10.1.2.3", "sidecar.example"):
        with pytest.raises(CrewMeterError, match="without a key"):
            checked(SidecarSettings(host=host))
        checked(SidecarSettings(host=host, insecure=True))
        checked(SidecarSettings(host=host, keys=keys_from(ALL, None)))
    for host in ("127.0.0.1", "localhost", "::1"):
        checked(SidecarSettings(host=host))


def test_keys_are_read_from_text_and_file(tmp_path):
    """One a line or between commas, with or without a role; nonsense is named."""
    file = tmp_path / "keys"
    file.write_text(f"# the team's\nread:{READ}\n\n")
    keys = keys_from(f"ingest:{INGEST}", file)
    assert keys.allow(f"Bearer {READ}", "read")
    assert not keys.allow(f"Bearer {READ}", "ingest")
    assert keys.allow(f"bearer {INGEST}", "ingest")
    for text, path in (
        ("short", None),
        ("with a space", None),
        (None, tmp_path / "missing"),
        (None, tmp_path),
    ):
        with pytest.raises(CrewMeterError):
            keys_from(text, path)
    empty = tmp_path / "empty"
    empty.write_text("# none\n")
    with pytest.raises(CrewMeterError, match="holds no key"):
        keys_from(None, empty)


def test_every_key_is_compared_in_constant_time(monkeypatch):
    """A right key, a wrong one and none at all: each key is compared, by `hmac.compare_digest`, so
    that the time taken tells nothing about which key was near.
    """
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(
        "crewmeter_cost.sidecar.api_keys.hmac.compare_digest",
        lambda key, offered: compared.append(key) or real(key, offered),
    )
    keys = keys_from("ingest:first-key-1, second-key-2, read:third-key-3", None)
    for header in ("Bearer first-key-1", "Bearer first-key-X", "Bearer x", "Basic !", "", None):
        compared.clear()
        keys.allow(header, "ingest")
        assert compared == [b"first-key-1", b"second-key-2", b"third-key-3"], header


@pytest.mark.slow
def test_another_name_for_this_machine_is_not_answered(sidecar):
    """Without keys the page answers to localhost only.

    A web page that points its own name here reads nothing.
    """
    assert sidecar.get("/api/report", host="evil.example").status == 403
    assert sidecar.get("/metrics", host="evil.example:4318").status == 403
    assert sidecar.get("/api/report", host="[::1]:4318").status == 200
    assert sidecar.get("/api/report", host="localhost:4318").status == 200


def test_no_page_of_another_site_may_read_or_send(sidecar):
    """No CORS header is ever given, and a form cannot send a type that OTLP takes."""
    reply = sidecar.ask(
        "OPTIONS",
        "/v1/traces",
        headers={"origin": "https://evil.example", "access-control-request-method": "POST"},
    )
    assert not any(name.startswith("access-control") for name in reply.headers)
    assert sidecar.post(request(1), content_type="text/plain").status == 415
    assert sidecar.post(request(1), content_type="application/x-www-form-urlencoded").status == 415


def test_half_a_certificate_is_refused(tmp_path):
    """A certificate without its key, or a file that is not there, is an error before anything
    listens.
    """
    file = tmp_path / "cert.pem"
    file.write_text("")
    with pytest.raises(CrewMeterError, match="both"):
        checked(SidecarSettings(certificate=file))
    with pytest.raises(CrewMeterError, match="does not exist"):
        checked(SidecarSettings(certificate=file, private_key=tmp_path / "key.pem"))


def test_tls_on_both_ports(nursery, tmp_path):
    """With a certificate HTTP and gRPC are encrypted, and plain HTTP is not spoken."""
    made = make_certificate(tmp_path, "localhost")
    cert, key = made.certificate, made.key
    with nursery.start(
        tmp_path / "ledger.db", grpc=True, certificate=str(cert), private_key=str(key)
    ) as running:
        context = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", running.port, context=context, timeout=10
        )
        connection.request("POST", "/v1/traces", request(2), PROTOBUF)
        assert connection.getresponse().status == 200
        connection.close()
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        with grpc.secure_channel(f"localhost:{running.grpc_port}", credentials) as channel:
            assert (
                channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")(
                    request(1)
                )
                == b""
            )
        with pytest.raises((http.client.HTTPException, OSError)):
            running.get("/healthz")
        assert len(running.stored()) == 3


HOSTILE = [
    "'; DROP TABLE call; --",
    "</script><script>alert(1)</script>",
    '=HYPERLINK("http://evil")',
    'x"} 1\ncrewmeter_fake 666\n',
    "\u202egnp.exe",
    "a\x00b",
]


@pytest.mark.slow
def test_hostile_names_stay_names(fresh):
    """Names that want to be SQL, HTML, a formula or a metric arrive as the text they are, in every
    output that shows them.
    """
    for name in HOSTILE:
        facts = {
            "crewmeter.crew.name": name,
            "gen_ai.request.model": name,
            "crewmeter.user": name,
            "crewmeter.tag." + name: name,
        }
        assert fresh.post(request(1, **facts)).status == 200
    assert len(fresh.stored()) == len(HOSTILE)
    for group in ("crew", "model", "user"):
        rows = fresh.get(f"/api/report?by={group}").json()["rows"]
        assert len(rows) == len(HOSTILE)
        assert HOSTILE[0] in {row[group] for row in rows}
    page = fresh.get("/metrics").text
    assert not any(line.startswith("crewmeter_fake") for line in page.splitlines())
    assert "user" not in page.replace("never per user", "")
    for query in (
        "by=" + "model'--",
        "where=crew=' OR 1=1",
        "since='; DROP TABLE call",
        "by=tag:x' OR '1'='1",
    ):
        assert fresh.get(
            "/api/report?" + query.replace(" ", "%20").replace("'", "%27").replace(";", "%3B")
        ).status in (200, 400)
    assert len(fresh.stored()) == len(HOSTILE)


OWN_ORIGINS = ["http://{host}"]
FOREIGN_ORIGINS = [
    "http://evil.example",
    "http://evil.example:4318",
    "null",
    "http://localhost:3000",
    "http://localhost.evil.example",
    "file://",
    "",
    "http://127.0.0.1@evil.example",
]
LOOPBACK_HOSTS = ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "127.0.0.1"]
FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:4318",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example#localhost",
    "localhost@evil.example",
    "localhost:evil",
    "10.0.0.1",
    "",
]
ROUTES = [*ENDPOINTS, ("POST", "/api/budgets/lease"), ("POST", "/api/budgets/settle")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_keys_every_route_answers_to_this_machine_only(sidecar, method, path):
    """Every route × Host × Origin: a page whose name was pointed here gets 403.

    That is the attack called DNS rebinding.
    """
    body = b"{}" if method == "POST" else None
    for template in LOOPBACK_HOSTS:
        host = template.format(port=sidecar.port)
        assert sidecar.ask(method, path, body, {"host": host}).status != 403
        own = {"host": host, "origin": f"http://{host}"}
        assert sidecar.ask(method, path, body, own).status != 403
        for origin in FOREIGN_ORIGINS:
            foreign = {"host": host, "origin": origin}
            assert sidecar.ask(method, path, body, foreign).status == 403, (host, origin)
    for host in FOREIGN_HOSTS:
        assert sidecar.ask(method, path, body, {"host": host}).status in (400, 403), host
        rebound = {"host": host, "origin": f"http://{host}"}
        assert sidecar.ask(method, path, body, rebound).status in (400, 403), host


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("key", [None, "wrong-key-0000", INGEST, READ, CONTENT, ALL])
def test_with_keys_a_foreign_page_is_refused_before_its_key(locked, method, path, key):
    """A browser may send a stored password along, so a foreign Origin is refused whatever the key.

    The Host may be any: behind a proxy it is the proxy's.
    """
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = b"{}" if method == "POST" else None
    for host in ("meter.example", "127.0.0.1"):
        own = headers | {"host": host, "origin": f"https://{host}"}
        assert b"web pages" not in locked.ask(method, path, body, own).body
        foreign = headers | {"host": host, "origin": "http://evil.example"}
        refused = locked.ask(method, path, body, foreign)
        assert (refused.status, b"web pages" in refused.body) == (403, True)


def test_a_second_host_or_origin_hides_nothing(sidecar):
    """Two Host headers, or two Origins, are refused."""
    for extra in (b"Host: evil.example\r\n", b"Origin: http://evil.example\r\n"):
        own = b"Origin: http://localhost\r\n" if extra.startswith(b"Origin") else b""
        with socket.create_connection(("127.0.0.1", sidecar.port), timeout=60) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + own + extra + b"\r\n")
            status = client.recv(4096).split()[1]
        assert status in (b"400", b"403")


@pytest.mark.parametrize("name", ["origin", "sec-fetch-site", "referer"])
def test_grpc_takes_nothing_from_a_web_page(nursery, tmp_path, name):
    """A browser sends these with every request of a page, and no OTLP client does."""
    with nursery.start(tmp_path / "ledger.db", grpc=True) as running:
        with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
            export = channel.unary_unary(
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
            )
            with pytest.raises(grpc.RpcError) as caught:
                export(request(1), metadata=((name, "http://evil.example"),))
        assert caught.value.code().name == "PERMISSION_DENIED"
        assert running.stored() == []


@pytest.mark.slow
def test_the_grpc_port_gives_a_browser_nothing(nursery, tmp_path):
    """Browsers speak HTTP/1.1 without TLS, and the gRPC port does not."""
    with nursery.start(tmp_path / "ledger.db", grpc=True) as running:
        with socket.create_connection(("127.0.0.1", running.grpc_port), timeout=60) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n")
            answer = b""
            while part := client.recv(4096):
                answer += part
        assert b"HTTP/1.1 200" not in answer
        assert running.stored() == []
