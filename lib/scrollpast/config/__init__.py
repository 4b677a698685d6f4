"""The configuration: a YAML file names what differs from the defaults, ``--set section.option=value`` goes on top."""

from scrollpast.config.comparison_options import Comparison, OwnArm
from scrollpast.config.loading import load_config
from scrollpast.config.options import (
    DEFAULT_KINDS,
    NEIGHBOUR_CODE,
    SERVED_CODE,
    Confidence,
    Config,
    Examined,
    Guard,
    Input,
    Kind,
    Mining,
    Output,
    Spark,
    Table,
    Thresholds,
)
from scrollpast.config.section import Section
from scrollpast.config.training_options import Training

__all__ = [
    "DEFAULT_KINDS",
    "NEIGHBOUR_CODE",
    "SERVED_CODE",
    "Comparison",
    "Confidence",
    "Config",
    "Examined",
    "Guard",
    "Input",
    "Kind",
    "Mining",
    "Output",
    "OwnArm",
    "Section",
    "Spark",
    "Table",
    "Thresholds",
    "Training",
    "load_config",
]
