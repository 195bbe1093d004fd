"""Who a DICOM study is about, by the patient's id, name and date of birth; some of them may be missing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nnunet_igtv.dicom.dates import Date
from nnunet_igtv.dicom.spellings import tight
from nnunet_igtv.studies.grouping import Entry


@dataclass(frozen=True)
class Person:
    """What the objects of a study say of the patient; more than one value where they differ."""

    id: str
    names: frozenset[str]
    births: frozenset[Date]

    @classmethod
    def of(cls, entries: Iterable[Entry], patient: str) -> "Person":
        """The patient of some objects, whose id is known to be `patient`."""
        entries = list(entries)
        births = {secret for entry in entries for secret in entry.secrets if isinstance(secret, Date)}
        return cls(patient, frozenset(tight(entry.name) for entry in entries) - {""}, frozenset(births))

    @property
    def spelled(self) -> str:
        """Name and date of birth in one spelling; "" unless there is one of each."""
        if len(self.names) != 1 or len(self.births) != 1:
            return ""
        (name,), (birth,) = self.names, self.births
        return f"{name} {birth}"

    def may_be(self, other: "Person") -> bool:
        """Whether nothing says that these are two people."""
        told = ((self.names, other.names), (self.births, other.births))
        return self.id == other.id and not any(a and b and not a & b for a, b in told)


def number_of_people(people: Sequence[Person]) -> int:
    """How many people these are at least."""
    known: list[Person] = []
    for person in people:
        if not any(person.may_be(one) for one in known):
            known.append(person)
    return len(known)
