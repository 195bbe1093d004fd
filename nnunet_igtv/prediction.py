"""One DICOM study -> the mask of its tumour on the CT, by a trained model and nnU-Net's own prediction.

The readers of the converters turn CT and PET into the model's input, `nnUNetv2_predict` predicts, and the
mask comes back on the grid of the CT, ready to be exported. Nothing of the patient's identity is printed.
"""

import errno
import glob
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.channels import CT_PET, channels_of, mismatch, unknown, values_of
from nnunet_igtv.dataset_conversion.case import write_nifti
from nnunet_igtv.dataset_conversion.pet_channel import PetChannel, pet_channel
from nnunet_igtv.devices import require_device
from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.redaction import naming_nobody
from nnunet_igtv.dicom.series import Series, group_series, read_headers
from nnunet_igtv.environment import VARIABLE, extended_trainer_path, nnunet_folder
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import read_image
from nnunet_igtv.structures.structure_sets import read_structure_set, references
from nnunet_igtv.studies.choice import Chosen, choose_images
from nnunet_igtv.studies.images import Volume, ct_volume
from nnunet_igtv.studies.known import Known, ReadingOptions
from nnunet_igtv.studies.registration import find_registrations
from nnunet_igtv.weights.description import read_description
from nnunet_igtv.weights.trust import check_model

_CASE = "STUDY"
DEFAULTS = ReadingOptions()


@dataclass(frozen=True)
class Model:
    """A trained model in nnU-Net's results folder.

    Attributes:
        dataset, trainer, plans, configuration, folds, checkpoint: as `nnUNetv2_predict` is told.
        structure: name of its one label.
        file_ending: of the images that it reads.
        optional_pet: whether it was trained on studies without a PET too.
        trusted: whether its files may run code when they are loaded.

    Examples:
        >>> from nnunet_igtv import Model
        >>> model = Model.find(502, "IGTVTransferTrainerNano")  # nnUNet_results must be set
        >>> model.structure, model.configuration, model.folds
        ('IGTV', '2d', ('0',))
    """

    dataset: str
    trainer: str
    plans: str
    configuration: str
    folds: tuple[str, ...]
    checkpoint: str
    structure: str
    file_ending: str
    trusted: bool = False
    optional_pet: bool = False

    @classmethod
    def find(
        cls,
        dataset: str | int,
        trainer: str = "IGTVTransferTrainer",
        plans: str = "nnUNetPlans",
        configuration: str = "2d",
        *,
        folds: Sequence[str | int] = ("0",),
        checkpoint: str = "checkpoint_final.pth",
        trust_model: bool = False,
    ) -> "Model":
        """The model under `nnUNet_results`.

        Args:
            trust_model: take one whose checkpoints hold more than data. They may run any code.

        Raises:
            IGTVError: no such model, one that was not trained on CT in HU and PET in SUV, or one that would
                run code when it is loaded.
        """
        dataset = str(dataset)
        if not re.fullmatch(r"[0-9]{1,6}|Dataset[0-9]{3,6}_[^/\\]+", dataset):
            raise IGTVError(
                f"no number or name of a dataset: {dataset[:40]!r}",
                remedy="name it as nnU-Net does: 502 or Dataset502_LungIGTV",
                settings=["dataset"],
            )
        results = nnunet_folder("nnUNet_results")
        pattern = f"Dataset{int(dataset):03d}_*" if dataset.isdecimal() else glob.escape(dataset)
        trained = f"{trainer}__{plans}__{configuration}"
        found = sorted(results.glob(f"{pattern}/{trained}/dataset.json"))
        if len(found) != 1:
            others = sorted(path.parent.name for path in results.glob(f"{pattern}/*__*__*/dataset.json"))
            raise IGTVError(
                f"no trained model {trained} for dataset {dataset}; there are: {', '.join(others) or 'none'}",
                file=results,
                remedy="name one of them, or train first",
                settings=["dataset", "trainer", "plans", "configuration"],
            )
        plans_json, description = read_description(found[0].parent)
        if not trust_model:
            _examine(found[0].parent, folds, checkpoint)
        channels = channels_of(description, found[0])
        if mismatch(channels, CT_PET) or unknown(channels):
            raise IGTVError(
                "the model was not trained on two channels, CT in HU and PET in SUV, but on "
                + values_of(channels),
                file=found[0],
                remedy="take a model of a dataset that was converted from DICOM; where only the channel "
                "names are wrong, correct them in this file",
            )
        labels = [name for name in description["labels"] if name not in ("background", "ignore")]
        if len(labels) != 1:
            raise IGTVError(f"the model has {len(labels)} structures instead of one", file=found[0])
        return cls(
            found[0].parents[1].name,  # a number would be looked for among raw datasets too
            trainer,
            plans,
            configuration,
            tuple(map(str, folds)),
            checkpoint,
            labels[0],
            description["file_ending"],
            trust_model,
            _knows_no_pet(plans_json, configuration),
        )


def _knows_no_pet(plans: dict, configuration: str) -> bool:
    """Whether the plans that a model was trained with say that it knows studies without a PET."""
    try:
        network = plans["configurations"][configuration]["architecture"]["arch_kwargs"]
        return network.get("optional_pet") is True
    except (KeyError, TypeError, AttributeError):  # of another trainer, or an older one
        return False


def _examine(folder: Path, folds: Sequence[str | int], checkpoint: str) -> None:
    try:
        check_model(folder, [folder / f"fold_{fold}" / checkpoint for fold in folds])
    except IGTVError as error:
        raise error.but(settings=[*error.settings, "folds", "checkpoint", "trust_model"]) from error


@dataclass(frozen=True)
class Prediction:
    """What a model found in a study.

    Attributes:
        mask: uint8, nonzero is the structure, on the grid of the CT.
        ct: the CT series that it belongs to.
        structure: name of the model's label.
        notes: what a person should know about the input.
        picture: a PNG of both CTs, where the PET/CT was registered by computation.
    """

    mask: sitk.Image
    ct: Series
    structure: str
    notes: tuple[str, ...] = ()
    picture: bytes | None = None


def predict(
    study: str | Path,
    model: Model,
    device: str = "cuda",
    *,
    mirroring: bool = True,
    largest_part: bool = False,
    options: ReadingOptions = DEFAULTS,
) -> Prediction:
    """The structure of one DICOM study, on its CT.

    Args:
        study: folder with the CT and PET of one patient, at any depth.
        model: a trained model, by `Model.find`.
        device: "cuda", "cpu" or "mps".
        mirroring: predict mirrored images too and average: slower, a little better.
        largest_part: keep the largest connected part only, for patients with one tumour. What is left out, or
            that there are several parts, is among the notes.
        options: which CT and PET, where several could serve; body weight; trust in the frames of reference:
            `nnunet_igtv.studies.known.ReadingOptions(ct="phase:50")`.

    Raises:
        IGTVError: the study has no CT and PET that belong together, several could serve, their headers do
            not determine HU and SUV, there is no such device, nnU-Net's prediction fails, or it finds
            nothing.

    Examples:
        >>> from nnunet_igtv import Model, predict, read_ct, write_rtstruct
        >>> model = Model.find(502, "IGTVTransferTrainerNano")  # nnUNet_results must be set
        >>> found = predict("studies/IGTV-3-000", model, device="cpu", mirroring=False)
        >>> found.structure, found.mask.GetSize() == read_ct("studies/IGTV-3-000/CT").GetSize()
        ('IGTV', True)
        >>> write_rtstruct(found.mask, found.ct, "predicted.dcm", found.structure).name
        'predicted.dcm'
    """
    ct, pet = choose_series(study, options)
    return predict_series(
        ct, pet, model, device, mirroring=mirroring, largest_part=largest_part, options=options
    )


def predict_series(
    ct: Chosen,
    pet: Chosen | None,
    model: Model,
    device: str = "cuda",
    *,
    mirroring: bool = True,
    largest_part: bool = False,
    options: ReadingOptions = DEFAULTS,
    workspace: Path | None = None,
    tell: Callable[[str], None] = lambda note: None,
) -> Prediction:
    """The structure on a CT series, from it and a PET series; see `predict`.

    Args:
        pet: None for a study without a PET, which the model must have been trained for.
        workspace: folder for the images, which stay there; None for one of the system's temporary files.
        tell: called with each of the notes, those of the input before nnU-Net is.
    """
    if pet is None and not model.optional_pet:
        raise IGTVError(
            "there is no PET, and the model was not trained without one",
            remedy="add the PET, or take a model of a trainer named …ModalityDropout",
            settings=["trainer"],
        )
    require_device(device)
    temporary = (
        tempfile.TemporaryDirectory(prefix="nnunet-igtv-") if workspace is None else nullcontext(workspace)
    )
    with temporary as name:
        folder = Path(name)
        with naming_nobody(ct.series, pet.series if pet else None):
            ct_read, pet_read = ct_volume(ct.series), pet_channel(pet, options.weight_kg)
            pet_read = pet_read.registered_to(ct_read.image)
            notes = (*ct.warnings, *write_input(ct_read, pet_read, folder / "input", model.file_ending))
        for note in notes:
            tell(note)
        run_nnunet(folder / "input", folder / "output", model, device, mirroring)
        mask = _read_prediction(mask_file(folder, model), model.structure)
        parts, note = _parts(mask, model.structure, largest_part)
        if note:
            tell(note)
            notes = (*notes, note)
        if largest_part:
            mask = sitk.Mask(mask, parts == 1)
            _write(mask, mask_file(folder, model))
    return Prediction(mask, ct.series, model.structure, notes, pet_read.picture)


def mask_file(workspace: Path, model: Model) -> Path:
    """The mask as nnU-Net wrote it, in a workspace of `predict_series`."""
    return workspace / "output" / (_CASE + model.file_ending)


def choose_series(
    study: str | Path, options: ReadingOptions = DEFAULTS, extend: str | Path | None = None
) -> tuple[Chosen, Chosen | None]:
    """The CT and the PET to predict from, by the rules of the converters; None for a PET that is absent.

    Args:
        study: folder of one patient.
        options: what a person said.
        extend: a structure set that the prediction will be added to; it tells which CT is meant.

    Raises:
        IGTVError: a modality is missing, several patients, no CT and PET in one frame of reference, or
            several that could serve.
    """
    with naming_nobody(study, extend):
        try:
            headers = read_headers(study)
            sets = [header for _, header in headers if text(header, "Modality") == "RTSTRUCT"]
            known = Known(
                series=read_structure_set(extend).series_uids if extend else frozenset(),
                contoured=frozenset().union(*(references(header)[1] for header in sets)),
                registrations=tuple(find_registrations(headers)),
            )
            return choose_images(group_series(headers), options, known)
        except IGTVError as error:
            raise error.but(file=error.file or study) from error


def write_input(ct_read: Volume, pet: PetChannel, folder: Path, ending: str) -> tuple[str, ...]:
    """CT in HU and PET in SUV on the CT's grid, named as nnU-Net expects.

    Returns:
        What a person should know about them.
    """
    ct = ct_read.image
    share = pet.check_overlap(ct, sitk.Image(ct.GetSize(), sitk.sitkUInt8))
    folder.mkdir(parents=True)
    for number, image in enumerate((ct, pet.onto(ct))):
        _write(image, folder / f"{_CASE}_{number:04d}{ending}")
    partly = f"the PET covers {share:.0%} of the CT; elsewhere its uptake is taken for 0"
    said = (*pet.warnings, *ct_read.warnings, *ct_read.notes, *pet.notes)
    return (*said, *([partly] if pet.image is not None and share < 0.995 else []))


def _write(image: sitk.Image, file: Path) -> None:
    """An image as a whole: on a full disk ITK raises nothing, and nnU-Net would read zeros for the rest."""
    if file.name.endswith(".nii.gz"):
        write_nifti(image, file)
        return
    try:
        sitk.WriteImage(image, str(file))
        read_image(file)
    except (RuntimeError, IGTVError) as error:
        raise OSError(errno.EIO, "the image cannot be written in full", str(file)) from error


def run_nnunet(images: Path, output: Path, model: Model, device: str, mirroring: bool) -> None:
    """`nnUNetv2_predict` of this Python environment. Raises IGTVError if it fails."""
    entry = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point; predict_entry_point()"
    if not model.trusted:
        entry = f"from nnunet_igtv.weights.reading import load_data_only; load_data_only(); {entry}"
    command = [
        *(sys.executable, "-c", entry, "-i", str(images), "-o", str(output)),
        *("-d", model.dataset, "-c", model.configuration, "-tr", model.trainer, "-p", model.plans),
        *("-f", *model.folds, "-chk", model.checkpoint, "-device", device),
        *("-npp", "0", "-nps", "0"),  # for one case, a helper process takes longer to start than it saves
        *([] if mirroring else ["--disable_tta"]),
    ]
    status, reason = follow(command, {**os.environ, VARIABLE: extended_trainer_path()})
    if status:
        raise IGTVError(
            f"nnUNetv2_predict failed with status {status}{reason and ': '}{reason}",
            remedy="check the folds, the checkpoint and the device",
            settings=["folds", "checkpoint", "device"],
        )


def follow(command: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit status of a command whose progress is shown, and the errors that its tracebacks end with.

    It ends with this function: where that is interrupted, its folder goes, and nobody would wait for it."""
    held = b""
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            while part := os.read(process.stderr.fileno(), 65536):
                held += part
                shown = held.find(b"Traceback (most recent")
                if shown < 0:  # whole lines; a progress bar's end with a carriage return
                    shown = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
                os.write(2, held[:shown])
                held = held[shown:]
        except BaseException:
            process.kill()
            raise
    errors = re.findall(
        r"^[A-Za-z_][\w.]*(?:Error|Exception)\b.*", held.decode(errors="replace"), re.MULTILINE
    )
    if not (process.returncode and errors):
        os.write(2, held)
    return process.returncode, "; ".join(dict.fromkeys(errors))


def _read_prediction(path: Path, name: str) -> sitk.Image:
    mask = read_image(path)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise IGTVError(f"the model found no {name}: nothing was written", remedy="look at the images")
    return mask


def _parts(mask: sitk.Image, name: str, largest_only: bool) -> tuple[sitk.Image, str]:
    """The connected parts (26 neighbours) of a mask, numbered from the largest; a note of several."""
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(mask != 0, True))
    voxels = np.bincount(sitk.GetArrayViewFromImage(parts).ravel())[1:]
    first, *others = voxels * np.prod(mask.GetSpacing()) / 1000
    if not others:
        return parts, ""
    if largest_only:
        kept, lost = f"the largest is kept ({first:.3f} ml)", f"left out: {sum(others):.3f} ml"
        return parts, f"of {len(voxels)} separate parts {kept}; {lost}"
    shown = ", ".join(f"{ml:.3f}" for ml in (first, *others[:4])) + (", ..." if len(others) > 4 else "")
    return parts, f"{name} has {len(voxels)} separate parts, of {shown} ml"
