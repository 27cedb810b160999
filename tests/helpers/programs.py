"""Programs of the library, run in forks of one process that has imported it.

A test starts a `Programs` and calls it with a module and its arguments; each call is a
process of its own and costs no import. Run as a script, this file is that process.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

import workers
from checkout import ROOT


class Done(NamedTuple):
    """What a program printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line of stderr, which must be the only error."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in self.err and len(lines) == 1, self
        assert self.err.splitlines()[-1] == lines[0], self
        return lines[0].removeprefix("error: ")


class Programs:
    """A process that runs programs for as long as the context is open."""

    def __enter__(self) -> "Programs":
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=workers.environment(1),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def __call__(self, program: str | Path, *args: str | Path, **env: str) -> Done:
        """Runs a module, or a file, with these arguments and environment variables."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        request = {"program": str(program), "args": [*map(str, args)], "env": env}
        print(json.dumps(request), file=stdin, flush=True)
        return Done(**json.loads(stdout.readline()))


def _run(program: str, args: list[str], env: dict[str, str]) -> None:
    """Runs the program as Python does, in this process, and ends it."""
    status = 0
    signal.alarm(300)  # a program that hangs ends, and so does its test
    os.environ.update(env)
    sys.argv = [program, *args]
    sys.modules.pop(program, None)
    try:
        if program.endswith(".py"):
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _serve() -> None:
    import ar_jax.model  # noqa: F401
    import experiments.compare  # noqa: F401
    import lm_jax.app  # noqa: F401
    import mdlm_jax.model  # noqa: F401

    for line in sys.stdin:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                for number, file in enumerate((out, err), 1):
                    os.dup2(file.fileno(), number)
                _run(**json.loads(line))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        answer = Done(status, *texts)
        print(json.dumps(answer._asdict()), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    _serve()
