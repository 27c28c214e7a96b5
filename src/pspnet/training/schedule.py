"""Learning rates as functions of the step: no state, so a resumed run cannot drift from an uninterrupted one."""

from __future__ import annotations

import math

from pspnet.config.train import ScheduleConfig


def rate_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """The number that every group's base rate is multiplied with at optimiser step `step`, 0 <= step < steps.

    poly: (1 - step / steps) ** power, the paper's and semseg's (sec. 5.1), without a floor unless `final_factor` sets one.
    cosine: half a cosine from 1 to final_factor (Loshchilov & Hutter 2017). constant: 1.
    one_cycle: half a cosine up to 1 over `peak_share` of the run and one down (Smith 2018), from 1/25 and to 1e-5, the
    values of fastai and so of arcgis.learn.
    warm-up: the first `warmup_steps` steps of poly, cosine and constant are also multiplied with a line that ends at 1.
    """
    done = min(step / steps, 1.0)
    if config.name == "one_cycle":
        peak = max(config.peak_share, 1 / steps)
        if done < peak:
            return _cosine(1 / 25, 1.0, done / peak)
        return _cosine(1.0, 1e-5, (done - peak) / max(1.0 - peak, 1e-12))
    if config.name == "poly":
        factor = (1.0 - done) ** config.power
        factor = config.final_factor + (1.0 - config.final_factor) * factor
    elif config.name == "cosine":
        factor = _cosine(1.0, config.final_factor, done)
    else:
        factor = 1.0
    if step < config.warmup_steps:
        factor *= (step + 1) / (config.warmup_steps + 1)
    return factor


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0
