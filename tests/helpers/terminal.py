"""A pseudo-terminal: what a program shows somebody who watches it."""

import os
import pty
import subprocess
import sys
import termios

import workers
from checkout import ROOT

COLUMNS = 80


def shown_by(code: str) -> str:
    """What Python code writes to a terminal on its standard error."""
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, COLUMNS))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=writer,
        cwd=ROOT,
        env=workers.environment(1) | {"COLUMNS": str(COLUMNS)},
    ) as process:
        os.close(writer)
        shown = b""
        while True:
            try:
                part = os.read(reader, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(reader)
    assert process.returncode == 0, shown
    return shown.decode()
