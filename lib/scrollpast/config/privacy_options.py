"""The options of privacy: what of a user leaves the jobs."""

from __future__ import annotations

from pydantic import Field

from scrollpast.config.base_model import Section


class Privacy(Section):
    """Keyed user ids, retention and the smallest groups of a report."""

    user_key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable (of the driver) that holds a secret of at least 32 bytes: user ids leave mining
    as HMAC-SHA256 under it, cut to 63 bits. null = as they are. Neither the secret nor an id of the log is written."""
    keep_days: int | None = Field(None, ge=0)
    """Days that a published day is kept after it is over; jobs/sweep_days.py removes older ones. null = the job refuses
    to run."""
    report_floor: int = Field(10, ge=1)
    """Smallest number of users, or ads, behind a figure of a report; smaller groups are joined or left out. 1 = every
    figure is shown."""
