"""Commands in processes that have torch already: they start in a tenth of a second, where a new Python takes four."""

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
# What a training process imports, but for hmrb itself, which reads its environment when it is imported.
CONTEXT.set_forkserver_preload(
    ["torch.distributed.launcher.api", "torch.utils.tensorboard", "timm", "smplx", "cv2", "h5py", "jinja2", "typer"]
)


def start_server() -> None:
    """Starts the server that processes are forked from. A test file calls it, so that no other code has done so.

    In a process of the server, which reads the test file again, this does nothing.
    """
    if not getattr(multiprocessing.current_process(), "_inheriting", False):
        multiprocessing.forkserver.ensure_running()


def fork_training_processes() -> None:
    """Training processes that this process launches are forked, which spares each of them the import of torch.

    Without it they are spawned, as users' are.
    """
    import torch.distributed.launcher.api as launcher

    spawning = launcher.LaunchConfig
    launcher.LaunchConfig = lambda **options: spawning(**options | {"start_method": "fork"})


class Forked:
    """`python SCRIPT WORDS...` as a subprocess.Popen has it, forked from a server that has imported torch."""

    def __init__(self, script: Path, words: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> None:
        self.args = [str(script), *words]
        self._files = [tempfile.NamedTemporaryFile("w+", delete=False) for _ in range(2)]  # noqa: SIM115
        paths = [file.name for file in self._files]
        self._process = CONTEXT.Process(target=_run, args=(self.args, dict(env), str(cwd or Path.cwd()), paths))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        said = []
        for file in self._files:
            with file:
                said.append(Path(file.name).read_text(encoding="utf-8"))
            Path(file.name).unlink()
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(words: list[str], env: dict[str, str], cwd: str, paths: list[str]) -> None:
    for descriptor, path in enumerate(paths, 1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent))
    multiprocessing.current_process()._config["daemon"] = False  # it may start processes of its own
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
