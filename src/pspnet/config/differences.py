"""What differs between several settings, by dotted name: the first thing to know when two runs score differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pspnet.config.base import Settings


def flattened(values: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """{"model": {"bins": [1]}} -> {"model.bins": [1]}. An empty mapping stays as it is."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{parent}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def differences(settings: Sequence[Settings], leave_out: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Dotted name -> its value in each of the settings, for the names whose values are not all equal.

    A name that one of them lacks (an option of another layout) counts as None there. leave_out: names not looked at.
    """
    flat = [flattened(one.model_dump(mode="json")) for one in settings]
    names = dict.fromkeys(name for one in flat for name in one)
    rows = {name: [one.get(name) for one in flat] for name in names if name not in leave_out}
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row[1:])}
