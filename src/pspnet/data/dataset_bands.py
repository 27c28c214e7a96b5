"""The bands of data sets, compared with each other."""

from __future__ import annotations

from pspnet.data.dataset import Dataset, as_dataset
from pspnet.georaster.bands import compare_bands


def unlike_bands(one: Dataset, other: Dataset) -> str:
    """Why pixels of the second data set do not mean what the first one's mean; "" where nothing is known against it."""
    one, other = as_dataset(one), as_dataset(other)
    if one.bands != other.bands:
        return f"it has {other.bands} bands, the other {one.bands}"
    difference = compare_bands(one.band_names, other.band_names) if one.band_names and other.band_names else ""
    if not difference and one.band_info is not None and other.band_info is not None:
        differences = one.band_info.differences(other.band_info, one.band_numbers)
        difference = f"its images have {' and '.join(differences)}" if differences else ""
    return difference
