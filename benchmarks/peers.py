"""PSPNet-50 here beside what a user would take instead: one run, in turns, from an image in memory to labels at its size.

    sh benchmarks/peers_env.sh                       # once: the other projects in .peers
    python benchmarks/peers.py [--precision fp32] [--size 480] [--threads 2] [--rounds 7] [--wait 30]
    python benchmarks/peers.py --model camvid-best --data data/camvid --format camvid       # a trained model of ours

Each network is a process of its own (`pspnet.bench.interleaved`). Ratios are medians over the rounds of (the first row's
time / this one's in the same round), by the clock and of processor time; on a busy machine read the latter, or --wait.
Others run eager in float32, by their own path. mmsegmentation's network and ours have the same weights (the golden
formula of tests/support/golden_weights.py), so their labels can be compared; the rest are other networks, and what
differs stands beside their figures. Random weights say nothing of what int8 costs, so with --model the rows are one
trained model of ours in every engine and precision, with the mean IoU of each on --data (default: `scenes`, generated).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from peer_networks import MEAN, NOTES, STD, THEIRS, golden_input, their_work  # noqa: E402
from pspnet.bench.interleaved import (  # noqa: E402
    Contestant,
    figures,
    load_per_core,
    serve,
    take_turns,
    wait_for_quiet,
)

CALIBRATION = 12  # images for int8: what its speed needs; for its quality see `pspnet export --calibration-limit`
Work = tuple[Callable[[], Any], dict[str, Any]]


def our_work(job: dict[str, Any]) -> Work:
    """PSPNet-50 with the golden weights, from mmsegmentation's checkpoint."""
    from pspnet import Segmenter
    from pspnet.weights.importing import import_checkpoint

    torch.set_num_threads(job["threads"])
    imported = import_checkpoint(Path(job["folder"]) / "mmseg.pth", "mmseg", check=False)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))

    def image(number: int) -> torch.Tensor:
        return torch.from_numpy(golden_input(job["size"], number)) * std + mean

    segmenter = Segmenter(imported.model, imported.card, device="cpu", precision="fp32")
    calibration = [image(number)[0].permute(1, 2, 0).numpy() for number in range(1, CALIBRATION + 1)]
    return _labelling(_in_engine(segmenter, job, calibration), image(0), job)


def trained_work(job: dict[str, Any]) -> Work:
    """A trained model, and its mean IoU on labelled images, each seen whole."""
    from pspnet import Segmenter, evaluate, open_dataset
    from pspnet.data.views import evenly
    from pspnet.predict.windows import as_float

    torch.set_num_threads(job["threads"])
    train, labelled = (
        evenly(dataset, min(count, len(dataset)))
        for dataset, count in (
            (open_dataset(job["format"], job["data"], "train"), CALIBRATION),
            (open_dataset(job["format"], job["data"], "val"), job["images"]),
        )
    )
    segmenter = Segmenter.load(job["model"], device="cpu", precision="fp32")
    calibration = [train[number].image for number in range(len(train))]
    segmenter = _in_engine(segmenter, job, calibration)
    work, about = _labelling(segmenter, torch.from_numpy(as_float(labelled[0].image)[None]), job)
    return work, about | {"mean_iou": evaluate(segmenter, labelled).mean_iou}


def _in_engine(segmenter: Any, job: dict[str, Any], calibration: list[Any]) -> Any:
    """The same model in job's engine and precision. int8: made as `pspnet export` makes it, to the coarse logits."""
    from pspnet import Segmenter

    model, card, engine = segmenter.model, segmenter.card, job["engine"]
    if job["precision"] != "int8":
        return Segmenter(model, card, device="cpu", precision=job["precision"], engine=engine)
    from pspnet.exporting.onnx_precision import write_onnx_precision
    from pspnet.exporting.quantising import write_openvino
    from pspnet.nn.graphs import kept_onnx
    from pspnet.predict.exported import OnnxEngine, OpenVinoEngine

    source, output = kept_onnx(model), Path(job["folder"]) / f"{job['key']}.{'xml' if engine == 'openvino' else 'onnx'}"
    if engine == "openvino":
        write_openvino(source, output, "int8", calibration, "", None, {})
        return Segmenter(model.config, card, engine=OpenVinoEngine(output))
    write_onnx_precision(source, output, "int8", calibration, {})
    return Segmenter(model.config, card, engine=OnnxEngine(output))


def _labelling(segmenter: Any, images: torch.Tensor, job: dict[str, Any]) -> Work:
    from pspnet.bench.worker import flops_of
    from pspnet.nn import PSPNet

    def work() -> None:
        labels, _ = segmenter.labels(images)
        np.save(Path(job["folder"]) / f"{job['key']}.npy", np.asarray(labels[0]))

    with torch.device("meta"):
        parameters = sum(p.numel() for p in PSPNet(segmenter.config).parameters())
    return work, {
        "gflop": flops_of(segmenter.config, images.shape[-2], images.shape[-1]) / 1e9,
        "parameters": parameters,
    }


def jobs_of(given: argparse.Namespace, has_bfloat16: bool) -> list[dict[str, Any]]:
    """What is measured, the row that the others are compared with first."""
    ways = [("torch", "fp32"), ("openvino", "fp32"), ("onnxruntime", "fp32")]
    ways += [("torch", "bf16"), ("openvino", "bf16")] if has_bfloat16 else []
    ways += [("openvino", "int8"), ("onnxruntime", "int8")]
    if given.model:
        common = {"kind": "trained", "model": given.model, "data": given.data, "format": given.format}
        common |= {"images": given.images}
        return [common | {"name": f"{given.model} {e} {p}", "engine": e, "precision": p, "note": ""} for e, p in ways]
    theirs = [name for name in THEIRS if name == "mmsegmentation" or not given.only or name in given.only.split(",")]
    jobs = [{"kind": "theirs", "name": n, "precision": given.precision, "note": NOTES[n]} for n in theirs]
    note = "folded fusion"
    return jobs + [
        {"kind": "ours", "name": f"ours {e} {p}", "engine": e, "precision": p, "note": note} for e, p in ways
    ]


def rows_of(jobs: list[dict[str, Any]], results: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Figures, and the share of labels equal to the first row's where the network is the same one."""
    first = jobs[0]
    wanted = np.load(folder / f"{first['key']}.npy")
    rows = []
    for job in jobs:
        row = figures(results[job["name"]], results[first["name"]]) | {"note": job["note"]}
        if "failure" not in row and (job["kind"] != "theirs" or job is first):
            row["equal_labels"] = round(float((np.load(folder / f"{job['key']}.npy") == wanted).mean()), 5)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], rounds: int) -> str:
    lines = [f"ratio: time of {rows[0]['name']} / time of this one, medians over {rounds} rounds\n"]
    lines += [
        f"{'network':30s} {'ms':>7s} {'ratio':>6s} {'proc. ms':>8s} {'ratio':>6s} {'GFLOP':>6s} {'Mpar.':>6s} {'MiB':>6s} "
        f"{'equal':>8s} {'mIoU':>7s}"
    ]
    for row in rows:
        if "failure" in row:
            lines.append(f"{row['name']:30s} not run: {row['failure']}")
            continue
        equal = f"{row['equal_labels']:.3%}" if "equal_labels" in row else ""
        quality = f"{row['mean_iou']:.2%}" if "mean_iou" in row else ""
        lines.append(
            f"{row['name']:30s} {row['ms']:7.0f} {row['ratio']:6.2f} {row['processor_ms']:8.0f} {row['processor_ratio']:6.2f} "
            f"{row['gflop']:6.0f} {row['parameters'] / 1e6:6.1f} {row['peak_mib']:6.0f} {equal:>8s} {quality:>7s}  {row['note']}"
        )
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, default=ROOT / ".peers" / "bin" / "python", help="Python of the others")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the other networks")
    parser.add_argument("--size", type=int, default=480, help="side of the image, px")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="comma-separated names of other networks (default: all)")
    parser.add_argument("--model", help="a trained model of ours in every engine and precision, instead of the others")
    parser.add_argument("--data", type=Path, help="with --model: its data set; without: generated scenes")
    parser.add_argument("--format", default="scenes", help="with --data: its layout")
    parser.add_argument("--images", type=int, default=24, help="with --model: labelled images for the mean IoU")
    parser.add_argument("--wait", type=float, default=0, metavar="MINUTES", help="for a quiet moment, at most so long")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = parse()
    if given.child:
        job = json.loads(given.child)
        serve(lambda: {"theirs": their_work, "ours": our_work, "trained": trained_work}[job["kind"]](job))
    if not given.model and not given.peers.exists():
        sys.exit(f"{given.peers} does not exist: run sh benchmarks/peers_env.sh first")
    from pspnet.bench.machine import hardware
    from pspnet.bench.report import save_result

    def report(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    wait_for_quiet(given.wait, report_line=report)
    torch.set_num_threads(given.threads)
    machine = hardware(torch.device("cpu"))
    jobs = jobs_of(given, "bf16" in machine.products)
    with tempfile.TemporaryDirectory() as name:
        contestants = []
        for number, job in enumerate(jobs):
            job |= {"folder": name, "size": given.size, "threads": given.threads, "key": f"job{number}"}
            python = str(given.peers) if job["kind"] == "theirs" else sys.executable
            command = [python, str(Path(__file__)), "--child", json.dumps(job, default=str)]
            environment = {"OMP_NUM_THREADS": str(given.threads), "PYTHONWARNINGS": "ignore"}
            contestants.append(Contestant(job["name"], command, environment))
        results = take_turns(contestants, given.rounds, report_line=report)
        first = results[jobs[0]["name"]]
        if first.failure:
            sys.exit(f"{first.name}, with which the others are compared, did not run: {first.failure}")
        rows = rows_of(jobs, results, Path(name))
    facts = {"size": given.size, "threads": given.threads, "rounds": given.rounds, "model": given.model}
    facts |= {"load_per_core_after": load_per_core(), "lines": rows}
    print(f"{machine}\n\n{table(rows, given.rounds)}")
    kind = f"peers-{given.model or given.precision}-{given.threads}-threads"
    print(f"-> {save_result(given.out, kind, machine, facts)}")


if __name__ == "__main__":
    main()
