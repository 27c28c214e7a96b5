"""Origin and Host checks: against other pages in a browser on this machine or in its network (CSRF, DNS rebinding).

A browser sends requests of any page to any address. Two headers that a page cannot forge tell: Origin (or Sec-Fetch-Site),
whose page it is; and Host, by which name the page knows this server. A name can be bent to this machine by who owns it, an
address cannot, so addresses are taken and names must be known. Programs that are no browsers send no Origin and pass.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, MutableMapping
from typing import Any

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::\d{1,5})?")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#@\s]+)")
LOCAL = frozenset(("localhost",))


def refused(
    scope: MutableMapping[str, Any], hosts: Collection[str], origins: Collection[str] = ()
) -> tuple[int, str] | None:
    """(status, why) for a request that is not answered; None for one that may pass. hosts: known names, in lower case.
    origins: those whose pages may ask, besides this server's own."""
    values: dict[bytes, list[str]] = {}
    for name, value in scope.get("headers", []):
        values.setdefault(name.lower(), []).append(value.decode("latin-1"))
    given = values.get(b"host", [])
    if len(given) > 1:
        return 400, "the request has two Host headers"
    host = given[0].strip().lower() if given else None
    if host is not None:
        name = _HOST.fullmatch(host)
        if name is None:
            return 400, f"the Host header {host[:80]!r} is no host name"
        if not _known(name[1], hosts):
            return 403, f"the host name {name[1][:80]!r} is not known here; start with --allow-host NAME to allow it"
    origin_headers = values.get(b"origin", [])
    if len(origin_headers) == 1 and origin_headers[0].strip().lower() in origins:
        return None
    for origin in origin_headers:
        parts = _ORIGIN.fullmatch(origin.strip().lower())
        if parts is None or parts[1] != host:
            return 403, f"requests of another origin ({origin[:80]!r}) are refused; --allow-origin allows one"
    site, mode = values.get(b"sec-fetch-site", [""])[0], values.get(b"sec-fetch-mode", [""])[0]
    if site == "cross-site" and (mode != "navigate" or scope.get("method", "GET") not in ("GET", "HEAD")):
        return 403, "requests of another site are refused"
    return None


def _known(name: str, hosts: Collection[str]) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.rstrip(".") in LOCAL or name in hosts
    return True
