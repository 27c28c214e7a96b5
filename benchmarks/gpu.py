"""PSPNet on a GPU: are its labels right, how fast is it, what feeds it. One run, at most --seconds long.

    python benchmarks/gpu.py [--seconds 140] [--out benchmarks/results] [--device cuda]
    python benchmarks/gpu.py --tiny --device cpu         # the same parts at a size that any processor manages

Needs our base dependencies and nothing from a network: images are made, weights are random or in the package. Parts run
in the order of `gpu_parts.PARTS`; one whose time is no longer left is named and left out, one that fails says why. The
JSON is written after each part, so a run that is killed leaves what it had.

`of rate`: the operations of the network as it is computed (2 a multiply-add, counted by PyTorch), over the time, over the
card's own bfloat16 matrix product in the same run. Goals: 50 % forward, 40 % training. MiB: the most that was allocated
on the card while the row ran, weights included. ms: the median, from CUDA events around each call; on a processor, which
has no figures of memory here, from the clock.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import torch  # noqa: E402

from gpu_bench import TINY, Bench, Row, Sizes  # noqa: E402
from gpu_parts import PARTS  # noqa: E402
from pspnet.bench.machine import hardware  # noqa: E402
from pspnet.bench.report import save_result  # noqa: E402

NO_FAULT = ("left out", "segmentation_models_pytorch is not", "cuDNN: ")  # reasons that are nobody's mistake


def passed() -> float:
    return time.perf_counter() - STARTED


def run(bench: Bench, seconds: float, only: list[str], write: Callable[[], object]) -> None:
    """The parts in order, as long as their time is left. A part that fails becomes a row: the others still count."""
    for name, needed, part in PARTS:
        if only and name not in only:
            continue
        left, needed = seconds - passed(), 0 if bench.sizes == TINY else needed
        if left <= needed:
            reason = f"left out: it needs about {needed:.0f} s, and {max(left, 0):.0f} s are left"
            bench.rows[name] = [{"name": name, "failure": reason}]
            continue
        print(f"{passed():6.1f} s  {name}", file=sys.stderr, flush=True)
        try:
            bench.rows[name] = part(bench)
        except Exception as error:  # a card's libraries fail in classes of their own
            text = " ".join(str(error).split())[:300]
            bench.rows[name] = [{"name": name, "failure": f"{type(error).__name__}: {text}"}]
        bench.free()
        write()


def feeding(bench: Bench) -> list[Row]:
    """How many cores load what the card eats."""
    steps = [row for part in ("training", "compiled training") for row in bench.rows.get(part, [])]
    eaten = max((row["images_per_s"] for row in steps if row["name"].startswith("ours") and "ms" in row), default=None)
    loaded = next(
        (row["value"] for row in bench.rows.get("data loading", []) if row["name"].startswith("1 worker")), None
    )
    if eaten is None or loaded is None:
        return []
    return [
        {"name": "the fastest training step eats, images/s", "value": eaten},
        {"name": "cores that feed it", "value": round(eaten / loaded, 1)},
    ]


def table(bench: Bench) -> str:
    """Every row, and where a training step's time goes."""
    lines = [str(bench.machine)]
    for part, rows in bench.rows.items():
        lines += [f"\n{part}", *(f"  {line(row)}" for row in rows)]
    for row in (row for rows in bench.rows.values() for row in rows if "operators" in row):
        lines.append(f"\na training step, {row['name']}: ms of its own, calls, operator")
        lines += [f"  {ms:9.2f} {count:6d}  {name[:80]}" for name, ms, count in row["operators"][:12]]
    return "\n".join(lines)


def line(row: Row) -> str:
    if "failure" in row:
        return f"{row['name']:30s} {row['failure']}"
    if "value" in row:
        return f"{row['name']:48s} {row['value']:10.1f}"
    if "equal_labels" in row:
        right = f"   right {row['right']:.3%}, the CPU's {row['right_cpu']:.3%}" if "right" in row else ""
        return f"{row['name']:30s} error {row['error']:.1e}   equal labels {row['equal_labels']:.3%}{right}"
    memory = f"{row['mib']:7d} MiB" if "mib" in row else ""
    share = f"{row['gflop']:8.0f} GFLOP {row['of_rate']:6.1%} of rate" if "gflop" in row else ""
    speed = f"{row['ms']:9.2f} ms {row['images_per_s']:8.1f} images/s"
    error = f"   error {row['error']:.1e}, eager {row['error_eager']:.1e}" if "error" in row else ""
    return f"{row['name']:30s} {speed} {memory} {share}   first call {row['first_call_s']:.1f} s{error}"


def main() -> None:
    names = [name for name, _, _ in PARTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240, help="of the whole run; what no longer fits is left out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="a small network on small images: is the script itself right"
    )
    parser.add_argument("--only", help=f"comma-separated parts: {', '.join(names)}")
    parser.add_argument("--commit", help="of the source, where the copy has no git")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the JSON")
    given = parser.parse_args()
    only = given.only.split(",") if given.only else []
    if unknown := sorted(set(only) - set(names)):
        parser.error(f"--only {unknown[0]}: {', '.join(names)}")
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --tiny --device cpu runs the same parts, small, on a processor")
    bench = Bench(device, TINY if given.tiny else Sizes(), hardware(device))

    def write() -> Path:
        facts = {"cuda": torch.version.cuda, "sizes": vars(bench.sizes), "seconds": round(passed(), 1)}
        return save_result(given.out, "gpu", bench.machine, facts | {"parts": bench.rows}, given.commit)

    run(bench, given.seconds, only, write)
    bench.rows["data loading beside training"] = feeding(bench)
    path = write()
    print(f"{table(bench)}\n\n{passed():.0f} s -> {path}")
    failures = [row["failure"] for rows in bench.rows.values() for row in rows if "failure" in row]
    sys.exit(any(not failure.startswith(NO_FAULT) for failure in failures))


if __name__ == "__main__":
    main()
