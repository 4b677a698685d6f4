"""Export the towers of a checkpoint: ad embeddings, their FAISS index, and the user tower."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from scrollpast.ann_index.kinds import EXPORTED_KIND, EXPORTED_SEED, KINDS
from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job

if TYPE_CHECKING:
    from scrollpast.ann_index.index import AdIndex


def main() -> int:
    parser = argparse.ArgumentParser(prog="export_towers.py", description=__doc__)
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="folder checkpoints/step=…, or a run's (best checkpoint)"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the export")
    parser.add_argument("--vocabulary", metavar="URI", help="new place of the checkpoint's vocabulary")
    parser.add_argument(
        "--metric", default="recall@100", metavar="NAME", help="metric that selects a run's best checkpoint"
    )
    parser.add_argument("--index", choices=KINDS, default=EXPORTED_KIND, help="kind of the FAISS index")
    parser.add_argument(
        "--seed", type=whole_number(0), default=EXPORTED_SEED, metavar="N", help="seed of the clusters"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the export in DIR")
    return run_job(parser, _export)


def _export(arguments: argparse.Namespace) -> int:
    from scrollpast.ann_index.index import AdIndex
    from scrollpast.training.export.cli import export_checkpoint

    def build_index(ad_RD: Any) -> AdIndex:  # noqa: N803 (rows and dimensions)
        return AdIndex.build(ad_RD, arguments.index, seed=arguments.seed)

    return export_checkpoint(arguments, build_index)


if __name__ == "__main__":
    sys.exit(main())
