"""The data doctor: finds everything that is wrong with a data set before a run starts, and says how to mend it."""

from pspnet.data.doctor.check import check_dataset, check_opened, check_splits

__all__ = ["check_dataset", "check_opened", "check_splits"]
