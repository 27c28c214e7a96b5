"""`pspnet bench`, then the small benchmarks of parts; results go to benchmarks/results, named by machine, date and commit.

    python benchmarks/run.py            (or: make bench)

Networks are measured by `pspnet bench`, which comes along with the package; the scripts of this folder measure what only
developers ask: parts (augmentation, confusion), and other projects (peers.py, training_step.py, protocols.py).
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SMALL = ("augmentation", "confusion")


def main() -> int:
    """Exit code 1 when one of them failed."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True
    ).stdout.strip()
    stamp = f"{platform.machine()}-{datetime.date.today():%Y%m%d}-{commit or 'unknown'}"
    results = HERE / "results"
    failed = subprocess.run([sys.executable, "-m", "pspnet", "bench", "--out", str(results)]).returncode != 0
    for name in SMALL:
        out = HERE / "results" / f"{name}-{stamp}.json"
        out.parent.mkdir(exist_ok=True)
        failed |= (
            subprocess.run(
                [sys.executable, str(HERE / f"{name}.py"), "--json", str(out)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            ).returncode
            != 0
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
