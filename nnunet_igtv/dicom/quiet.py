"""The one place where the warnings of other libraries are silenced.

pydicom and highdicom remark on every deviation from the standard, and ITK on what it reads. Their remarks
quote headers and file names, which may hold the patient's name. What matters is checked here and named.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk


@contextmanager
def quiet() -> Iterator[None]:
    """Without Python's warnings, for as long as it is entered."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def quiet_itk() -> None:
    """Without ITK's warnings, from now on and in the whole process: it knows no other way."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
