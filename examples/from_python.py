"""All steps from Python, in half a minute on a CPU: DICOM studies -> cases -> network -> scores -> RTSTRUCT.

    python examples/from_python.py FOLDER

Phantoms stand in for patients. A small network is trained on one of them and scored on the same one, which
shows how the functions fit together and says nothing about how good the method is. For real trainings use
nnU-Net's commands (README.md).
"""

import csv
import os
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F

import nnunet_igtv as igtv
from nnunet_igtv.phantom.cohort import write_cohort

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "from_python")
torch.manual_seed(0)

# %% Two breathing phantoms as DICOM: CT, PET and an RTSTRUCT with the IGTV
studies = list(write_cohort("igtv", 2, seed=3, matrix=48, slices=12, output=folder / "studies"))
study = studies[0]

# %% One study read: CT in HU, PET in SUV (body weight), the structure on the CT's grid
ct = igtv.read_ct(study / "CT")
pet = igtv.read_pet(study / "PET")
truth = igtv.read_structure(study / "RTSTRUCT" / "RTSTRUCT.dcm", "IGTV", ct)
print(f"CT {ct.GetSize()} voxels of {ct.GetSpacing()} mm, PET {pet.GetSize()}")

# %% All studies as an nnU-Net raw dataset: both images and the label on one grid
os.environ.update(nnUNet_raw=str(folder / "nnUNet_raw"))
conversion = igtv.convert("lucid", folder / "studies", 502, name="LungIGTV", jobs=1)
print(f"{len(conversion.converted)} converted, {conversion.kept} already there: {conversion.dataset}")
labels = conversion.dataset / "labelsTr"

# %% The network: stacks of 3 slices, (B, CT and PET, slices, rows, columns) -> logits of the same size
network = igtv.build_network("nano", 2)


def read_case(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (2, slices, rows, columns), scaled to about -1 to 1, and label (slices, rows, columns)."""
    images = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(conversion.dataset / "imagesTr" / f"{name}_000{k}.nii.gz")))
        for k in (0, 1)
    ]
    image = np.stack([images[0] / 500 + 0.5, images[1] / 5]).astype(np.float32)
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(labels / f"{name}.nii.gz")))
    return torch.from_numpy(image), torch.from_numpy(label.astype(np.float32))


cases = sorted(path.name.removesuffix(".nii.gz") for path in labels.iterdir())
image, label = read_case(cases[0])
stacks = image.unfold(1, 3, 3).movedim(-1, 2).movedim(1, 0)  # (slices / 3, 2, 3, rows, columns)
wanted = label.unfold(0, 3, 3).movedim(-1, 1)
optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
steps = 60
for _ in range(steps):
    logits = network(stacks)
    foreground = logits[:, 1] - logits[:, 0]
    probability = foreground.sigmoid()
    dice = (2 * (probability * wanted).sum() + 1) / (probability.sum() + wanted.sum() + 1)
    loss = F.binary_cross_entropy_with_logits(foreground, wanted) - dice
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
print(f"after {steps} steps: loss {loss.item():.3f}")

# %% Weights from elsewhere: every tensor is accounted for
weights = folder / "weights.pth"
torch.save({"network_weights": network.state_dict()}, weights)
copy = igtv.build_network("nano", 2)
report = igtv.load_pretrained(copy, weights)
print(report.table())

# %% Predict with the copy, and write the prediction on the grid of the case
predictions = folder / "predictions"
predictions.mkdir(exist_ok=True)
copy.eval()
for name in cases:
    image, _ = read_case(name)
    with torch.inference_mode():
        logits = copy(image.unfold(1, 3, 3).movedim(-1, 2).movedim(1, 0))
    found = logits.argmax(1).flatten(0, 1).numpy().astype(np.uint8)
    mask = sitk.GetImageFromArray(found)
    mask.CopyInformation(sitk.ReadImage(str(labels / f"{name}.nii.gz")))
    sitk.WriteImage(mask, str(predictions / f"{name}.nii.gz"))

# %% Scores and a report; the first case was trained on
results = igtv.evaluate(
    labels, {"example": predictions}, conversion.dataset / "imagesTr", folder / "report", overwrite=True
)
for name in results.cases:
    print(f"{name}: Dice {results.scores['example'][name]['dice']:.3f}")

# %% The structure set of a prediction, on the CT that the manifest names, and the same voxels read back
with open(conversion.manifest, newline="") as file:
    study = next(Path(row["study"]) for row in csv.DictReader(file) if row["case"] == cases[0])
mask = sitk.ReadImage(str(predictions / f"{cases[0]}.nii.gz"))
contours = folder / "contours.dcm"
contours.unlink(missing_ok=True)
igtv.write_rtstruct(mask, study / "CT", contours, "IGTV predicted")
again = igtv.read_structure(contours, "IGTV predicted", igtv.read_ct(study / "CT"))
same = bool((sitk.GetArrayFromImage(again) == sitk.GetArrayFromImage(mask)).all())
print(f"{contours}: the same voxels as written: {same}")

# %% What cannot be right is refused, in one sentence
try:
    igtv.read_structure(contours, "GTV", ct)
except igtv.IGTVError as error:
    print(f"refused: {error}")
