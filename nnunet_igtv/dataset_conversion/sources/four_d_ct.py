"""Source `4dct`: studies of a 4D-CT with contours, and a PET that belongs to it.

The phases are found by their headers (docs/4dct.md). The CT channel is their average, their maximum or
one of them; the label an IGTV as it was drawn, or the union of the GTVs of all phases, each on its own phase.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import SimpleITK as sitk

from nnunet_igtv.dataset_conversion.case import Case
from nnunet_igtv.dataset_conversion.motion_study import MIN_PHASES
from nnunet_igtv.dataset_conversion.pet_channel import pet_channel
from nnunet_igtv.dataset_conversion.phase_union import Label, refuse_other_frame, united
from nnunet_igtv.dataset_conversion.resampling import onto
from nnunet_igtv.dataset_conversion.source import Item, Source
from nnunet_igtv.dataset_conversion.sources import dicom_rt
from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.files import find_files
from nnunet_igtv.dicom.pixels import AIR_HU
from nnunet_igtv.dicom.series import AVERAGE
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.settings import setting
from nnunet_igtv.structures.rasterise import rasterise
from nnunet_igtv.studies.breath_ct import BreathCT, breath_ct
from nnunet_igtv.studies.candidates import described
from nnunet_igtv.studies.case_parts import known_from, structures_meant
from nnunet_igtv.studies.choice import choose_pet, is_without_pet, left_out, refuse_several_patients, selected
from nnunet_igtv.studies.grouping import Study
from nnunet_igtv.studies.images import ct_volume
from nnunet_igtv.studies.phase_structures import PhaseStructures, drawn_on_phases, has_place, phase_structures
from nnunet_igtv.studies.phases import FourD, the_4d
from nnunet_igtv.studies.plausibility import remarks_on_structure


@dataclass(frozen=True, kw_only=True)
class Options(dicom_rt.Options):
    """How a study is converted."""

    structure: str = setting(
        help=dicom_rt.STRUCTURE + "; with {phase} in the place of the phase, the union of the structures of "
        "all phases (GTV_{phase}: GTV_00, GTV_10, …)",
        example="GTV_{phase}",
    )
    union: bool = setting(
        False,
        "unite the structures of all phases that match, each drawn on its own; with {phase}, also several "
        "of one phase",
    )
    channel: str = setting(
        AVERAGE, "what the CT channel shows: average, maximum, or a phase (50)", metavar="CHANNEL"
    )
    min_phases: int | None = setting(None, MIN_PHASES, metavar="N")


def collect(folder: Path, options: Options, jobs: int = 1) -> Iterator[Item | IGTVError]:
    """The studies under a folder, and the errors of unreadable files that belong to none."""
    has_place(options.structure)
    return dicom_rt.collect_studies(folder, find_files(folder), options, jobs, case_of)


def case_of(study: Study, options: Options) -> Case:
    """The case of a study with a 4D-CT.

    Raises IGTVError if no phases are recognised, if phases are missing or there twice that are needed, if
    their grids differ, and as the source `dicom-rt` does.
    """
    refuse_several_patients(study.series)
    breath = the_4d(selected(study.series, options, "study"))
    drawn = _per_phase(study, breath, options)
    ct = breath_ct(study.series, breath, options.channel, options, options.min_phases)
    label = (
        united(drawn, breath, options.interpolate, options.trust_frames)
        if drawn
        else _as_drawn(study, breath, ct, options)
    )
    known = replace(
        known_from([(s, []) for s in label.sets]),
        points=label.extent,
        registrations=tuple(study.registrations),
        others=tuple(study.series),
        ct=ct.series,
    )
    pets = study.of("PT")
    without = is_without_pet(pets, options, known)
    pet = pet_channel(None if without else choose_pet(pets, options, known, ct.series), options.weight_kg)
    ct_read = ct_volume(ct.series)
    image = ct_read.image
    pet = pet.registered_to(image)
    mask = label.grid.image(label.mask)
    share = pet.check_overlap(image, mask)
    if options.grid == "ct":
        channel, mask = pet.onto(image), onto(mask, image, label=True)
    else:
        channel = pet.grid_image
        image, mask = pet.brought_here(image, outside=AIR_HU), pet.brought_here(mask, label=True)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise IGTVError("the structure covers no voxel of the grid of the case")
    used = [*(phase.series for phase in breath.phases), ct.series]
    used += [pet.chosen.series] if pet.chosen else []
    provenance: dict[str, object] = {
        "structure": label.names,
        "ct_channel": ct.shows,
        "phases": [str(phase) for phase in breath.phases],
        "phases_told_by": breath.told_by,
        **pet.provenance,
        "warnings": [
            *ct.warnings,
            *(left_out(pets, options) if without else ()),
            *pet.warnings,
            *ct_read.warnings,
            *remarks_on_structure(label.mask),
            *label.notes,
            *(label.motion["flags"] if label.motion else ()),
        ],
        "notes": [*ct_read.notes, *pet.notes],
        "chosen": {"ct": ct.why, "pet": pet.chosen.why if pet.chosen else None},
        "volume_ml": round(label.volume_ml, 3),
        "ct_covered_by_pet": round(share, 3),
        "grid": options.grid,
        "left_out": [
            {"modality": s.modality, "series_number": s.number, "slices": len(s.files)}
            for s in study.series
            if not any(s is other for other in used)
        ],
    }
    return Case(
        image,
        channel,
        mask,
        provenance=provenance | ({"motion": label.motion} if label.motion else {}),
        identity={
            "ct_series": ct.series.uid,
            "pet_series": pet.chosen.series.uid if pet.chosen else "",
            "structure_set": "; ".join(text(s.header, "SOPInstanceUID") for s in label.sets),
        },
        pictures=pet.pictures,
        summary=(
            f"CT: {ct.shows}; {ct.why}; grid of {described(ct.series)}",
            f"phases: {', '.join(map(str, breath.phases))}, told by {breath.told_by}",
            pet.summary,
            f"structure: {', '.join(map(repr, label.names))}",
        ),
    )


def _per_phase(study: Study, breath: FourD, options: Options) -> PhaseStructures | None:
    """The structures of the phases, where the label is to be their union; else None."""
    if not study.structure_sets:
        raise IGTVError("no structure set (RTSTRUCT) in the study", remedy="add it, or leave the study out")
    by_name = has_place(options.structure)
    if not by_name and not (options.union and drawn_on_phases(study, breath, options.structure)):
        return None
    return phase_structures(study, breath, options.structure, options.min_phases, options.union and by_name)


def _as_drawn(study: Study, breath: FourD, ct: BreathCT, options: Options) -> Label:
    """The structure as it was drawn, on the grid of the CT channel."""
    structures = structures_meant(study, options.structure, options, options.union)
    rois = [roi for _, found in structures for roi in found]
    refuse_other_frame(rois, ct.series.frame_of_reference, options.trust_frames)
    found = rasterise(rois, ct.series.grid, options.interpolate)
    on_one = drawn_on_phases(study, breath, options.structure)
    notes = [f"the structure was drawn on phase {m}, and is taken for the IGTV as it is" for m in on_one]
    sets = [s for s, _ in structures]
    return Label(ct.series.grid, found.mask, sets, [roi.name for roi in rois], notes + found.notes)


SOURCE = Source(
    name="4dct",
    summary="4D-CT studies: the average of the phases, and an IGTV or the union of the GTVs of all phases",
    description=__doc__,
    options=Options,
    collect=collect,
    dataset="IGTV",
    label="IGTV",
)
