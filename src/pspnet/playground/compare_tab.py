"""The place to compare: all runs in a table, curves together, two runs image by image, and where they fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pspnet.config.differences import differences
from pspnet.errors import ConfigError, PspnetError, require
from pspnet.evaluation import Comparison, compare_models
from pspnet.evaluation.report import title_of
from pspnet.explorer import explore
from pspnet.playground import charts
from pspnet.playground.context import RUN, Context
from pspnet.playground.events import Events, changed, counted
from pspnet.playground.form import open_choice
from pspnet.playground.run_state import RunState
from pspnet.playground.run_views import curves_together
from pspnet.playground.scoring import EVALUATION, score, validation_set, worst_picture
from pspnet.training.run_folder import RunFolder

gr = require("gradio", "playground")

LEFT_OUT = ("name", "run_dir")  # differ always
MAX_COLUMNS = 12
SCORES = ("mean_iou", "pixel_accuracy", "mean_accuracy", "mean_f1")


def add_compare(context: Context, events: Events) -> None:
    """Adds the place to a page that is being made."""
    gr.HTML(
        charts.lead(
            "What makes one run better than another. Settings in which the runs differ are marked; a head sorts the table."
        )
    )
    table = gr.HTML(elem_id="compare-table")
    shown = open_choice(multiselect=True, label="Curves of", elem_id="compare-curves-of")
    curves = gr.HTML(elem_id="compare-curves")
    with gr.Row(equal_height=False):
        first = open_choice(label="First run", elem_id="compare-first", min_width=200)
        second = open_choice(label="Second run", elem_id="compare-second", min_width=200)
    with gr.Row():
        both = gr.Button("Compare the two, image by image", variant="primary", elem_id="compare-both")
        failures = gr.Button("Show how the second fails", elem_id="compare-failures")
    status = gr.HTML(elem_id="compare-status")
    result = gr.HTML(elem_id="compare-found")
    explored = gr.HTML(elem_id="compare-explored")
    shown_state = gr.State({})

    def refresh(chosen: list[str] | None, one: str | None, two: str | None, shown_state: dict[str, Any]) -> list[Any]:
        names = context.runs.names()
        states = [state for state in (_state(context, name) for name in names) if state is not None]
        if shown_state.get("names") != names:  # a run came or went: what was chosen stays, as far as it is there
            new = [n for n in names if n not in shown_state.get("names", names)]
            selected = [n for n in names if n in (chosen or []) or n in new] or names[:4]
            one, two = chosen_pair(names, one, two, shown_state.get("pair"))
            changes = [
                gr.update(choices=names, value=selected),
                gr.update(choices=names, value=one),
                gr.update(choices=names, value=two),
            ]
        else:
            selected, changes = chosen or [], [gr.skip()] * 3
        pair = default_pair(names)
        now = {
            "names": names,
            "pair": pair,
            "table": run_table(context, states),
            "curves": curves_together(context, selected),
        }
        return [
            *changed(now, shown_state, ("table", "curves")),
            *changes,
            now,
        ]

    inputs, outputs = [shown, first, second, shown_state], [table, curves, shown, first, second, shown_state]
    events.watch(refresh, inputs, outputs, "compare_watch", every=2)
    events.light(shown.change, refresh, inputs, outputs)

    def compare(one: str | None, two: str | None, progress: Any = gr.Progress()) -> Iterator[tuple[Any, Any]]:
        if not one or not two or one == two:
            raise ConfigError("choose two different runs")
        yield charts.note(f"Scoring {one} and {two} on the validation images of {one} ..."), ""
        data, dataset = validation_set(context, one)

        def scored_run(name: str) -> Any:
            return score(context, name, data, dataset, counted(progress, f"scoring {name}"))

        scored, colours = [scored_run(one), scored_run(two)], charts.class_colours(dataset.label_space)
        pair = compare_models(scored[0].file, scored[1].file)
        text = comparison_page(pair, one, two) + '<div class="charts" style="margin-top:12px">'
        for run in scored:
            text += charts.panel(
                f"{run.name}: what is taken for what (% of each label's pixels)", charts.heat_table(run.scores, colours)
            )
        text += "</div>"
        yield charts.note("Drawing the worst images ..."), text
        for run in scored:
            picture, captions = worst_picture(context, run, dataset)
            text += charts.panel(
                f"{run.name}: worst images",
                f'<div class="wide">{charts.figure(picture, ", ".join(captions), 1500)}</div>'
                + charts.colour_legend([*colours.items(), *charts.MISTAKES]),
            )
        yield charts.note(verdict(pair, one, two)), text

    events.heavy(both.click, compare, [first, second], [status, result], "compare_two")

    def fail(two: str | None, progress: Any = gr.Progress()) -> Iterator[tuple[Any, Any]]:
        if not two:
            raise ConfigError("choose the second run")
        yield charts.note(f"Looking where {two} fails ..."), ""
        _, dataset = validation_set(context, two)
        out = context.runs.path(two) / EVALUATION / "failures.html"
        out.parent.mkdir(exist_ok=True)
        report = explore(
            context.model(RUN + two),
            dataset,
            out,
            title=two,
            overwrite=True,
            progress=counted(progress, "looking for failures"),
        )
        shares = ", ".join(f"{kind.name} {kind.share:.0%}" for kind in report.kinds)
        yield (
            charts.note(f"Wrong pixels of {two}: along borders {report.border_share:.0%}, {shares}."),
            failures_page(out, two, context),
        )

    events.heavy(failures.click, fail, second, [status, explored], "compare_failures")


def default_pair(names: Sequence[str]) -> list[str | None]:
    """(first, second): the newest run's predecessor, and the newest. names: the newest first."""
    return [names[1] if len(names) > 1 else None, names[0] if names else None]


def chosen_pair(
    names: Sequence[str], one: str | None, two: str | None, before: Sequence[str | None] | None
) -> tuple[str | None, str | None]:
    """What the two fields hold after the runs changed: a choice of one's own stays, else the newest and its predecessor.

    before: what was set by default last.
    """
    first, second = default_pair(names)
    untouched = before is None or [one, two] == list(before)
    if untouched or (one not in names and two not in names):
        return first, second
    one = one if one in names else next((n for n in (first, second) if n != two), None)
    two = two if two in names and two != one else next((n for n in names if n != one), None)
    return one, two


def _state(context: Context, name: str) -> RunState | None:
    try:
        return context.runs.state(name)
    except PspnetError:  # gone since the folder was listed
        return None


def run_table(context: Context, runs: Sequence[RunState]) -> str:
    """A row for each run: status, scores, and every setting in which the runs differ."""
    if not runs:
        return charts.note("No run yet. Start one in the place Train.")
    configs = {}
    for run in runs:
        try:
            configs[run.name] = RunFolder.open(run.path).read_config()
        except Exception:  # it has no config yet, one of a newer version, or whatever somebody wrote there
            continue
    rows = differences(list(configs.values()), LEFT_OUT) if len(configs) > 1 else {}
    order = list(configs)
    names = sorted(rows, key=lambda n: (not n.startswith("model."), n))[:MAX_COLUMNS]
    heads = ["run", "status", "step", "mean IoU, best", "images/s", *(name.replace("_", " ") for name in names)]
    body = []
    for run in runs:
        best, speed = run.state.get("best_mean_iou"), run.state.get("images_per_s")
        cells = [
            f"<td>{escape(run.name)}</td>",
            f"<td>{charts.badge(run.status)}</td>",
            _number(run.state.get("step"), "{:g}"),
            _number(None if best is None else 100 * float(best), "{:.1f} %"),
            _number(speed, "{:.1f}"),
        ]
        for name in names:
            value = rows[name][order.index(run.name)] if run.name in configs else ""
            cells.append(f'<td class="differs">{escape(_words(value))}</td>')
        body.append(f'<tr data-run="{escape(run.name)}">{"".join(cells)}</tr>')
    numeric = ("step", "mean IoU, best", "images/s")
    head = "".join(
        f'<th scope="col"{" class=n" if text in numeric else ""}><button type="button">{escape(text)}</button></th>'
        for text in heads
    )
    more = f'<p class="quiet">and {len(rows) - MAX_COLUMNS} more settings differ</p>' if len(rows) > MAX_COLUMNS else ""
    return charts.panel(
        "Runs",
        f'<div class="scroll"><table class="plain sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}'
        f"</tbody></table></div>{more}",
    )


def comparison_page(pair: Comparison, one: str, two: str) -> str:
    """Differences of the scores with their intervals, and the images that changed most."""
    rows = []
    for name in (n for n in SCORES if n in pair.differences):
        d = pair.differences[name]
        word = "better" if d.low > 0 else "worse" if d.high < 0 else "not told apart"
        rows.append(
            f'<tr><td>{escape(title_of(name))}</td><td class="n">{100 * d.value:+.2f}</td>'
            f'<td class="n">{100 * d.low:+.2f} to {100 * d.high:+.2f}</td><td class="n">{d.better:.0%}</td><td>{word}</td></tr>'
        )
    by_change = sorted(pair.images, key=lambda image: image[1])
    losses = [image for image in by_change[:3] if image[1] < 0]
    gains = [image for image in by_change[::-1][:3] if image[1] > 0]
    images = "; ".join(
        f"largest {title}: " + (", ".join(f"{name} {100 * change:+.1f}" for name, change in some) or "none")
        for title, some in (("gains", gains), ("losses", losses))
    )
    return charts.panel(
        f"{two} against {one}, paired over {len(pair.images)} images",
        '<div class="scroll"><table class="plain"><thead><tr><th>score</th><th class="n">points</th>'
        f'<th class="n">{pair.level:.0%} interval</th><th class="n">second better in</th><th>verdict</th></tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="quiet">Paired bootstrap: the same images are drawn again and again for '
        f"both runs. Changes of an image's mean IoU, in points: {escape(images)}.</p>",
    )


def verdict(pair: Comparison, one: str, two: str) -> str:
    d = pair.differences["mean_iou"]
    if d.low > 0:
        return f"{two} is better than {one}: {100 * d.value:+.1f} points of mean IoU."
    if d.high < 0:
        return f"{two} is worse than {one}: {100 * d.value:+.1f} points of mean IoU."
    return f"These images do not tell {one} and {two} apart ({100 * d.value:+.1f} points of mean IoU)."


def failures_page(file: Path, name: str, context: Context) -> str:
    """The explorer's own page, inside this one; it may run no program."""
    text = escape(file.read_text(encoding="utf-8"), quote=True)
    return charts.panel(
        f"How {name} fails: the paper's three kinds",
        f'<iframe class="explorer" title="failures of {escape(name)}" sandbox="" '
        f'srcdoc="{text}"></iframe><p class="quiet">Kept as {escape(context.roots.shown(file))}.</p>',
    )


def _number(value: Any, form: str) -> str:
    if value is None or value != value:
        return '<td class="n" data-value=""></td>'
    return f'<td class="n" data-value="{float(value)}">{form.format(float(value))}</td>'


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return (
        {None: "-", True: "yes", False: "no"}.get(value, str(value))
        if isinstance(value, (bool, type(None)))
        else str(value)
    )
