"""Add each user's nearest ads, by exported towers, to published days as negatives of a separate kind."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job

if TYPE_CHECKING:
    from scrollpast.mining.neighbours.retriever import Retriever


def main() -> int:
    parser = argparse.ArgumentParser(prog="mine_neighbours.py", description=__doc__)
    option = parser.add_argument
    option("days", nargs="+", metavar="DAY", help="folder ds=… of a published day, or its manifest")
    option("--towers", required=True, metavar="DIR", help="folder that export_towers.py wrote")
    option("--out", required=True, metavar="PATH", help="folder of the days with neighbours")
    option("--engaged-in", nargs="+", default=[], metavar="DAY", help="more days; engaged ads are excluded")
    option("--sample", type=whole_number(1), metavar="N", help="search for N users, chosen by a hash")
    option("--config", metavar="FILE", help="YAML file, such as conf/local.yaml")
    option("--set", action="append", default=[], metavar="OPTION=VALUE", help="set an option")
    option("--overwrite", action="store_true", help="replace days published in PATH")
    return run_job(parser, _mine, publishes=True)


def _mine(arguments: argparse.Namespace) -> int:
    from scrollpast.mining.neighbours import cli
    from scrollpast.training.serving.export_files import read_export

    # Runs on the workers: the only function of a Spark task that uses the tower (PyTorch) and the index (FAISS).
    def open_retriever(export_uri: str) -> Retriever:
        import numpy as np

        from scrollpast.ann_index.index import AdIndex, search_in
        from scrollpast.mining.neighbours.retriever import Retriever
        from scrollpast.training.serving.export_files import INDEX_NAME, read_ad_embeddings, read_export
        from scrollpast.training.serving.user_tower import UserTower

        embeddings, tower = read_ad_embeddings(export_uri), UserTower.load(export_uri)
        index = AdIndex.load(f"{export_uri.rstrip('/')}/{INDEX_NAME}")
        return Retriever(
            fingerprint=read_export(export_uri).fingerprint,
            user_features=tower.user_features,
            embed=lambda *known: tower(*known).numpy(),
            search=search_in(index, embeddings),
            ad_ids=tower.ad_ids(np.arange(len(embeddings))),
            ad_RD=embeddings,
            num_lists=index.num_lists,
            reads_passed=tower.max_passed > 0,
        )

    return cli.mine(arguments, read_export, open_retriever)


if __name__ == "__main__":
    sys.exit(main())
