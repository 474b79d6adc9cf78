"""What a command's exit code says to a script."""

from __future__ import annotations

ALL_DONE, SOME_FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
