"""Serve the HTTP API on ``sample/``, beside a small shop whose pictures it may fetch."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from run_catalogue import ADDRESS, CATALOGUE, INTERRUPTED, PORT, SHEET, serving, wait


def main(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C; return the exit code of ``pixmill serve``."""
    folder, flags = _taken(arguments)
    folder.mkdir(parents=True, exist_ok=True)
    with serving(CATALOGUE) as shop:
        shop_address = f"{ADDRESS}:{shop.server_port}"
        text = SHEET.read_text(encoding="utf-8").replace(f"{ADDRESS}:{PORT}", shop_address)
        (folder / SHEET.name).write_text(text, encoding="utf-8")
        print(f"{folder / SHEET.name} names the pictures of a shop on {shop_address}.", flush=True)
        own = {
            "PIXMILL_DATA_DIR": str(folder / "pixmill-data"),
            "PIXMILL_ALLOWED_ADDRESSES": shop_address,
        }
        command = [sys.executable, "-m", "pixmill", "serve", *flags]
        return wait(subprocess.Popen(command, env=os.environ | own))


def _taken(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="All other flags go to `pixmill serve`, such as --port 9000.",
        allow_abbrev=False,
    )
    parser.add_argument("--folder", type=Path, default=Path("sample"), help="default: sample")
    taken, flags = parser.parse_known_args(arguments)
    return taken.folder, flags


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
