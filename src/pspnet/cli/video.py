"""`pspnet segment` with a video clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pspnet.cli.console import console, fail
from pspnet.terminal import progress_bar

if TYPE_CHECKING:
    from pspnet.predict.videos import VideoOptions


def check_video(paths: list[str], out: Path, refused: list[str]) -> None:
    """One clip in, one out, and no option that only photographs have. Ends the command otherwise."""
    from pspnet.predict.videos import CODECS, is_video

    if not is_video(out):
        fail(f"--out {out} for the video clip '{paths[0]}': name the video to write, such as parsed.mp4")
    if len(paths) != 1 or not is_video(paths[0]):
        fail(f"--out {out} is a video: give one clip ({', '.join(CODECS)}), not {', '.join(paths[:3])}")
    if refused:
        fail(f"{', '.join(refused)}: for photographs, not for a video clip. Leave it out")


def parse_video(
    model: str, clip: Path, out: Path, options: VideoOptions, device: str, engine: str | None, overwrite: bool
) -> None:
    """Parses a clip and says what came of it."""
    from pspnet.files import check_output
    from pspnet.predict.segmenter import Segmenter
    from pspnet.predict.videos import frame_count, segment_video

    check_output(out, inputs=[clip], overwrite=overwrite)
    total = frame_count(clip)
    segmenter = Segmenter.load(model, device=device, engine=engine)
    if segmenter.choice:
        console.print(str(segmenter.choice), highlight=False, markup=False)
    with progress_bar("parsing", total, "frames") as advance:
        report = segment_video(segmenter, clip, out, options, overwrite=overwrite, progress=lambda _: advance(1))
    for note in report.notes:
        console.print(note, style="yellow", highlight=False, markup=False)
    console.print("  ".join(f"{name} {share:.1%}" for name, share in list(report.shares.items())[:8]), highlight=False)
    console.print(
        f"{report.frames} frames, {report.changed:.2%} of the pixels change from one to the next -> {out}, "
        f"{out.with_suffix('.csv').name}, {out.stem}_legend.png (without sound)",
        highlight=False,
        markup=False,
    )
