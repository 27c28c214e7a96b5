"""One short try at the Hugging Face hub: a file that its cache holds, or one fetched now; without a network, one sentence."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from pathlib import Path

TRY_S = 5.0  # how long a place without a network waits; the hub's own client tries for minutes
WEIGHTS = "model.safetensors"


def hub_file(repository: str, file: str = WEIGHTS) -> Path | str:
    """The path of a hub repository's file, from the hub's cache or fetched; or why it cannot be had, in a few words."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    known = try_to_load_from_cache(repository, file)
    if isinstance(known, str):
        return Path(known)
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and the hub's cache has no such file"
    fault = _fault_of(constants.ENDPOINT)
    if fault:
        return fault
    try:
        return Path(hf_hub_download(repository, file))
    except (OSError, RuntimeError, ValueError) as error:
        return " ".join(str(error).split())[:200] or type(error).__name__


def _fault_of(address: str) -> str:
    """Why no answer came from an address within TRY_S; empty when one came. A thread, since looking up a name has no timeout."""
    found: list[str] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=TRY_S).close()
            found.append("")
        except urllib.error.HTTPError:
            found.append("")  # it answers
        except (OSError, ValueError) as error:
            found.append(" ".join(str(getattr(error, "reason", error)).split())[:200])

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TRY_S)
    return found[0] if found else f"{address} did not answer within {TRY_S:g} s"
