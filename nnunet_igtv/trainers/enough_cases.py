"""Whether a dataset has enough cases for the folds that nnU-Net makes."""

from pathlib import Path

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_igtv.errors import IGTVError

FOLDS = 5  # of nnU-Net's own split
SPLITS = "splits_final.json"


def require_enough_cases(dataset: str, preprocessed: str, fold: int | str) -> None:
    """Raises IGTVError where nnU-Net would have to make five folds of fewer cases.

    Args:
        dataset: folder of the preprocessed dataset, where `splits_final.json` is looked for.
        preprocessed: the folder in it with the cases of the configuration.
        fold: a number, or "all", which needs no folds.
    """
    if fold == "all" or (Path(dataset) / SPLITS).is_file():
        return
    cases = len(infer_dataset_class(preprocessed).get_identifiers(preprocessed))
    if cases < FOLDS:
        raise IGTVError(
            f"fold {fold} is one of five folds, which need five cases or more; this dataset has {cases}",
            file=dataset,
            remedy=f'train fold "all", on all cases; or convert more cases; or write your own {SPLITS} '
            "into this folder",
        )
