"""DICOM identifiers of everything that this package writes: one root, new or derived."""

from pydicom.uid import UID, generate_uid

# "2.25.<integer of a UUID>" is a root that anybody may own without a registry (DICOM PS3.5, annex B.2);
# the UUID is uuid5(NAMESPACE_DNS, "nnunet-igtv")'s.
ROOT = "2.25.7397814879140510473918027334017866383."
IMPLEMENTATION_CLASS_UID = UID(ROOT + "1")
IMPLEMENTATION_VERSION_NAME = "NNUNET_IGTV"


def new_uid() -> UID:
    """A fresh identifier under the package's root."""
    return generate_uid(prefix=ROOT)


def derived_uid(*parts: object) -> UID:
    """The identifier that belongs to these parts: always the same one for the same parts."""
    return generate_uid(prefix=ROOT, entropy_srcs=["/".join(map(str, parts))])
