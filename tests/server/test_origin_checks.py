"""Who may ask: programs, this server's own pages by a known name or an address; nobody else's pages."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers

from pspnet.errors import ConfigError
from pspnet.server import ServerSettings, create_app
from pspnet.server.origin_checks import refused
from pspnet.server.request_checks import is_key


def status(method: str = "GET", **headers: str) -> int:
    given = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    actual = refused({"method": method, "headers": given}, {"parser.example"})
    return 200 if actual is None else actual[0]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1:8000",
        "[::1]:8000",
        "192.168.0.7",
        "parser.example",
        "Parser.Example:443",
    ],
)
def test_known_names_and_addresses_pass(host: str) -> None:
    assert status(host=host) == 200
    assert status(host=host, origin=f"http://{host}") == 200
    assert status("POST", host=host, origin=f"https://{host.lower()}") == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("evil.parser.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("2130706433", 403),
        ("[", 400),
        ("[::1", 400),
        ("[v1.x]", 400),
        ("localhost:abc", 400),
        ("localhost@evil.example", 400),
        ("localhost, evil.example", 400),
        ("localhost\tevil", 400),
        ("", 400),
        ("\xff\xfe", 400),
        ("a" * 5000, 400),
    ],
)
def test_other_names_are_refused_and_none_is_a_fault(host: str, expected: int) -> None:
    assert status(host=host) == expected


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "", "http://evil.example", "http://[", "file://", "garbage", "\xff", "http://127.0.0.1"),
        *("http://127.0.0.1:8000.evil.example", "https://127.0.0.1:8000@evil.example", "http://127.0.0.1:8000/path"),
        "chrome-extension://abc",
    ],
)
def test_pages_of_other_origins_are_refused(origin: str) -> None:
    assert status("POST", host="127.0.0.1:8000", origin=origin) == 403


def test_what_a_browser_says_about_the_site() -> None:
    assert status("POST", host="localhost", sec_fetch_site="cross-site", sec_fetch_mode="no-cors") == 403
    assert status("POST", host="localhost", sec_fetch_site="cross-site", sec_fetch_mode="navigate") == 403  # a form
    assert status("GET", host="localhost", sec_fetch_site="cross-site", sec_fetch_mode="navigate") == 200  # a link
    assert status("POST", host="localhost", sec_fetch_site="same-origin") == 200


def test_no_host_is_no_browser_and_two_are_refused() -> None:
    assert status() == 200
    assert refused({"headers": [(b"host", b"localhost"), (b"Host", b"evil.example")]}, ()) == (
        400,
        "the request has two Host headers",
    )


def test_the_application_asks_and_can_be_told_not_to() -> None:
    with TestClient(create_app(settings=ServerSettings(hosts=("testserver",)))) as http:
        assert http.get("/healthz").status_code == 200
        refusal = http.get("/healthz", headers={"host": "evil.example"})
        assert refusal.status_code == 403
        assert "--allow-host NAME" in refusal.json()["detail"]
        assert http.get("/metrics", headers={"origin": "http://evil.example"}).status_code == 403
    with TestClient(create_app(settings=ServerSettings(any_host=True))) as http:
        assert http.get("/healthz", headers={"host": "evil.example", "origin": "http://a.b"}).status_code == 200


def test_an_origin_that_is_allowed_may_ask_and_read() -> None:
    page = "https://maps.example.org"
    settings = ServerSettings(hosts=("testserver",), origins=(page,))
    with TestClient(create_app(settings=settings)) as http:
        asked = {"origin": page, "access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
        preflight = http.options("/v1/segment", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == page
        actual = http.get(
            "/healthz", headers={"origin": page, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
        )
        assert actual.status_code == 200
        assert actual.headers["access-control-allow-origin"] == page
        assert "x-mean-confidence" in actual.headers["access-control-expose-headers"]
        for other in ("https://maps.example.org.evil.example", "http://maps.example.org", "null"):
            assert http.get("/healthz", headers={"origin": other}).status_code == 403
            assert http.options("/v1/segment", headers={**asked, "origin": other}).status_code == 403


@pytest.mark.parametrize(
    "origin", ["*", "maps.example.org", "https://maps.example.org/", "https://Maps.example.org", ""]
)
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ConfigError, match="origins"):
        ServerSettings(origins=(origin,))


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("X-API-Key", "k1", True),
        ("X-API-Key", " k2 ", True),
        ("X-API-Key", "K1", False),
        ("X-API-Key", "k1,k2", False),
        ("X-API-Key", "", False),
        ("X-API-Key", "kä", False),
        ("Authorization", "Bearer k1", True),
        ("Authorization", "bearer k2", True),
        ("Authorization", "BEARER  k2", True),
        ("Authorization", "k1", False),
        ("Authorization", "Basic k1", False),
        ("Authorization", "Bearerk1", False),
        ("Authorization", "Bearer", False),
    ],
)
def test_a_key_is_taken_only_with_its_scheme(name: str, value: str, right: bool) -> None:
    assert is_key(Headers({name: value}), ("k1", "k2")) is right
