"""demo/index.html: one file with everything in it, filled from page.html."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import pairwise
from string import Template

from pspnet.data.scenes import AMBIGUOUS, SCENE_CLASSES
from pspnet.demo import gallery
from pspnet.demo.gallery import GalleryImage
from pspnet.demo.outcomes import DemoOutcome, DemoReport
from pspnet.files import write_text
from pspnet.metrics import percent

_KINDS = {
    "relationship": (
        "Mismatched relationship: boat or car",
        "The same hull on the same wet glare. Only the nearest corner of its half of the picture shows ripples, or "
        "asphalt and a painted line. The halves differ, so one bin for the whole picture cannot tell which is which.",
    ),
    "confusable": (
        "Confusable categories: building or skyscraper",
        "The same facade. It is a building where a church and cottages stand on the far side of the horizon, a "
        "skyscraper where towers do. It is one question for the whole picture, which one bin can answer.",
    ),
    "inconspicuous": (
        "Inconspicuous things: pillow or blanket",
        "A bulge in the sheet's own cloth. Where a worn plaid lies at the foot of that side somebody sleeps, and it "
        "is a pillow; where fresh linen lies, a folded blanket.",
    ),
}


def write_page(report: DemoReport) -> None:
    """Writes the page at `report.page`, whole or not at all."""
    template = (resources.files("pspnet.demo") / "page.html").read_text(encoding="utf-8")
    plan, picked = report.plan, gallery.most_rescued(report)
    counterfactuals = [index for kind in ("relationship", "inconspicuous") for index in picked[kind][:1]]
    fields = {
        "train_scenes": plan.train_scenes,
        "test_scenes": plan.test_scenes,
        "steps": plan.steps,
        "batch_size": plan.batch_size,
        "num_classes": SCENE_CLASSES.num_classes,
        "verdict": _verdict(report),
        "cards": "".join(_card(outcome, number) for number, outcome in enumerate(report.outcomes)),
        "charts": _mean_iou_chart(report.outcomes) + _loss_chart(report.outcomes),
        "legend": _legend(),
        "kinds": "".join(_kind(report, kind, picked[kind]) for kind in AMBIGUOUS),
        "counterfactuals": "".join(_row(gallery.counterfactual(report, i), "row four") for i in counterfactuals),
        "worst": _row(gallery.row(report, gallery.least_helped(report))),
        "real": gallery.uri("jpeg", (resources.files("pspnet.demo") / "failures.jpg").read_bytes()),
        "settings": _settings(report),
    }
    write_text(report.page, Template(template).substitute(fields))


def _verdict(report: DemoReport) -> str:
    first, middle, last = (percent(outcome.scores.mean_iou) for outcome in report.outcomes)
    share = 100.0 * float(gallery.rescued(report).mean())
    lost = 100.0 * float(gallery.lost(report).mean())
    return (
        f"Mean IoU: <b>{first}&nbsp;%</b> without a pyramid, <b>{middle}&nbsp;%</b> with one global bin, "
        f"<b>{last}&nbsp;%</b> with the pyramid of 1, 2, 3 and 6 bins. Against the FCN, PSPNet sets right {share:.1f}&nbsp;% of "
        f"all pixels and spoils {lost:.1f}&nbsp;%."
    )


def _card(outcome: DemoOutcome, number: int) -> str:
    bins = f"bins {', '.join(map(str, outcome.contender.bins))}" if outcome.contender.bins else "no pyramid"
    best = " best" if number == 2 else ""
    return (
        f'<div class="card n{number}{best}"><h3>{escape(outcome.contender.title)}</h3><div class="bins">{bins}</div>'
        f'<div class="big">{percent(outcome.scores.mean_iou)} <small>% mIoU</small></div>'
        f'<div class="rest">{percent(outcome.scores.pixel_accuracy)} % of pixels right, {outcome.seconds:.0f} s</div></div>'
    )


def _kind(report: DemoReport, kind: str, picked: Sequence[int]) -> str:
    title, words = _KINDS[kind]
    pairs = ""
    for name in AMBIGUOUS[kind]:
        pairs += f"<div><h4>{escape(name)}, IoU</h4>"
        for number, outcome in enumerate(report.outcomes):
            value = percent(float(outcome.scores.iou[outcome.scores.names.index(name)]))
            width = 0.0 if value == "-" else float(value)
            pairs += (
                f'<div class="bar n{number}"><span>{escape(outcome.contender.title)}</span><span class="track">'
                f'<span class="fill" style="width:{width:.1f}%"></span></span><b>{value}</b></div>'
            )
        pairs += "</div>"
    rows = "".join(_row(gallery.row(report, index)) for index in picked)
    return f'<h3>{title}</h3><p>{words}</p><div class="pairs">{pairs}</div>{rows}'


def _row(pictures: Sequence[GalleryImage], css: str = "row") -> str:
    figures = "".join(
        f'<figure><img src="{shown.uri}" alt="{escape(shown.caption)}"{"" if shown.photograph else " class=map"}>'
        f"<figcaption>{escape(shown.caption)}</figcaption></figure>"
        for shown in pictures
    )
    return f'<div class="{css}">{figures}</div>'


def _legend() -> str:
    pairs = zip(SCENE_CLASSES.names, SCENE_CLASSES.colours, strict=True)
    return "".join(f'<li><i style="background:rgb{colour}"></i>{escape(name)}</li>' for name, colour in pairs)


def _settings(report: DemoReport) -> str:
    plan, config = report.plan, report.pspnet.model.config
    return (
        f"Network: {escape(config.encoder)}, its first {config.encoder_options.depth - 1} stages, stride {config.output_stride}, "
        f"random start. Scenes of {plan.size_px} x {plan.size_px} px. SGD with momentum 0.9, weight decay 0.0001, rate "
        f"{plan.learning_rate:g} (everything after the encoder: ten times that), poly schedule, mirrored at random. Seed "
        f"{plan.seed}. The whole demo took {report.seconds:.0f} s. Again: <code>pspnet demo</code>"
    )


WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 34, 62, 12, 26  # room for numbers on the left and names on the right


def _mean_iou_chart(outcomes: Sequence[DemoOutcome]) -> str:
    curves = [
        [(line["step"], 100.0 * line["val_mean_iou"]) for line in outcome.curve if "val_mean_iou" in line]
        for outcome in outcomes
    ]
    return _chart("Mean IoU on validation scenes, %", outcomes, curves, 100.0, dots=True)


def _loss_chart(outcomes: Sequence[DemoOutcome]) -> str:
    curves = []
    for outcome in outcomes:
        raw = [(line["step"], line["loss"]) for line in outcome.curve if "loss" in line]
        smooth: list[tuple[float, float]] = []
        for step, value in raw:  # single batches jump: a running mean over some five of the logged ones
            smooth.append((step, value if not smooth else 0.8 * smooth[-1][1] + 0.2 * value))
        curves.append(smooth)
    top = max((value for curve in curves for _, value in curve[1:]), default=1.0)
    return _chart("Training loss (running mean)", outcomes, curves, top, dots=False)


def _chart(
    title: str, outcomes: Sequence[DemoOutcome], curves: Sequence[list[tuple[float, float]]], top: float, dots: bool
) -> str:
    last = max((curve[-1][0] for curve in curves if curve), default=1.0)

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / last
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - min(value, top) / top)

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = place(0, top * share)[1]
        label = f"{top * share:.0f}" if top > 10 else f"{top * share:.2f}"
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        )
    for share in (0.0, 0.5, 1.0):
        x = place(last * share, 0)[0]
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{last * share:.0f}</text>')
    ends = _apart([place(*curve[-1])[1] if curve else 0.0 for curve in curves])
    for number, (outcome, curve, y) in enumerate(zip(outcomes, curves, ends, strict=True)):
        points = [place(step, value) for step, value in curve]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<g class="n{number}"><polyline class="curve" points="{path}"/>')
        parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points if dots]
        parts.append(
            f'<text class="name" x="{WIDTH - RIGHT + 9}" y="{y + 4:.1f}">{escape(outcome.contender.title)}</text></g>'
        )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)} over training steps">{"".join(parts)}</svg></figure>'
    )


def _apart(heights: Sequence[float], least: float = 14.0) -> list[float]:
    """Heights of the names at the curves' ends, pushed apart where they would overlap."""
    placed = list(heights)
    order = sorted(range(len(placed)), key=lambda i: placed[i])
    for upper, lower in pairwise(order):
        placed[lower] = max(placed[lower], placed[upper] + least)
    overhang = max(placed, default=0.0) - (HEIGHT - BOTTOM)
    return [height - max(overhang, 0.0) for height in placed]
