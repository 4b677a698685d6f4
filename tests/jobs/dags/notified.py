"""Target of SCROLLPAST_NOTIFY in the tests: appends each event to a file as a line of JSON."""

from __future__ import annotations

import json
import os
from typing import Any


def tell(event: dict[str, Any]) -> None:
    with open(os.environ["NOTIFIED"], "a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")
