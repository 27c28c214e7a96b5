"""Arrays of two kinds: numpy's, and the tensors of an engine that computes in PyTorch. PyTorch is not imported here.

What follows the network (labels, windows, blending, protocols) is written once, for both: on a processor without
PyTorch it is numpy, and on a GPU nothing but labels leaves the card.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = Any  # a numpy array or a torch.Tensor: a union would have to import PyTorch, and both have the names used here
Device = Any  # a text, or a torch.device


@runtime_checkable
class Engine(Protocol):
    """Anything that turns images into logits.

    device: where its tensors lie, a torch.device; or a text such as "cpu" for an engine of numpy arrays.
    """

    name: str
    device: Any

    def coarse(self, images: Any) -> Any:
        """(B, bands, H, W) float32 in the images' own range -> logits (B, K, h, w) at any stride, float32."""
        ...


def is_tensor(values: Any) -> bool:
    """Whether an array is PyTorch's."""
    return not isinstance(values, np.ndarray)


def to_numpy(values: Any) -> NDArray[Any]:
    """The same numbers as a numpy array, in the processor's memory; a tensor that lies there shares it."""
    return values.detach().cpu().numpy() if is_tensor(values) else values


def on_device(values: Any, device: Any) -> Any:
    """Images as an engine of this device takes them: float32, an array for a text, a tensor for a torch.device."""
    if isinstance(device, str):
        return np.ascontiguousarray(to_numpy(values), np.float32)
    if is_tensor(values):
        return values
    values = np.ascontiguousarray(values)
    if not values.flags.writeable:  # PyTorch warns of memory that it must not write
        values = values.copy()
    return _torch().from_numpy(values).float().to(device)


def like(values: NDArray[Any], other: Any) -> Any:
    """A numpy array as the other's kind, on its device."""
    return _torch().as_tensor(values, device=other.device) if is_tensor(other) else values


def in_kind_of(values: Any, given: Any) -> Any:
    """A result in the kind of array that was given: whoever brings arrays gets arrays."""
    if is_tensor(given):
        return values if is_tensor(values) else _torch().from_numpy(values)
    return to_numpy(values)


def zeros_like(values: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of another shape in the same kind, type and place."""
    return values.new_zeros(shape) if is_tensor(values) else np.zeros(shape, values.dtype)


def copy_of(values: Any) -> Any:
    """The numbers in memory of their own."""
    return values.clone() if is_tensor(values) else values.copy()


def take(values: Any, places: Any, axis: int) -> Any:
    """Rows, columns, ... at these places."""
    return values.index_select(axis, places) if is_tensor(values) else values.take(places, axis)


def softmax_(values: Any, axis: int, temperature: float = 1.0) -> Any:
    """Softmax in place: at 150 classes each copy of a window of 1,024 px would be 600 MB."""
    values -= values.amax(dim=axis, keepdim=True) if is_tensor(values) else values.max(axis, keepdims=True)
    if temperature != 1:
        values /= temperature
    if is_tensor(values):
        values.exp_()
    else:
        np.exp(values, out=values)
    values /= values.sum(axis, keepdims=True)
    return values


def best_class(values: Any) -> tuple[Any, Any]:
    """(K, ...) scores -> the greatest (...) and its class (...) uint8: the first one of equals."""
    if is_tensor(values):
        best, index = values.max(dim=0)
        return best, index.to(_torch().uint8)
    # numpy's argmax over the first axis strides through memory; a pass over each class does not
    best, index = values[0].copy(), np.zeros(values.shape[1:], np.uint8)
    for number in range(1, len(values)):
        index[values[number] > best] = number
        np.maximum(best, values[number], out=best)
    return best, index


def _torch() -> Any:
    """The library of a tensor that is there: whoever made it has imported it."""
    return sys.modules["torch"]
