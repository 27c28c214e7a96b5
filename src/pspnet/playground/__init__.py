"""The playground: configure, train, compare and try models in a browser. `pspnet playground` starts it.

It needs the extra `playground`. What it computes is done by the rooms below; this room makes the page.
"""

from __future__ import annotations

import os

# before gradio is imported anywhere: it reports its use and looks for updates otherwise
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
