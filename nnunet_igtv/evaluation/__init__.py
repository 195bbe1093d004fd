"""Scores of predictions: per case, per slice position, and a report with pictures.

evaluate(truth_dir, {name: prediction_dir}, images_dir, output_dir) -> Results
"""

from nnunet_igtv.evaluation.metrics import score
from nnunet_igtv.evaluation.results import Results
from nnunet_igtv.evaluation.scoring import evaluate

__all__ = ["Results", "evaluate", "score"]
