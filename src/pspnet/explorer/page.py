"""The explorer's page: one HTML file with every picture inside."""

from __future__ import annotations

import base64
import html
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.explorer.failures import BORDER_PX, Box, Object
from pspnet.explorer.report import ErrorExample, ExplorerReport, Kind, Missed
from pspnet.files import write_bytes
from pspnet.images import encode_jpeg
from pspnet.labels import IGNORE, LabelSpace
from pspnet.metrics import percent

_SIDE = 220  # px of a picture on the page
_KINDS = {
    "borders": ("along borders", "#9aa7b6"),
    "mismatched": ("mismatched relationships", "#c2543d"),
    "confusable": ("confusable pairs", "#d99a2b"),
    "inconspicuous": ("inconspicuous things", "#5c7fb8"),
    "rest": ("small fragments", "#d5dbe2"),
}


@dataclass(frozen=True)
class Picture:
    """An image that is shown: (H, W, 3) uint8, its labels and its prediction."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    predicted: NDArray[np.uint8]


def write_page(
    path: Path, report: ExplorerReport, space: LabelSpace, pictures: dict[int, Picture], overwrite: bool
) -> None:
    """Writes the page, whole or not at all. Raises OutputError for a file that exists, without overwrite."""
    shares = {"borders": report.border_share, **{k.name: k.share for k in report.kinds}, "rest": report.rest_share}
    template = Template((resources.files("pspnet.explorer") / "page.html").read_text(encoding="utf-8"))
    text = template.substitute(
        title=html.escape(report.title),
        protocol=html.escape(report.protocol),
        mean_iou=percent(report.scores.mean_iou),
        pixel_accuracy=percent(report.scores.pixel_accuracy),
        border_px=BORDER_PX,
        bar="".join(f'<span style="width:{100 * s:.2f}%;background:{_KINDS[n][1]}"></span>' for n, s in shares.items()),
        bar_text=", ".join(f"{_KINDS[n][0]} {s:.0%}" for n, s in shares.items()),
        bar_legend="".join(
            f"<span>{_swatch(_KINDS[n][1])}{_KINDS[n][0]} <b>{100 * s:.0f}</b></span>" for n, s in shares.items()
        ),
        pairs=_pairs(report, space),
        missed=_missed(report.missed, space),
        chart=_chart(report.objects, space),
        **{kind.name: _kind(kind, space, pictures) for kind in report.kinds},
    )
    write_bytes(path, text.encode(), overwrite=overwrite)


def _kind(kind: Kind, space: LabelSpace, pictures: dict[int, Picture]) -> str:
    if not kind.groups:
        return '<p class="none">None were found.</p>'
    rows = [
        [
            _name(g.label, space),
            _name(g.predicted, space),
            "-" if g.around is None else _name(g.around, space),
            str(g.regions),
            f"{g.pixels:,}",
        ]
        for g in kind.groups
    ]
    heads = ["labelled as", "taken for", "mostly beside", "#patches", "#pixels"]
    cards = "".join(_card(example, space, pictures[example.index]) for example in kind.examples)
    return f'{_table("Patches", heads, rows)}<h3>Examples, largest first</h3><div class="cards">{cards}</div>'


def _pairs(report: ExplorerReport, space: LabelSpace) -> str:
    if not report.pairs:
        return ""
    rows = []
    for p in report.pairs:
        a, b = (html.escape(space.names[i]) for i in (p.first, p.second))
        rows.append(
            [
                f"{_name(p.first, space)} and {_name(p.second, space)}",
                _percent(p.rate),
                f"{_percent(p.first_as_second)} of {a}, {_percent(p.second_as_first)} of {b}",
                f"{p.pixels:,}",
            ]
        )
    return _table("Pairs that are swapped most", ["classes", "#rate", "taken for the other", "#pixels"], rows)


def _missed(missed: list[Missed], space: LabelSpace) -> str:
    if not missed:
        return ""
    rows = [
        [
            _name(m.label, space),
            str(m.objects),
            _percent(m.missed),
            _percent(m.missed_small),
            _percent(m.missed_large),
            _percent(m.missed_faint),
            _percent(m.missed_clear),
            _name(m.taken_for, space) if m.missed else "-",
        ]
        for m in missed
    ]
    heads = ["class", "#objects", "#missed", "#small", "#large", "#faint", "#clear", "taken for"]
    return _table("Objects that are missed, by class", heads, rows)


def _chart(objects: list[Object], space: LabelSpace) -> str:
    """Every object by size and contrast: found or missed."""
    shown = [o for o in objects if o.contrast > 0]
    if len(shown) < 10:
        return ""
    step = max(1, len(shown) // 1500)  # a page should stay light; evenly spaced over the images
    width, height, left, bottom = 1080, 300, 56, 42
    sizes = [math.log10(o.share) for o in shown]
    low, high = math.floor(min(sizes)), -1.0
    top = float(np.quantile([o.contrast for o in shown], 0.99))
    dots = []
    for o in sorted(shown[::step], key=lambda o: o.hit < 0.5):
        x = left + (math.log10(o.share) - low) / (high - low) * (width - left - 10)
        y = height - bottom - min(o.contrast / top, 1) * (height - bottom - 12)
        colour = "#c2543d" if o.hit < 0.5 else "#8fa6c4"
        label = f"{html.escape(space.names[o.label])} in {html.escape(o.image)}: {o.hit:.0%} right"
        dots.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}" fill-opacity="0.75"><title>{label}</title>'
            "</circle>"
        )
    places = [left + (t - low) / (high - low) * (width - left - 10) for t in range(low, 0)]
    ticks = "".join(
        f'<text x="{x:.0f}" y="{height - 22}" text-anchor="{anchor}">{100 * 10.0**t:g} %</text>'
        for t, x, anchor in zip(range(low, 0), places, ["middle"] * (len(places) - 1) + ["end"], strict=True)
    )
    return (
        f"<h3>Objects by size and contrast</h3><div class='legend'><span>{_swatch('#8fa6c4')}found</span>"
        f"<span>{_swatch('#c2543d')}missed</span></div><div class='scroll'>"
        f'<svg viewBox="0 0 {width} {height}" width="100%" role="img" aria-label="objects by size and contrast">'
        f'<line x1="{left}" y1="{height - bottom}" x2="{width}" y2="{height - bottom}" stroke="#8a94a0" stroke-width="1"/>'
        f'{ticks}<text x="{width}" y="{height - 4}" text-anchor="end">share of the picture</text>'
        f'<text x="0" y="12">contrast</text><text x="{left - 8}" y="{height - bottom}" text-anchor="end">0</text>'
        f'<text x="{left - 8}" y="24" text-anchor="end">{top:.1f}</text>{"".join(dots)}</svg></div>'
    )


def _card(example: ErrorExample, space: LabelSpace, picture: Picture) -> str:
    views = views_of(picture, example.box, space)
    titles = ("image", "truth", "prediction")
    panels = "".join(
        f'<div><img alt="{title}" src="data:image/jpeg;base64,{_jpeg(view)}"><small>{title}</small></div>'
        for title, view in zip(titles, views, strict=True)
    )
    return (
        f'<figure><div class="three">{panels}</div><figcaption><b>{_name(example.label, space)}</b> taken for '
        f"<b>{_name(example.predicted, space)}</b><br>{html.escape(example.note)}<br>"
        f'<span class="soft">{html.escape(example.image)}</span></figcaption></figure>'
    )


def views_of(picture: Picture, box: Box, space: LabelSpace) -> tuple[NDArray[np.uint8], ...]:
    """Image, truth and prediction around a box: three square (220, 220, 3) uint8 pictures, the box's corners marked."""
    height, width = picture.labels.shape
    side = min(max(round(2.2 * max(box[2] - box[0], box[3] - box[1])), 96), height, width)
    top = min(max((box[0] + box[2] - side) // 2, 0), height - side)
    left = min(max((box[1] + box[3] - side) // 2, 0), width - side)
    area = slice(top, top + side), slice(left, left + side)
    image = cv2.resize(picture.image[area], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    views = [np.ascontiguousarray(image)]
    for values in (picture.labels, picture.predicted):
        coloured = cv2.resize(space.palette[values[area]], (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
        known = cv2.resize((values[area] != IGNORE).astype(np.uint8), (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
        blended = cv2.addWeighted(image, 0.35, coloured, 0.65, 0)
        views.append(np.where(known[..., None] > 0, blended, image).astype(np.uint8))
    scale = _SIDE / side
    corners = [round((v - o) * scale) for v, o in zip(box, (top, left, top, left), strict=True)]
    for view in views:
        _mark(view, corners)
    return tuple(views)


def _mark(view: NDArray[np.uint8], box: list[int]) -> None:
    """Four corners around a box, dark below light, so that they show on anything."""
    top, left, bottom, right = box[0] - 4, box[1] - 4, box[2] + 3, box[3] + 3
    arm = max(6, min(bottom - top, right - left) // 4)
    for colour, thickness in (((20, 24, 30), 4), ((255, 255, 255), 2)):
        for x, dx in ((left, 1), (right, -1)):
            for y, dy in ((top, 1), (bottom, -1)):
                cv2.line(view, (x, y), (x + dx * arm, y), colour, thickness)
                cv2.line(view, (x, y), (x, y + dy * arm), colour, thickness)


def _jpeg(view: NDArray[np.uint8]) -> str:
    return base64.b64encode(encode_jpeg(view, 84)).decode()


def _table(caption: str, heads: list[str], rows: list[list[str]]) -> str:
    """heads that begin with # are columns of numbers."""
    kinds = [' class="number"' if head.startswith("#") else "" for head in heads]
    head = "".join(f"<th{kind}>{name.lstrip('#')}</th>" for name, kind in zip(heads, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<h3>{caption}</h3><div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _name(index: int, space: LabelSpace) -> str:
    colour = "#" + bytes(space.colours[index]).hex()
    return f"{_swatch(colour)}{html.escape(space.names[index])}"


def _swatch(colour: str) -> str:
    return f'<span class="swatch" style="background:{colour}"></span>'


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
