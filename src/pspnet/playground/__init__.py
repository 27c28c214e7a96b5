"""The playground: configure, train, compare and try models in a browser. `pspnet playground` starts it.

It needs the extra `playground`. What it computes is done by the rooms below; this room makes the page.
"""
