"""/docs explains every route, and asks nobody else for anything."""

from __future__ import annotations

import re

from fastapi.testclient import TestClient

from pspnet.server import ServerSettings, create_app


def test_every_route_is_explained_and_nothing_is_loaded() -> None:
    app = create_app(settings=ServerSettings(hosts=("testserver",)))
    with TestClient(app) as http:
        reply = http.get("/docs")
    assert reply.status_code == 200
    page = reply.text
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in page
            assert operation["summary"] in page
    assert re.findall(r"https?://|//[a-z]|@import|url\(", re.sub(r"<pre>.*?</pre>", "", page)) == []
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["openapi.json"]
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy


def test_texts_of_the_description_are_no_markup() -> None:
    from pspnet.server.docs_page import docs_page

    evil = "<script>alert(1)</script>"
    operation = {"summary": evil, "parameters": [{"name": evil}], "responses": {evil: {"description": evil}}}
    page = docs_page({"info": {"title": evil, "version": evil}, "paths": {evil: {"get": operation}}})
    assert "<script>alert" not in page
