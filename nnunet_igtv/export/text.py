"""Text in DICOM objects: what a structure may be called, and the character set that text is written in."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from pydicom import Dataset, charset
from pydicom.multival import MultiValue
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, PN_DELIMS, TEXT_VR_DELIMS

from nnunet_igtv.dicom.attributes import values_of
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export.elements import elements_of

UTF_8 = "ISO_IR 192"
LONGEST = 64  # characters of a Long String (PS3.5, 6.2): ROI Name, Segment Label and Patient ID are such
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what pydicom puts in place of bytes that it cannot decode
_BEYOND_ASCII = {t for t, e in charset.python_encoding.items() if e != charset.default_encoding}
_DELIMITERS = PN_DELIMS | TEXT_VR_DELIMS


def structure_name(name: str) -> str:
    """The name of a structure as it is written; see `long_string`."""
    return long_string(name, "the name of the structure", "name")


def long_string(value: str, what: str, setting: str) -> str:
    """A text that a person chose, without blanks around it, which have no meaning in DICOM.

    Args:
        value: the text.
        what: what it is.
        setting: the parameter that it was given as.

    Raises:
        IGTVError: nothing is left, more than 64 characters, a backslash (it separates values), or characters
            that are no text.
    """
    value = value.strip(" ")
    fault = None
    if not value.strip():
        fault = "is empty"
    elif "\\" in value:
        fault = "holds a backslash, which separates values in DICOM"
    elif any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        fault = "holds control characters or bytes that are no text"
    elif len(value) > LONGEST:
        fault = f"has {len(value)} characters, and DICOM allows {LONGEST}"
    if fault:
        raise IGTVError(f"{what}, {value!r}, {fault}", remedy="choose another one", settings=[setting])
    return value


def texts_of(dataset: Dataset) -> list[str]:
    """Every text, at any depth, that is written in the character set."""
    texts: list[str] = []
    for element in elements_of(dataset):
        if element.VR in CUSTOMIZABLE_CHARSET_VR and not element.is_empty:
            texts += map(str, element.value if isinstance(element.value, MultiValue) else [element.value])
    return texts


class Copied(NamedTuple):
    """Text of another object, and the Specific Character Set which that object declares."""

    texts: list[str]
    declaration: list[str]

    @classmethod
    def of(cls, dataset: Dataset, source: Dataset) -> "Copied":
        """The text of a dataset that was copied from a source."""
        declaration = [str(value) for value in values_of(source, "SpecificCharacterSet")]
        return cls(texts_of(dataset), declaration)

    @property
    def is_understood(self) -> bool:
        """Whether its own declaration covers the text, so that it can be written in another character set."""
        return all(_survives(text, self.declaration) for text in self.texts)


def set_character_set(dataset: Dataset, copied: Sequence[Copied], own: Sequence[str]) -> None:
    """Declare the character set of `dataset`; see `character_set`."""
    declaration = character_set(copied, own)
    if declaration:
        dataset.SpecificCharacterSet = declaration


def character_set(copied: Sequence[Copied], own: Sequence[str]) -> list[str]:
    """The Specific Character Set in which copied text, and our own, reads back as it is.

    That of an object copied from where it covers all of it, in the order given; else UTF-8. Empty for ASCII.

    Raises:
        IGTVError: copied text that its own declaration does not cover, and the rest is not plain ASCII:
            nobody knows how to write both together.
    """
    texts = [text for source in copied for text in source.texts] + [*own]
    if not any(_REPLACEMENT in text for text in texts):
        for source in copied:
            if all(_survives(text, source.declaration) for text in texts):
                return source.declaration
        unclear = [source for source in copied if not source.is_understood]
        if not unclear:
            return [UTF_8]
        others = [text for source in copied if source.is_understood for text in source.texts]
        alike = all(source.declaration == unclear[0].declaration for source in unclear)
        if alike and all(text.isascii() for text in [*others, *own]):
            return unclear[0].declaration  # the same bytes under the same declaration as before
    raise IGTVError(
        "attributes of patient, study or structures hold characters outside the character set that their "
        "file declares (0008,0005)",
        remedy="correct the character set in the files, or name the structure in plain ASCII",
        settings=["name"],
    )


def _survives(text: str, declaration: list[str]) -> bool:
    """Whether text reads back as it was after being written under a declaration."""
    if text.isascii():
        return True
    if not any(term in _BEYOND_ASCII for term in declaration):
        return False
    encodings = charset.convert_encodings(declaration)
    if charset.default_encoding in encodings and any("\x80" <= character <= "\xff" for character in text):
        return False  # pydicom takes the default repertoire, which is ASCII, for Latin-1
    return all(
        charset.decode_bytes(charset.encode_string(part, encodings), encodings, _DELIMITERS) == part
        for part in re.split("[=^]", text)
    )
