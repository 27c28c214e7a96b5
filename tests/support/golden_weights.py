"""Deterministic weights, inputs and label maps of the golden files.

Only numpy is used. Every array depends on nothing but its own name, its shape
and the few parameters written in the manifest, so any program can rebuild the
very arrays from which the recorded outputs were computed.

Rules
-----
The generator of an array called ``name`` is
``numpy.random.default_rng(zlib.crc32(name.encode("utf-8")))`` (PCG64). Draws
are made in float64 and then cast to float32.

``fill_entry(name, shape, gain)`` gives the entry ``name`` of a state dict. Let
``leaf`` be the part of ``name`` after the last dot; the first rule that fits
holds:

1. leaf ``num_batches_tracked``            -> int64 zeros
2. leaf ``running_mean``                   -> 0.1 * normal
3. leaf ``running_var``                    -> 0.5 + uniform[0, 1)
4. leaf ``relative_position_bias_table``
   or ``absolute_pos_embed``               -> 0.5 * normal
5. two or more dimensions                  -> gain * sqrt(2 / fan_in) * normal,
                                              fan_in = product of shape[1:]
6. one dimension, leaf ends in ``weight``  -> 0.5 + uniform[0, 1)
7. anything else (biases)                  -> 0.1 * normal

``gain`` (one number per case, in the manifest) keeps the activations of deep
residual networks in a healthy range.

``make_input``, ``make_image``, ``make_labels`` and ``make_prediction`` are the
inputs; see their docstrings. Command line: ``python golden_weights.py
manifest.json ...`` rebuilds everything a manifest names and compares it with
the SHA-256 sums written there.
"""

import hashlib
import json
import sys
import zlib

import numpy as np

IGNORE = 255


def rng_for(name):
    """The generator that belongs to a name."""
    return np.random.default_rng(zlib.crc32(name.encode("utf-8")))


def fill_entry(name, shape, gain=1.0):
    """One entry of a state dict, as a numpy array (see the rules above)."""
    shape = tuple(int(s) for s in shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    rng = rng_for(name)
    if leaf == "running_mean":
        value = 0.1 * rng.standard_normal(shape)
    elif leaf == "running_var":
        value = 0.5 + rng.random(shape)
    elif leaf in ("relative_position_bias_table", "absolute_pos_embed"):
        value = 0.5 * rng.standard_normal(shape)
    elif len(shape) >= 2:
        fan_in = 1
        for s in shape[1:]:
            fan_in *= s
        value = gain * np.sqrt(2.0 / fan_in) * rng.standard_normal(shape)
    elif leaf.endswith("weight"):
        value = 0.5 + rng.random(shape)
    else:
        value = 0.1 * rng.standard_normal(shape)
    return np.asarray(value).astype(np.float32)


def fill_state_dict(entries, gain=1.0, left_out=()):
    """{name: array} for ``entries`` = [[name, shape, dtype], ...] of a manifest.

    Names in ``left_out`` are buffers that the architecture itself determines (index
    tables); they are left out here and must keep the values the network gives
    them.
    """
    left_out = set(left_out)
    return {e[0]: fill_entry(e[0], e[1], gain) for e in entries if e[0] not in left_out}


def make_input(name, shape, cell=16, fine=0.5):
    """A float32 tensor N x C x H x W: a coarse random grid plus fine noise.

    One normal value per ``cell`` x ``cell`` block (drawn first, for the whole
    N x C x ceil(H/cell) x ceil(W/cell) grid, repeated and cropped) plus
    ``fine`` times a normal value per element.
    """
    n, c, h, w = shape
    rng = rng_for(name)
    coarse = rng.standard_normal((n, c, -(-h // cell), -(-w // cell)))
    noise = rng.standard_normal((n, c, h, w))
    big = coarse.repeat(cell, axis=2).repeat(cell, axis=3)[:, :, :h, :w]
    return (big + fine * noise).astype(np.float32)


def make_image(name, height, width, cell=16):
    """A uint8 RGB image H x W x 3: clip(round(127.5 + 45 * make_input), 0, 255)."""
    x = make_input(name, (1, 3, height, width), cell=cell)[0].transpose(1, 2, 0)
    return np.clip(np.rint(127.5 + 45.0 * x.astype(np.float64)), 0, 255).astype(np.uint8)


def make_labels(name, shape, classes, ignore_fraction=0.06, cell=8, noise=0.15, absent=()):
    """A uint8 label map H x W (or N x H x W) with ignored pixels (255).

    Drawn in this order: a class per ``cell`` x ``cell`` block; a class per
    pixel; a uniform number per pixel, below ``noise`` the pixel's own class
    replaces the block's; a uniform number per pixel, below ``ignore_fraction``
    the pixel becomes 255. Classes come from those not in ``absent``.
    """
    shape = tuple(shape)
    lead, (h, w) = shape[:-2], shape[-2:]
    pool = np.array([c for c in range(classes) if c not in set(absent)])
    rng = rng_for(name)
    block = rng.integers(0, len(pool), (*lead, -(-h // cell), -(-w // cell)))
    pixel = rng.integers(0, len(pool), shape)
    swap = rng.random(shape) < noise
    drop = rng.random(shape) < ignore_fraction
    big = block.repeat(cell, axis=-2).repeat(cell, axis=-1)[..., :h, :w]
    out = pool[np.where(swap, pixel, big)].astype(np.uint8)
    out[drop] = IGNORE
    return out


def make_prediction(name, labels, classes, keep=0.6, absent=()):
    """A uint8 prediction map: the label where a uniform number is below ``keep``
    (and the label is not 255), else a random class not in ``absent``. The
    uniform numbers are drawn before the classes."""
    pool = np.array([c for c in range(classes) if c not in set(absent)])
    rng = rng_for(name)
    take = rng.random(labels.shape) < keep
    other = pool[rng.integers(0, len(pool), labels.shape)]
    return np.where(take & (labels != IGNORE), labels, other).astype(np.uint8)


def sha256_of(array):
    """SHA-256 of an array's C-order bytes (little endian)."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def sha256_of_state(state, entries, left_out=()):
    """SHA-256 over the filled entries' bytes, in the manifest's order."""
    total = hashlib.sha256()
    for entry in entries:
        if entry[0] not in set(left_out):
            total.update(np.ascontiguousarray(state[entry[0]]).tobytes())
    return total.hexdigest()


def build_array(spec):
    """The array that an entry of a manifest's "arrays" list describes."""
    kind, name, args = spec["kind"], spec["name"], dict(spec.get("args", {}))
    if kind == "input":
        return make_input(name, spec["shape"], **args)
    if kind == "image":
        return make_image(name, spec["shape"][0], spec["shape"][1], **args)
    if kind == "labels":
        return make_labels(name, spec["shape"], **args)
    if kind == "weight":
        return fill_entry(name, spec["shape"], **args)
    raise ValueError("unknown kind: " + kind)


def check_manifest(path):
    """Rebuild what a manifest names; return the number of sums that differ."""
    with open(path) as handle:
        manifest = json.load(handle)
    wrong = compared = 0
    for case in manifest.get("cases", [manifest]):
        if "state_dict" in case:
            architecture_keys = case.get("kept_by_the_architecture", ())
            state = fill_state_dict(case["state_dict"], case["gain"], architecture_keys)
            compared += 1
            wrong += sha256_of_state(state, case["state_dict"], architecture_keys) != case["weights_sha256"]
        for spec in case.get("arrays", ()):
            compared += 1
            wrong += sha256_of(build_array(spec)) != spec["sha256"]
    print(f"{path}: {compared} sums compared, {wrong} differ")
    return wrong


if __name__ == "__main__":
    sys.exit(1 if sum([check_manifest(p) for p in sys.argv[1:]]) else 0)
