"""Other projects' checkpoints -> our network, with both sides of every name accounted for and a self-check at the end.

    imported = import_checkpoint("train_epoch_100.pth", "semseg", classes="ade20k")
    print(imported.report)
    save_checkpoint("model.safetensors", imported.model, imported.card)

A source is one file beside this one: a rename table, plus the config that its weights do not hold.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from pspnet.errors import CheckpointError, ConfigError, parsing
from pspnet.labels import LabelSpace, read_classes
from pspnet.nn import PSPNet
from pspnet.weights import caffe, csail, mmseg, semseg, smp, torchvision
from pspnet.weights.checkpoint import ModelCard, card_for
from pspnet.weights.protocol_sizes import with_sizes
from pspnet.weights.rename_table import Foreign, Ledger, Plan, build, listed
from pspnet.weights.selfcheck import SelfCheck, self_check, verify_recording
from pspnet.weights.torch_files import find_state, read_file

log = logging.getLogger(__name__)

Classes = str | Path | Sequence[str] | LabelSpace
State = tuple[dict[str, Tensor], dict[str, Any]]
KNOWN_TABLES = {150: "ade20k", 21: "voc", 19: "cityscapes"}  # a hint only: other data sets have as many classes


class ImportSource(NamedTuple):
    """read: a path or name -> (state, what lay beside it). plan: what to do with it. sign: a name that it always has."""

    read: Callable[[str | Path], State]
    plan: Callable[[Foreign], Plan]
    sign: str


def _pickled(marker: str) -> Callable[[str | Path], State]:
    return lambda source: find_state(read_file(Path(source)), Path(source), marker)


SOURCES: dict[str, ImportSource] = {
    "semseg": ImportSource(_pickled(semseg.MARKER), semseg.plan, r"cls\.0\.weight"),
    "mmseg": ImportSource(_pickled(mmseg.MARKER), mmseg.plan, r"decode_head\.conv_seg\.weight"),
    "smp": ImportSource(smp.read, smp.plan, r"decoder\.psp\."),
    "csail": ImportSource(csail.read, csail.plan, r"conv_last\.0\.weight"),
    "caffe": ImportSource(caffe.read, caffe.plan, r"conv1_1_3x3_s2\.weight"),
    "torchvision": ImportSource(_pickled(torchvision.MARKER), torchvision.plan, torchvision.SIGN),
}


@dataclass(frozen=True)
class ImportReport:
    """What an import did; `print(report)` shows it. provenance(): the same as JSON, for the checkpoint."""

    path: Path
    source: str
    model: str
    ledger: Ledger
    check: SelfCheck | None
    notes: tuple[str, ...]
    verified: float | None = None

    def __str__(self) -> str:
        ledger = self.ledger
        lines = [f"{self.path} ({self.source}) -> {self.model}", f"  {len(ledger.renamed)} tensors renamed"]
        for reason, names in _by_reason(ledger.dropped).items():
            lines.append(f"  {len(names)} left out: {reason}: {listed(names, 3)}")
        for reason, names in _by_reason(ledger.filled).items():
            lines.append(f"  {len(names)} filled with {reason}")
        if ledger.unmatched:
            lines.append(f"  {len(ledger.unmatched)} UNMATCHED, known to no rule and not imported:")
            lines += [f"    {name}" for name in ledger.unmatched]
        else:
            lines.append("  0 unmatched")
        lines += [f"  note: {note}" for note in self.notes]
        if self.check:
            lines.append(
                f"  self-check passed: logits finite, spread {self.check.spread:.3g}, {self.check.classes_seen} classes "
                f"seen, the largest with {self.check.largest_share:.0%} of the pixels"
            )
            if self.check.classes_seen == 1:
                lines.append("  CAUTION: one class wins every pixel of the check images; look at images of your own")
        else:
            lines.append("  no self-check was made")
        if self.verified is not None:
            lines.append(f"  verified against the recording: largest difference {self.verified:.2g}")
        return "\n".join(lines)

    def provenance(self) -> dict[str, Any]:
        return {
            "imported_from": self.path.name,
            "source": self.source,
            "left_out": {reason: len(names) for reason, names in _by_reason(self.ledger.dropped).items()},
            "unmatched": list(self.ledger.unmatched),
            "notes": list(self.notes),
            "self_check": asdict(self.check) if self.check else None,
            "verified": self.verified,
        }


class Imported(NamedTuple):
    """The network in evaluation mode on the CPU, its card, and what was done."""

    model: PSPNet
    card: ModelCard
    report: ImportReport


def import_checkpoint(
    path: str | Path,
    source: str,
    *,
    classes: Classes | None = None,
    settings: Mapping[str, Any] | None = None,
    verify: str | Path | None = None,
    check: bool = True,
) -> Imported:
    """Reads a checkpoint of another project.

    path: the file; for smp also a folder or a hub id, for csail either file or the folder. source: one of SOURCES.
    classes: names for files that hold none: 'ade20k', 'voc', 'cityscapes', a class table (CSV), a list of names.
    settings: fields of ModelConfig to set otherwise than the source usually does, such as {"align_corners": True}.
    verify: an .npz recorded with the original project (see `verify_recording`). check: the self-check.

    Raises ConfigError for a wrong source, setting or number of classes; CheckpointError when the file is damaged, of
    another kind, wants to run code, or a tensor is missing, or the self-check or the recording disagrees. Names in the
    file that are known to no rule are listed in the report and logged as a warning.
    """
    if source not in SOURCES:
        raise ConfigError(f"source = {source!r}; there are: {', '.join(SOURCES)}")
    given = _label_space(classes)
    said = dict(settings or {})
    if given and source == "torchvision":
        said.setdefault("num_classes", given.num_classes)
    with parsing(
        path, CheckpointError, f"cannot be imported as {source}", "What it says beside its tensors is damaged"
    ):
        state, meta = SOURCES[source].read(path)
        foreign = Foreign(Path(path), state, meta, said)
        _check_source(foreign, source)
        plan = SOURCES[source].plan(foreign)
        model, ledger = build(plan, foreign, source)
    label_space, note = _choose_classes(given, plan.label_space, model.config.num_classes, foreign.path)
    notes = (*plan.notes, *([note] if note else []), *_averaged(meta))
    checked = self_check(model, foreign.path, trained=not plan.encoder_only) if check else None
    verified = verify_recording(model, Path(verify)) if verify else None
    title = f"{model.config.encoder}, {model.config.num_classes} classes, bins {model.config.bins}"
    report = ImportReport(foreign.path, source, title, ledger, checked, notes, verified)
    if ledger.unmatched:
        log.warning(
            "'%s': %d tensors are known to no rule of %s and were not imported: %s",
            path,
            len(ledger.unmatched),
            source,
            listed(ledger.unmatched),
        )
    card = card_for(model, label_space, protocol=with_sizes(plan.protocol, label_space), provenance=report.provenance())
    return Imported(model, card, report)


def _check_source(foreign: Foreign, source: str) -> None:
    """Says which other source a file looks like, instead of naming the first tensor that it lacks."""
    if any(name.startswith("pyramid.fusion.") for name in foreign.state):
        raise CheckpointError(f"'{foreign.path}' is a pspnet checkpoint already; use it as it is: Segmenter.load(...)")
    matches = [
        name
        for name, known in SOURCES.items()
        if any(re.search(rf"(?:^|\.){known.sign}", key) for key in foreign.state)
    ]
    others = [name for name in matches if name != source]
    # torchvision's sign is weak: an encoder's names are in other projects' files too
    if source in matches and (source != "torchvision" or not others):
        return
    if others:
        raise CheckpointError(
            f"'{foreign.path}' is no {source} checkpoint; its names are those of {others[0]}: source={others[0]}"
        )
    raise CheckpointError(
        f"'{foreign.path}' is no {source} checkpoint. It has {len(foreign.state)} tensors: {listed(foreign.state)}"
    )


def _label_space(classes: Classes | None) -> LabelSpace | None:
    if classes is None or isinstance(classes, LabelSpace):
        return classes
    if isinstance(classes, (str, Path)):
        return LabelSpace.from_csv(classes) if Path(classes).is_file() else read_classes(classes)
    return LabelSpace(tuple(classes))


def _choose_classes(
    given: LabelSpace | None, stored: LabelSpace | None, count: int, path: Path
) -> tuple[LabelSpace, str | None]:
    """The user's classes, else the file's, else numbers."""
    if given is not None:
        if given.num_classes != count:
            raise ConfigError(f"classes: {given.num_classes} given; '{path}' tells {count} apart")
        return _in_order(given, path)
    if stored is not None and stored.num_classes == count:
        return stored, None
    hint = f"; if they are {KNOWN_TABLES[count]}'s, say classes={KNOWN_TABLES[count]}" if count in KNOWN_TABLES else ""
    why = f"the file names {stored.num_classes} classes for {count} outputs" if stored else "the file names no classes"
    return LabelSpace.numbered(count), f"{why}: they are called class_0 .. class_{count - 1}{hint}"


def _averaged(meta: Mapping[str, Any]) -> list[str]:
    """Weights averaged over the training that lie beside those taken: people evaluate one and hand on the other."""
    names = [k for k, value in meta.items() if re.search(r"(^|_)(ema|swa)(_|$)", str(k)) and isinstance(value, Mapping)]
    if not names:
        return []
    return [
        f"the file also holds {', '.join(map(str, names))}, which is not taken: the weights under the usual key are"
    ]


def _in_order(given: LabelSpace, path: Path) -> tuple[LabelSpace, str | None]:
    """A table's classes in the order of the network's outputs: that of their codes, whatever the order of the rows."""
    ordered = given.by_code()
    if ordered.names == given.names:
        return given, None
    return ordered, (
        f"the class table's rows are not in the order of their codes: output 0 of '{path.name}' is taken to be "
        f"{ordered.names[0]!r} (code {ordered.codes[0]}), output 1 {ordered.names[1]!r} (code {ordered.codes[1]}), ..."
    )


def _by_reason(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for name, reason in pairs:
        result.setdefault(reason, []).append(name)
    return result
