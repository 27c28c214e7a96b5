"""The one way to write: whole or not at all, never over an input, and told in one wording when it cannot be.

A file is written under a temporary name beside its path and then renamed. A process that is killed leaves only the
temporary name, `.NAME.pspnet-PID-HOST-RANDOM.part.ENDING`; the next one that writes into the folder removes it.

    with new_file("model.safetensors", durable=True) as part:      # `part` becomes the file when the block ends well
        save_file(state, part)
    check_output(out, inputs=[photo], overwrite=False)             # before hours of work, not after
    with locked("runs/one"): ...                                   # one process at a time

Every failure is an OutputError: exit code 1, or 2 where the command asked for the wrong thing (an input, a folder).
What a command reads from a folder is listed by `listing.py`; where there are limits, `path_limits.py` holds them.
"""

from pspnet.files.atomic import new_file, new_files, new_folder, own_folder, write_bytes, write_text
from pspnet.files.cache import cache_folder, keep_note, read_note
from pspnet.files.listing import Listing, list_files
from pspnet.files.locks import locked, wait_for_lock
from pspnet.files.output_checks import (
    Inputs,
    check_folder,
    check_output,
    check_output_folder,
    check_results_folder,
    holds_keys,
    named_files,
)
from pspnet.files.system_errors import not_through_links, reason, writing
from pspnet.files.temporary import LONGEST_NAME

__all__ = [
    "LONGEST_NAME",
    "Inputs",
    "Listing",
    "cache_folder",
    "check_folder",
    "check_output",
    "check_output_folder",
    "check_results_folder",
    "holds_keys",
    "keep_note",
    "list_files",
    "locked",
    "named_files",
    "new_file",
    "new_files",
    "new_folder",
    "not_through_links",
    "own_folder",
    "read_note",
    "reason",
    "wait_for_lock",
    "write_bytes",
    "write_text",
    "writing",
]
