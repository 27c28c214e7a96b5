"""One short try at the Hugging Face hub: a file that its cache holds, or one fetched now; without a network, one sentence.

Whole models are fetched by `fetch` and handed in by `upload`. HF_ENDPOINT and HF_TOKEN work as they do everywhere.
"""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from pspnet.errors import CheckpointError, ConfigError, ServiceError, reason_of, require

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


def fetch(
    repository: str,
    models: Sequence[str],
    others: Sequence[str],
    *,
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """The folder in the hub's cache with the first of `models` that a repository has, and with those of `others` that it has.

    What the cache holds of this revision is not asked for again. Raises CheckpointError where it cannot be had: no such
    repository or revision, none of the files, or no network; MissingExtraError without huggingface_hub.
    """
    hub = require("huggingface_hub", "torch")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise CheckpointError(f"'{repository}' is neither a folder here nor a hub id, which is written NAME/MODEL")
    endpoint, known = hub.constants.ENDPOINT, _cached(repository, models, revision)
    if hub.constants.HF_HUB_OFFLINE or (fault := _fault_of(endpoint)):
        if known is not None:
            return known
        why = "HF_HUB_OFFLINE is set" if hub.constants.HF_HUB_OFFLINE else fault
        raise CheckpointError(
            f"'{repository}' is no folder here, is not in the hub's cache, and cannot be fetched: {why}. Download it elsewhere "
            "and give its folder"
        )
    try:
        there = set(hub.HfApi(endpoint=endpoint, token=token).list_repo_files(repository, revision=revision))
        model = next((name for name in models if name in there), None)
        if model is None:
            raise CheckpointError(
                f"'{repository}' on the hub has none of {', '.join(models)}: no model that is read here"
            )
        wanted = [model, *(name for name in others if name in there)]
        paths = [
            hub.hf_hub_download(repository, name, revision=revision, token=token, endpoint=endpoint) for name in wanted
        ]
    except CheckpointError:
        raise
    except Exception as error:  # its client raises errors of three libraries
        at = f" at revision {revision!r}" if revision else ""
        raise CheckpointError(f"'{repository}'{at} cannot be fetched from the hub: {reason_of(error)}") from error
    return Path(paths[0]).parent


def _cached(repository: str, models: Sequence[str], revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    cached = (try_to_load_from_cache(repository, name, revision=revision) for name in models)
    return next((Path(path).parent for path in cached if isinstance(path, str)), None)


def upload(folder: Path, repository: str, *, private: bool, token: str | None, message: str) -> str:
    """Makes a repository where there is none, hands in the folder's files as one commit, and returns the repository's URL.

    Raises ConfigError for a name that is none, ServiceError where the hub does not answer or refuses.
    """
    hub = require("huggingface_hub", "torch")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ConfigError(f"repository = {repository!r}: write NAME/MODEL, such as someone/streets")
    fault = _fault_of(hub.constants.ENDPOINT)
    if fault:
        raise ServiceError(f"'{repository}' was not handed in: {fault}. `save_pretrained` writes the same folder here")
    api = hub.HfApi(endpoint=hub.constants.ENDPOINT, token=token)
    try:
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    except Exception as error:  # its client raises errors of three libraries
        raise ServiceError(
            f"'{repository}' was not handed in: {reason_of(error)}. Is the token one that may write (HF_TOKEN, or token=)?"
        ) from error
    return str(url)


def _fault_of(address: str) -> str:
    """Why no answer came from an address within TRY_S; empty when one came. A thread, since looking up a name has no timeout."""
    faults: list[str] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=TRY_S).close()
            faults.append("")
        except urllib.error.HTTPError:
            faults.append("")  # it answers
        except (OSError, ValueError) as error:
            faults.append(" ".join(str(getattr(error, "reason", error)).split())[:200])

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TRY_S)
    return faults[0] if faults else f"{address} did not answer within {TRY_S:g} s"
