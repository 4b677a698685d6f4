"""What SCROLLPAST_NOTIFY names in the tests: keeps what it is told, a line of JSON each."""

from __future__ import annotations

import json
import os
from typing import Any


def tell(event: dict[str, Any]) -> None:
    with open(os.environ["NOTIFIED"], "a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")
