"""`pspnet ablate`: the paper's tables made again over any data set, with the paper's numbers beside ours.

paper.yaml  rows, what each changes, published numbers, claims
grid.py     rows -> recipes; equal recipes are trained once
cells.py    the runs behind the tables, and what each has given
run.py      trains and scores what is not there yet
tables.py   means, intervals and the paper's claims over seeds, as Markdown and JSON
pictures.py the baseline beside PSPNet
"""

from pspnet.ablation.run import ablate

__all__ = ["ablate"]
