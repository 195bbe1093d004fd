"""Source `lucid`: the PET/CT studies of LUCID (Lung-cancer Unified Cross-modal Imaging Dataset, arXiv
2509.22841).

The cohort is private; its layout is not published. DICOM studies are found by their headers, whatever the
folders, so `lucid` is `dicom-rt` with the structure IGTV; the same cohort as NIfTI triples is read like any
other.
"""

import argparse

from nnunet_igtv.dataset_conversion import dicom_rt
from nnunet_igtv.dataset_conversion.raw_dataset import Item
from nnunet_igtv.errors import IGTVError

HELP = "LUCID PET/CT studies with an IGTV structure (DICOM)"
VALUES = dicom_rt.VALUES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    dicom_rt.add_arguments(parser, structure="IGTV", label="IGTV")


options_of = dicom_rt.options_of


def collect(args: argparse.Namespace) -> tuple[list[Item], list[IGTVError]]:
    """The studies under the input folder, and the unreadable files that belong to none."""
    return dicom_rt.collect(args)
