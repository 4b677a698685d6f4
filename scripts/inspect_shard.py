#!/usr/bin/env python3
"""Print the records of a shard, or of a published day, as readable tables, and verify every byte.

Exit code: 0 all bytes verified, 1 a corrupt shard, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="inspect_shard", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument(
        "path", metavar="FILE|DAY_FOLDER", help="a .tfrecord file, a day's folder or its manifest"
    )
    parser.add_argument(
        "--limit", type=whole_number(0), default=3, metavar="N", help="records to print (default: 3)"
    )
    parser.add_argument(
        "--feature", action="append", default=[], metavar="NAME", help="print only this feature; repeatable"
    )
    parser.add_argument(
        "--most",
        type=whole_number(0),
        default=8,
        metavar="N",
        help="positives and negatives to print of each record (8)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return run_job(parser, inspect)


def inspect(arguments: argparse.Namespace) -> int:
    from scrollpast.shards.display import readable_records, record_text, summary_text
    from scrollpast.shards.inspection import open_inspection

    inspection = open_inspection(arguments.path, arguments.feature)
    kinds = inspection.manifest.kinds if inspection.manifest else {}
    num_shards = num_records = num_bytes = 0
    for shard in inspection.shards():
        num_shards += 1
        num_bytes += shard.num_bytes
        for batch in shard.batches():
            wanted = batch.slice(0, max(0, arguments.limit - num_records))
            for index, record in enumerate(readable_records(wanted, kinds, arguments.feature)):
                text = record_text(num_records + index, record, arguments.most)
                print(json.dumps(record) if arguments.json else text)
            num_records += batch.num_rows
    summary = summary_text(num_shards, num_records, num_bytes, inspection.manifest)
    # With --json standard output holds records only, and the summary is printed on standard error.
    print(summary, file=sys.stderr if arguments.json else sys.stdout, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
