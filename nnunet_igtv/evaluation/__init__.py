"""Scores of predictions: per case, per slice position, and a report with pictures.

evaluate(truth_dir, {name: prediction_dir}, images_dir, output_dir) -> Results
"""

from nnunet_igtv.evaluation.evaluate import evaluate
from nnunet_igtv.evaluation.metrics import score
from nnunet_igtv.evaluation.results import Results

__all__ = ["Results", "evaluate", "score"]
