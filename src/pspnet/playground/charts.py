"""Charts, tables and pictures as HTML that takes the page's colours. Every text that comes from outside is escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.labels import LabelSpace, distinct_colours
from pspnet.metrics import Scores, percent

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 230, 44, 10, 10, 26  # of a chart, in its own units
MAX_POINTS, MAX_LEGEND = 400, 40  # of a line; classes that a legend names
MISTAKES = (("wrong (last column)", (230, 40, 40)), ("not counted", (0, 0, 0)))  # as training/pictures.py draws them
# of the first lines: told apart on white and on black, and by people who see no red or no green
COLOURS = ((37, 99, 235), (217, 119, 6), (13, 148, 136), (192, 38, 211), (100, 116, 139), (220, 38, 38))


@dataclass(frozen=True)
class Line:
    """points: (step, value), in order. colour: RGB; None: one of its own."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: tuple[int, int, int] | None = None


def line_chart(title: str, lines: Sequence[Line], share: bool = False) -> str:
    """Lines over steps, with a legend. share: values of 0..1, written as percent on a scale from 0 to 100."""
    known = [line for line in lines if line.points]
    if not known:
        return f'<div class="panel chart" data-points="0"><h3>{escape(title)}</h3><p class="quiet">Nothing measured yet.</p></div>'
    colours = COLOURS if len(lines) <= len(COLOURS) else distinct_colours(len(lines))
    values = [y for line in known for _, y in line.points if math.isfinite(y)] or [0.0]
    ticks = [k / 5 for k in range(6)] if share else round_ticks(max(values))
    low, high = 0.0, ticks[-1]
    last = max(x for line in known for x, _ in line.points) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + x / last * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (min(max(y, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM),
        )

    parts = []
    for tick in ticks:
        _, y = place(0, tick)
        words = f"{100 * tick:.0f} %" if share else f"{tick:.3g}"
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{words}</text>'
        )
    for tick in [
        step for step in round_ticks(last) if step < 0.78 * last and step % 1 == 0
    ]:  # the last stands at the end
        x, _ = place(tick, 0)
        anchor = "start" if tick == 0 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{tick:g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">step {last:g}</text>')
    legend: list[tuple[str, tuple[int, int, int]]] = []
    for line, line_colour in zip(lines, colours, strict=False):
        colour = f"rgb{tuple(line.colour or line_colour)}"
        points = [point for point in thinned(line.points) if math.isfinite(point[1])]
        if not points:
            continue
        places = [place(*point) for point in points]
        if len(places) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(f'<polyline class="line" points="{path}" style="stroke:{colour}"/>')
        if len(places) <= 60:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" style="fill:{colour}"><title>{escape(line.name)}, step '
                f"{point[0]:g}: {_written(point[1], share)}</title></circle>"
                for point, (x, y) in zip(points, places, strict=True)
            ]
        legend.append((f"{line.name} {_written(points[-1][1], share)}", line.colour or line_colour))
    count = max(len(line.points) for line in known)
    return (
        f'<div class="panel chart" data-points="{count}"><h3>{escape(title)}</h3><svg viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{escape(title)} over steps">{"".join(parts)}</svg>'
        f"{colour_legend(legend)}</div>"
    )


def colour_legend(entries: Iterable[tuple[str, tuple[int, int, int]]]) -> str:
    """(name, colour) in a row, at most MAX_LEGEND of them."""
    pairs = list(entries)
    spans = [
        f'<span><i class="swatch" style="background:rgb{tuple(colour)}"></i>{escape(name)}</span>'
        for name, colour in pairs[:MAX_LEGEND]
    ]
    more = f"<span>and {len(pairs) - MAX_LEGEND} more</span>" if len(pairs) > MAX_LEGEND else ""
    return f'<div class="legend">{"".join(spans)}{more}</div>'


def round_ticks(top: float) -> list[float]:
    """0 and at least three further marks of 1, 2, 2.5 or 5 times a power of ten, the last of them not below `top`.

    round_ticks(0.73) -> [0, 0.2, 0.4, 0.6, 0.8]
    """
    if not 1e-300 < top < 1e300:  # what a damaged table may hold, NaN too
        return [0.0, 0.25, 0.5, 0.75, 1.0]
    power = 10.0 ** math.floor(math.log10(top / 3))
    step = next((power * unit for unit in (1, 2, 2.5, 5, 10) if top / (power * unit) <= 5), power * 10)
    return [float(f"{step * k:.12g}") for k in range(math.ceil(top / step - 1e-9) + 1)]


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS of a line's points, evenly spread, the last one among them."""
    step = max(1, math.ceil(len(points) / MAX_POINTS))
    return [*points[-1::-step]][::-1]


def bars(rows: Sequence[tuple[str, float, str, tuple[int, int, int]]]) -> str:
    """(name, value, its words, colour) as bars on a common scale."""
    top = max((value for _, value, _, _ in rows), default=0.0) or 1.0
    cells = "".join(
        f'<span>{escape(name)}</span><span class="track"><i style="width:{100 * value / top:.2f}%;background:rgb{tuple(colour)}">'
        f'</i></span><span class="n">{escape(words)}</span>'
        for name, value, words, colour in rows
    )
    return f'<div class="bars">{cells}</div>'


def heat_table(scores: Scores, colours: Mapping[str, tuple[int, int, int]]) -> str:
    """A confusion matrix: rows are labels, each as shares of its pixels. colours: of the classes, by name."""
    counts = scores.confusion
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    here = np.flatnonzero((counts.sum(0) + counts.sum(1)) > 0)
    names = [
        f'<i class="swatch" style="background:rgb{tuple(colours[name])}"></i>{escape(name)}'
        if name in colours
        else escape(name)
        for name in scores.names
    ]
    head = "".join(f"<th>{names[k]}</th>" for k in here)
    rows = []
    for row in here:
        cells = "".join(
            f'<td style="background:rgb(13 148 136 / {0.06 + 0.54 * shares[row, c]:.2f})"'  # words in both looks: 4.5 and more
            f' title="{escape(scores.names[row])} taken for '
            f'{escape(scores.names[c])}: {100 * shares[row, c]:.1f} %">{f"{100 * shares[row, c]:.0f}" if shares[row, c] >= 0.005 else ""}</td>'
            for c in here
        )
        rows.append(f"<tr><th>{names[row]}</th>{cells}</tr>")
    return f'<div class="scroll"><table class="heat"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """(what it is, its value) as cards."""
    return (
        '<div class="facts">'
        + "".join(f"<div><b>{escape(v)}</b><span>{escape(k)}</span></div>" for k, v in pairs)
        + "</div>"
    )


def note(text: str, bad: bool = False) -> str:
    return f'<div class="note{" bad" if bad else ""}">{escape(text)}</div>'


def lead(text: str) -> str:
    return f'<p class="lead">{escape(text)}</p>'


def badge(status: str) -> str:
    return f'<span class="badge {escape(status)}">{escape(status)}</span>'


def panel(title: str, inside: str) -> str:
    """inside: HTML that is safe already."""
    return f'<div class="panel"><h3>{escape(title)}</h3>{inside}</div>'


def figure(image: NDArray[np.uint8], caption: str, width: int = 420) -> str:
    return f'<figure><img alt="{escape(caption)}" src="{jpeg(image, width)}"><figcaption>{escape(caption)}</figcaption></figure>'


def jpeg(image: NDArray[np.uint8], width: int | None = None, quality: int = 85) -> str:
    """(H, W, 3) RGB as a data address, at most `width` px wide."""
    if width is not None and image.shape[1] > width:
        size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return _data(
        "jpeg", cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    )


def grey_png(values: NDArray[np.uint8]) -> str:
    """(H, W) as a data address, exact."""
    return _data("png", cv2.imencode(".png", values)[1])


def png_file(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def class_colours(space: LabelSpace) -> dict[str, tuple[int, int, int]]:
    return dict(zip(space.names, space.colours, strict=True))


def _data(kind: str, encoded: Any) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _written(value: float, share: bool) -> str:
    return f"{percent(value)} %" if share else f"{value:.3g}"
