"""Configuration: defaults, overridden by a YAML file, overridden by ``--set section.option=value``."""

from scrollpast.config.base_model import Section
from scrollpast.config.comparison_options import ComparisonOptions, OwnArm
from scrollpast.config.gate_options import FIGURES, Bounds, GateOptions
from scrollpast.config.loading import load_config
from scrollpast.config.metrics_options import RunMetrics
from scrollpast.config.neighbour_options import Neighbours
from scrollpast.config.options import (
    DEFAULT_KINDS,
    NEIGHBOUR_CODE,
    SERVED_CODE,
    Confidence,
    Config,
    ExaminationOptions,
    ExaminedOptions,
    ExposureOptions,
    Guard,
    Impressions,
    Input,
    InputTable,
    Kind,
    Log,
    Mining,
    Output,
    Revocation,
    Spark,
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
    "ComparisonOptions",
    "Confidence",
    "Config",
    "ExaminationOptions",
    "ExaminedOptions",
    "ExposureOptions",
    "GateOptions",
    "Guard",
    "Impressions",
    "Input",
    "InputTable",
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
    "Thresholds",
    "Training",
    "load_config",
]
