"""A copy of a dataset in which no case has its own label: does a transfer need the labels, or only the steps?

    python experiments/scripts/shuffled_labels.py nnUNet_raw/Dataset911_A nnUNet_raw/Dataset913_B

Images are linked; the label of each case is another's, on the case's own grid.
"""

import argparse
import os
import random
import shutil
from pathlib import Path

import SimpleITK as sitk

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import read_mask


def derangement(cases: list[str], seed: int = 0) -> dict[str, str]:
    """Case -> another case, each once, none its own: neighbours in a shuffled ring."""
    ring = list(cases)
    random.Random(seed).shuffle(ring)
    return dict(zip(ring, [*ring[1:], ring[0]], strict=True))


def shuffle_labels(source: Path, target: Path) -> None:
    """Raises IGTVError where a label does not have the size of the image that it would belong to."""
    partial = target.with_name(f".{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "labelsTr").mkdir(parents=True)
    (partial / "imagesTr").mkdir()
    shutil.copy(source / "dataset.json", partial)
    for image in sorted((source / "imagesTr").iterdir()):
        os.link(image, partial / "imagesTr" / image.name)
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (source / "labelsTr").glob("*.nii.gz"))
    for case, other in derangement(cases).items():
        own, foreign = (read_mask(source / "labelsTr" / f"{c}.nii.gz") for c in (case, other))
        if own.GetSize() != foreign.GetSize():
            raise IGTVError(
                f"its image has {own.GetSize()} voxels, and the label of {other} {foreign.GetSize()}",
                case=case,
                remedy="shuffle labels of images of one size only, or leave out this pretraining",
            )
        foreign.CopyInformation(own)
        sitk.WriteImage(foreign, str(partial / "labelsTr" / f"{case}.nii.gz"))
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    a = parser.parse_args()
    shuffle_labels(a.source, a.target)
