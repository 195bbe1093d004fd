"""What a written object repeats of the CT's patient and study: identifiers and dates, no free text."""

import re
from typing import Any

from pydicom import Dataset

from nnunet_igtv.dicom.attributes import attribute

_REPEATED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
)
# pseudonymisers write "1950" and "U", which the standard does not allow and some readers refuse
_ALLOWED = {
    "PatientBirthDate": r"\d{8}",
    "PatientSex": "[MFO]",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d\d(\d\d(\d\d(\.\d{1,6})?)?)?",
}


def patient_and_study(ct: Dataset) -> Dataset:
    """The Patient and General Study modules (PS3.3, C.7.1.1 and C.7.2.1) that belong to an image.

    These identify the patient and the study, so a written object must have them; attributes of type 2 are
    empty where the CT lacks them or has a value that is not allowed. Nothing else of a header is ever copied:
    no description, institution, comment or private element, and no name of another person.
    """
    written = Dataset()
    for keyword in _REPEATED:
        setattr(written, keyword, _allowed(keyword, attribute(ct, keyword)))
    written.ReferringPhysicianName = ""
    return written


def _allowed(keyword: str, value: Any) -> Any:
    form = _ALLOWED.get(keyword)
    return "" if value is None or (form and not re.fullmatch(form, str(value).strip())) else value
