"""/docs: the service explained on one page made from its own description; nothing is loaded from elsewhere.

FastAPI's own page loads scripts and styles from a content network, which a server in a closed network has not, and which sees
who reads it. The browser is told not to load anything either (Content-Security-Policy).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src 'self' blob: data:"

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { border-top: 1px solid #8885; padding-top: 1rem; font-size: 1.1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .92em; }
pre { overflow-x: auto; padding: .6rem; background: #8881; }
table { border-collapse: collapse; } td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; }
img { max-width: 100%; } label { margin-right: 1rem; }
"""

TRY = """
<h2>Try</h2>
<form id="try"><label>Photograph <input type="file" name="image" accept="image/*" required></label>
<label>API key <input name="key" type="password" autocomplete="off"></label>
<label>Answer <select name="format"><option>overlay</option><option>labels</option><option>rle</option><option>polygons</option></select></label>
<button>Parse</button></form>
<div id="answer" role="status"></div>
<script>
document.getElementById("try").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target, answer = document.getElementById("answer");
  const format = form.elements.format.value, key = form.elements.key.value;
  answer.textContent = "...";
  const reply = await fetch("v1/segment?legend=true&format=" + format,
    { method: "POST", body: form.elements.image.files[0], headers: key ? { "X-API-Key": key } : {} });
  answer.textContent = "";
  if (reply.ok && (reply.headers.get("content-type") || "").startsWith("image/")) {
    const picture = new Image();
    picture.alt = format;
    picture.src = URL.createObjectURL(await reply.blob());
    answer.append(picture);
  } else {
    const text = document.createElement("pre");
    text.textContent = (await reply.text()).slice(0, 20000);
    answer.append(text);
  }
});
</script>
"""


def docs_page(schema: Mapping[str, Any]) -> str:
    """The page of an OpenAPI description: each operation with its parameters, answers and an example."""
    info = schema["info"]
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))} "
        'Machines read <a href="openapi.json">openapi.json</a>.</p>',
        TRY,
    ]
    for path, operations in schema["paths"].items():
        parts += [_operation(path, method, operation) for method, operation in operations.items()]
    return "".join([*parts, "</body></html>"])


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    text = f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2><p>{escape(operation.get('summary', ''))}</p>"
    rows = [
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one.get('description', ''))}</td></tr>"
        for one in operation.get("parameters", [])
    ]
    text += f"<table>{''.join(rows)}</table>" if rows else ""
    about = operation.get("requestBody", {}).get("description", "")
    text += f"<p>Body: {escape(about)}</p>" if about else ""
    answers = [
        f"<tr><td>{escape(status)}</td><td>{escape(answer.get('description', ''))}</td></tr>"
        for status, answer in operation.get("responses", {}).items()
    ]
    text += f"<table>{''.join(answers)}</table>"
    for kind, content in operation.get("responses", {}).get("200", {}).get("content", {}).items():
        if "example" in content:
            example = escape(json.dumps(content["example"])[:600])
            text += f"<p>{escape(kind)}:</p><pre>{example}</pre>"
    return text
