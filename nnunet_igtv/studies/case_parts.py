"""The CT, the PET and the structure that a case is made of, out of one study."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from nnunet_igtv.dicom import traits
from nnunet_igtv.dicom.attributes import attribute, text
from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.structure_sets import Roi, StructureSet, listed, number_of
from nnunet_igtv.studies.choice import Chosen, choose_images
from nnunet_igtv.studies.grouping import Study
from nnunet_igtv.studies.known import Known, ReadingOptions

COPIED_MM = 0.01  # what writing the same point twice may round

Drawn = tuple[StructureSet, list[Roi]]  # a structure set, and those of its structures that are meant


@dataclass(frozen=True)
class Parts:
    """The parts of a case. `structures` are several where a union was asked for; there may be no PET."""

    ct: Chosen
    pet: Chosen | None
    structures: list[Drawn]

    @property
    def rois(self) -> list[Roi]:
        return [roi for _, rois in self.structures for roi in rois]


def choose_parts(study: Study, pattern: str, options: ReadingOptions, union: bool = False) -> Parts:
    """The structure that a pattern means, and the CT and PET that belong to it by the rules of `choice`.

    Of several structure sets, those come first that were drawn on a CT that was asked for, or else on any CT
    of the study.

    Raises IGTVError if a part is missing, if several structures match and no union was asked for, if a union
    of several phases would get the images of one, or as `choose_images` does.
    """
    structures = structures_meant(study, pattern, options, union) if study.of("CT") else []
    known = replace(known_from(structures), registrations=tuple(study.registrations))
    parts = Parts(*choose_images(study.series, options, known), structures)
    _refuse_union_on_a_phase(parts, study, options)
    return parts


def _refuse_union_on_a_phase(parts: Parts, study: Study, options: ReadingOptions) -> None:
    """One phase is no image of a union over the breath; raises IGTVError unless somebody named that CT."""
    moment, pets = traits.moment(parts.ct.series), {s.uid for s in study.of("PT")}
    drawn_on = {uid for s, _ in parts.structures for uid in s.series_uids} - pets
    if moment is not None and options.ct is None and len(drawn_on) > 1:
        raise IGTVError(
            f"structures that were drawn on {len(drawn_on)} CT series would be united on one of them, phase "
            f"{moment} of a breath",
            remedy="use the source 4dct, which takes the average of the phases, or name the CT",
            settings=["ct"],
        )


def known_from(structures: Sequence[Drawn]) -> Known:
    """What structures tell about the series that they were drawn on."""
    rois = [roi for _, found in structures for roi in found]
    contours = [points for roi in rois for points in roi.contours]
    return Known(
        series=frozenset().union(*(s.series_uids for s, _ in structures)),
        images=cache(lambda: frozenset().union(*(images_of(s, rois) for s, rois in structures))),
        studies=frozenset(text(s.header, "StudyInstanceUID") for s, _ in structures),
        frames=frozenset(roi.frame_of_reference for roi in rois) - {""},
        points=np.concatenate(contours) if contours else np.empty((0, 3)),
    )


def structures_meant(study: Study, pattern: str, options: ReadingOptions, union: bool) -> list[Drawn]:
    """The structures that a pattern means, by their structure sets; see `choose_parts`."""
    sets = study.structure_sets
    if not sets:
        raise IGTVError("no structure set (RTSTRUCT) in the study", remedy="add it, or leave the study out")
    matching = [(s, [r for r in s.match(pattern) if r.is_drawn]) for s in sets]
    matching = [(s, found) for s, found in matching if found]
    if not matching:
        names = sorted({name for s in sets for name in s.names})
        first = next((s for s in sets if s.match(pattern)), None)
        if first:
            raise first.without_outlines(first.match(pattern))
        raise IGTVError(
            f"no structure matches {pattern!r}; there are: {listed(names)}",
            remedy="name one of them (its name, or a regular expression for the whole name)",
            settings=["structure"],
        )
    cts = study.of("CT")
    if selectors := options.selectors("study", "ct"):
        for selector in selectors:
            cts = selector.pick(cts)
        matching = _naming(matching, cts) or _of_their_study(matching, cts) or matching
    elif not union:
        matching = _naming(matching, cts) or matching
    each = without_copies([(s, roi) for s, rois in matching for roi in rois])
    matching = [(s, own) for s, _ in matching if (own := [roi for other, roi in each if other is s])]
    if not union and (len(matching) > 1 or len(matching[0][1]) > 1):
        names = [roi.name for _, found in matching for roi in found]
        raise IGTVError(
            f"{len(names)} structures in {len(matching)} structure set(s) match {pattern!r}: {listed(names)}",
            remedy="give a narrower pattern, unite them, name the study or the CT that was drawn on, or keep "
            "one structure set only",
            settings=["structure", "union", "study", "ct"],
        )
    for s, found in matching:
        if unusable := [roi for roi in found if not roi.contours]:
            raise s.without_outlines(unusable)
    return matching


def without_copies(structures: Sequence[tuple[StructureSet, Roi]]) -> list[tuple[StructureSet, Roi]]:
    """Structures without those that an earlier set holds too: a set that was written again, or extended,
    holds what the one before it held."""
    kept: list[tuple[StructureSet, Roi]] = []
    for each in structures:
        if not any(_is_copy(each, other) for other in kept):
            kept.append(each)
    return kept


def _is_copy(structure: tuple[StructureSet, Roi], other: tuple[StructureSet, Roi]) -> bool:
    """Whether two sets hold one structure: drawn on the same series, and the same point by point."""
    (one_set, a), (other_set, b) = structure, other
    return (
        one_set is not other_set
        and one_set.series_uids == other_set.series_uids
        and a.frame_of_reference == b.frame_of_reference
        and (a.drawn.exclusive, a.drawn.thickness_mm) == (b.drawn.exclusive, b.drawn.thickness_mm)
        and [len(points) for points in a.contours] == [len(points) for points in b.contours]
        and all(np.abs(p - q).max() < COPIED_MM for p, q in zip(a.contours, b.contours, strict=True))
    )


def _naming(structures: Sequence[Drawn], cts: Sequence[Series]) -> list[Drawn]:
    return [(s, rois) for s, rois in structures if s.series_uids & {ct.uid for ct in cts}]


def _of_their_study(structures: Sequence[Drawn], cts: Sequence[Series]) -> list[Drawn]:
    studies = {ct.study_uid for ct in cts}
    return [(s, rois) for s, rois in structures if text(s.header, "StudyInstanceUID") in studies]


def images_of(structures: StructureSet, rois: Sequence[Roi]) -> frozenset[str]:
    """The SOP Instance UIDs of the images that the contours of some structures refer to."""
    numbers = {roi.number for roi in rois}
    found = set()
    for item in attribute(structures.header, "ROIContourSequence") or []:
        if number_of(item, "ReferencedROINumber") in numbers:
            for contour in attribute(item, "ContourSequence") or []:
                for image in attribute(contour, "ContourImageSequence") or []:
                    found.add(text(image, "ReferencedSOPInstanceUID"))
    return frozenset(found - {""})
