"""Which form an answer takes: the parameter `format` where it is given, else the Accept header (RFC 9110, 12.5.1)."""

from __future__ import annotations

from typing import Literal, get_args

from pspnet.server.problems import Problem

Format = Literal["labels", "overlay", "confidence", "rle", "polygons"]
MEDIA_TYPES: dict[Format, str] = {
    "labels": "image/png",
    "overlay": "image/png",
    "confidence": "image/png",
    "rle": "application/json",
    "polygons": "application/geo+json",
}
_BY_TYPE: dict[str, Format] = {
    "image/png": "labels",
    "image/*": "labels",
    "*/*": "labels",
    "application/json": "rle",
    "application/*": "rle",
    "application/geo+json": "polygons",
}


def choose_format(given: Format | None, accept: str | None) -> Format:
    """The answer's form. `image/png;format=overlay` names a form inside the header. Raises Problem (406)."""
    if given is not None:
        return given
    if not accept or not accept.strip():
        return "labels"
    best: tuple[float, int, Format] | None = None
    for position, entry in enumerate(accept.split(",")):
        kind, *parameters = [part.strip().lower() for part in entry.split(";")]
        settings = dict(part.partition("=")[::2] for part in parameters)
        form = _form(kind, settings.get("format", "").strip('"'))
        quality = _quality(settings.get("q", "1"))
        # a type that is named goes before a wildcard of the same quality, the earlier before the later
        rank = (quality - (0.0001 if "*" in kind else 0), -position)
        if form and quality > 0 and (best is None or rank > best[:2]):
            best = (*rank, form)
    if best is None:
        offered = ", ".join(sorted(set(MEDIA_TYPES.values())))
        raise Problem("not_acceptable", f"accept {accept[:200]!r} allows none of: {offered}. Or say ?format=labels")
    return best[2]


def _form(kind: str, named: str) -> Format | None:
    for form in get_args(Format):
        if named == form and _BY_TYPE.get(kind) and kind in (MEDIA_TYPES[form], "image/*", "*/*"):
            return form
    return None if named else _BY_TYPE.get(kind)


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 1.0
