"""The configuration: a YAML file names what differs from the defaults, ``--set section.option=value`` goes on top."""

from scrollpast.config.base_model import Section
from scrollpast.config.comparison_options import Comparison, OwnArm
from scrollpast.config.gate_options import FIGURES, Bounds, Gate
from scrollpast.config.loading import load_config
from scrollpast.config.metrics_options import RunMetrics
from scrollpast.config.neighbour_options import Neighbours
from scrollpast.config.options import (
    DEFAULT_KINDS,
    NEIGHBOUR_CODE,
    SERVED_CODE,
    Confidence,
    Config,
    Examination,
    Examined,
    Exposure,
    Guard,
    Impressions,
    Input,
    Kind,
    Log,
    Mining,
    Output,
    Revocation,
    Spark,
    Table,
    Thresholds,
)
from scrollpast.config.privacy_options import Privacy
from scrollpast.config.training_options import Training

__all__ = [
    "DEFAULT_KINDS",
    "FIGURES",
    "NEIGHBOUR_CODE",
    "SERVED_CODE",
    "Bounds",
    "Comparison",
    "Confidence",
    "Config",
    "Examination",
    "Examined",
    "Exposure",
    "Gate",
    "Guard",
    "Impressions",
    "Input",
    "Kind",
    "Log",
    "Mining",
    "Neighbours",
    "Output",
    "OwnArm",
    "Privacy",
    "Revocation",
    "RunMetrics",
    "Section",
    "Spark",
    "Table",
    "Thresholds",
    "Training",
    "load_config",
]
