"""The PET channel of a case: SUV moved to the CT where a registration says so, or a channel without a PET.

nnU-Net needs an image for every channel. Where there is no PET, it is 0 SUV everywhere. No measured PET is
constant: networks that know cases without a PET go by that, not by the value (architectures/absent_pet.py).
"""

from dataclasses import dataclass, field, replace

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.dataset_conversion.resampling import check_overlap, onto
from nnunet_igtv.dataset_conversion.rigid import register_rigidly
from nnunet_igtv.dataset_conversion.rigid_picture import drawn_together
from nnunet_igtv.dicom.pixels import AIR_HU
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.studies.candidates import described
from nnunet_igtv.studies.choice import Chosen
from nnunet_igtv.studies.images import ct_volume, pet_volume

ABSENT_SUV = 0.0


@dataclass(frozen=True)
class PetChannel:
    """A PET as it was read, or none.

    Attributes:
        image: SUV on its own grid; None where there is no PET.
        moved: (4, 4) matrix that takes a point of it to the CT (mm); None where both share a space.
        chosen: the series that it is from.
        provenance: how it was made, for the record of a case.
        picture: a PNG that shows a registration that was computed.
        warnings: what may be wrong with it.
        notes: what was left out of it or replaced in it.
    """

    image: sitk.Image | None = None
    moved: np.ndarray | None = None
    chosen: Chosen | None = None
    provenance: dict[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    picture: bytes | None = None

    @property
    def pictures(self) -> dict[str, bytes]:
        """What a person should look at, by the name of the folder that it goes to."""
        return {} if self.picture is None else {"registration": self.picture}

    def registered_to(self, ct: sitk.Image) -> "PetChannel":
        """The same, registered to the CT in HU by the CT that was taken with it, where that was asked for.

        Raises IGTVError if that CT cannot be read or registered.
        """
        if self.chosen is None or self.chosen.register_by is None:
            return self
        own = ct_volume(self.chosen.register_by)
        found = register_rigidly(own.image, ct)
        said = "the PET was registered to the CT by computation: look at the picture of it"
        return replace(
            self,
            moved=found.matrix,
            provenance=self.provenance | {"registration": found.recorded},
            picture=drawn_together(onto(own.image, ct, outside=AIR_HU, moved=found.matrix), ct),
            warnings=(*self.warnings, said),
        )

    def check_overlap(self, ct: sitk.Image, mask: sitk.Image) -> float:
        """Share of the CT that it covers; see `resampling.check_overlap`. 0 without a PET."""
        return 0.0 if self.image is None else check_overlap(ct, self.image, mask, self.moved)

    def onto(self, ct: sitk.Image) -> sitk.Image:
        """The channel on the grid of the CT, float32."""
        if self.image is not None:
            return onto(self.image, ct, moved=self.moved)
        absent = sitk.Image(ct.GetSize(), sitk.sitkFloat32) + ABSENT_SUV
        absent.CopyInformation(ct)
        return absent

    def brought_here(self, image: sitk.Image, label: bool = False, outside: float = 0.0) -> sitk.Image:
        """An image of the CT's space on the grid of the PET. Raises IGTVError without a PET."""
        back = None if self.moved is None else np.linalg.inv(self.moved)
        return onto(image, self.grid_image, label=label, outside=outside, moved=back)

    @property
    def grid_image(self) -> sitk.Image:
        """The PET, whose grid the case is to have. Raises IGTVError without a PET."""
        if self.image is None:
            raise IGTVError(
                "the grid of the PET was asked for, and there is no PET",
                remedy="take the grid of the CT",
                settings=["grid"],
            )
        return self.image

    @property
    def summary(self) -> str:
        """One line that tells a person what it is."""
        return f"PET: {described(self.chosen.series)}; {self.chosen.why}" if self.chosen else "PET: none"


def pet_channel(chosen: Chosen | None, weight_kg: float | None = None) -> PetChannel:
    """The PET that was chosen, read. Raises IGTVError if its SUV is not certain, or it cannot be read."""
    if chosen is None:
        return PetChannel(provenance={"pet": "absent"}, notes=("there is no PET: its channel is 0",))
    read = pet_volume(chosen.series, weight_kg)
    joined = chosen.joined
    provenance: dict[str, object] = {"suv_rule": read.suv.rule, "suv_factor": read.suv.factor}
    if joined:
        provenance["registration"] = joined.recorded
    return PetChannel(
        read.image,
        joined.matrix if joined else None,
        chosen,
        provenance,
        (*chosen.warnings, *read.warnings),
        read.notes,
    )
