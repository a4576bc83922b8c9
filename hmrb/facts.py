"""What `hmrb doctor` finds out about a machine and a store: facts, each of which is fine, missing or broken."""

import importlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hmrb import system
from hmrb.data.checksums import is_verified
from hmrb.data.shard import Shard
from hmrb.errors import Need, RequestError, RunError
from hmrb.formats.files import files_in, short_sha
from hmrb.missing import GENDERED, body_needs, has_body
from hmrb.models.hub import silence
from hmrb.models.zoo import ZOO
from hmrb.names import IMAGENET
from hmrb.needs import (
    MEAN_PARAMS,
    REGRESSOR_FILES,
    SPIN19,
    SUFFIXES,
    body_need,
    file_need,
    hub_address,
    is_cached,
    pascal_need,
)
from hmrb.objects import size_bytes
from hmrb.store import Store

if TYPE_CHECKING:
    from hmrb.body import SMPL

State = Literal["ok", "missing", "broken"]
GIB = 2**30
FEW_FILES = 1024  # of a process: a training run with many workers and shards opens more
LITTLE_SHM = 1 << 30  # bytes; batches go through it from the loading processes
LITTLE_DISK = 5 * GIB
EXTRAS = {
    "convert": (("scipy", "cdflib"), "MATLAB and CDF files of datasets"),
    "remote": (("fsspec",), "a store at a URL"),
    "slurm": (("submitit",), "--slurm"),
    "export": (("onnx", "onnxscript", "onnxruntime"), "hmrb export to ONNX"),
    "video": (("av",), "hmrb predict on videos"),
    "parquet": (("pyarrow",), "hmrb predict: lists and results in Parquet"),
    "plot": (("matplotlib",), "hmrb plot"),
    "wandb": (("wandb",), "hmrb train --track wandb"),
    "mlflow": (("mlflow-skinny",), "hmrb train --track mlflow"),
}
UNTRIED = ("onnxscript", "wandb", "mlflow-skinny")  # seconds to import, and nothing compiled in them
GIVES = {
    REGRESSOR_FILES[0]: "joints of Human3.6M: most benchmarks",
    REGRESSOR_FILES[1]: "9 of the 54 keypoints that training compares",
    SPIN19: "benchmarks whose joints are j19",
    MEAN_PARAMS: "model.mean: file, the start of the study's regressor",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: a name, what was found, whether it works, and the next step if it does not."""

    group: str
    name: str
    found: str
    state: State = "ok"
    step: str = ""


def all_facts(store: Store, folder: Path, *, is_online: bool) -> list[Fact]:
    """Every fact. `folder` is where runs are written; the network is asked if `is_online`."""
    software = list(_software())
    has_torch = all(fact.state != "broken" for fact in software if fact.name == "torch")
    bodies = body_facts(store) if has_torch else ()
    machine = (
        *_machine(store, folder),
        *(_speed(store) if has_torch else ()),
        *_network(is_online),
        *_slurm(),
        *_extras(),
    )
    return [*software, *machine, *bodies, *shard_facts(store), *weight_facts(store)]


def _software() -> Iterator[Fact]:
    yield Fact("software", "python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    yield Fact("software", "hmrb", metadata.version("hmrb"))
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Fact("software", "torch", str(error), "broken", "pip install --force-reinstall torch")
        return
    yield Fact("software", "torch", str(torch.__version__))
    yield from _gpus()


def _gpus() -> Iterator[Fact]:
    import torch

    made_for, is_there = torch.version.cuda, any(Path("/dev").glob("nvidia[0-9]*"))
    if not torch.cuda.is_available():
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        if is_there and made_for and hidden is None:
            step = "nvidia-smi: the driver is older than torch's CUDA, or does not run"
            yield Fact("software", "CUDA", f"torch is for CUDA {made_for}, but sees no GPU", "broken", step)
        else:
            why = f"CUDA_VISIBLE_DEVICES={hidden}" if is_there and hidden is not None else "no GPU"
            yield Fact("software", "CUDA", f"{why}; training uses the CPU: --cpu-procs N", "missing")
        return
    yield Fact("software", "CUDA", str(made_for))
    for index in range(torch.cuda.device_count()):
        try:
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            yield Fact("software", f"GPU {index}", f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
        except RuntimeError as error:
            yield Fact("software", f"GPU {index}", str(error).splitlines()[0], "broken", "nvidia-smi")


def _machine(store: Store, folder: Path) -> Iterator[Fact]:
    cores, all_cores = system.cores(), os.cpu_count() or 1
    yield Fact("machine", "cores", str(cores) if cores == all_cores else f"{cores} of {all_cores}")
    memory = system.memory_bytes()
    yield Fact("machine", "memory", f"{memory / GIB:.1f} GiB" if memory else "unknown")
    yield Fact("machine", "processor", ", ".join((system.processor(), *system.instruction_sets())))
    if (shared := system.SHARED_MEMORY).exists():
        yield _space(str(shared), shared, LITTLE_SHM, "--set data.workers=0, or docker run --shm-size=8g")
    yield _space("runs", folder, LITTLE_DISK, "free space, or --out on another disk")
    yield _space("store", store.root, LITTLE_DISK, "free space, or set HMRB_HOME to another disk")
    if (limits := system.open_files()) is None:
        return
    soft, hard = limits
    state: State = "missing" if soft < FEW_FILES else "ok"
    yield Fact("machine", "open files", f"{soft}, at most {hard}", state, f"ulimit -n {hard}" if state != "ok" else "")


def _speed(store: Store) -> Iterator[Fact]:
    """Whether this machine was measured."""
    from hmrb.models.machine_speed import remembered

    if (found := remembered(store)) is None:
        yield Fact("machine", "speed", "not measured", "missing", "hmrb doctor --speed")
        return
    told = "; ".join(f"{name} {ratio.median:.2f}" for name, ratio in found.ratios.items())
    yield Fact("machine", "speed", f"times as long, measured {found.date}: {told}")


def _space(name: str, folder: Path, least: int, step: str) -> Fact:
    """Free space of the disk that a folder is on, or will be."""
    there = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()), Path("/"))
    free = shutil.disk_usage(there).free
    text = f"{folder}: {free / GIB:.1f} GiB free"
    if not os.access(there, os.W_OK):
        return Fact("machine", name, f"{text}, not writable", "missing", step.split(", or ")[-1])
    return Fact("machine", name, text, "missing" if free < least else "ok", step if free < least else "")


def _network(is_online: bool) -> Iterator[Fact]:
    if not is_online:
        yield Fact("network", "hub", "not asked (--offline)")
    elif why := silence(hub_address()):
        yield Fact("network", "hub", why, "missing", "put weights into the store by hand; see the weights below")
    else:
        yield Fact("network", "hub", f"{hub_address()} answers")


def _slurm() -> Iterator[Fact]:
    if shutil.which("sbatch") is None:
        yield Fact("slurm", "sbatch", "not on this machine; --slurm cannot be used", "missing")
        return
    try:
        said = subprocess.run(["sinfo", "--version"], capture_output=True, text=True, timeout=3, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        yield Fact("slurm", "sbatch", f"sinfo does not work: {error}", "broken", "sinfo")
    else:
        yield Fact("slurm", "sbatch", said.strip())


def _extras() -> Iterator[Fact]:
    for extra, (packages, use) in EXTRAS.items():
        here, absent, broken = [], [], []
        for package in packages:
            try:
                here.append(f"{package} {metadata.version(package)}")
                if package not in UNTRIED:
                    importlib.import_module(package)
            except (metadata.PackageNotFoundError, ModuleNotFoundError):
                absent.append(package)
            except (ImportError, OSError) as error:
                broken.append(f"{package}: {error}")
        step, state = f"pip install 'hmrb[{extra}]'", _state(broken, absent)
        found = "; ".join(broken) or (f"without {', '.join(absent)}" if absent else ", ".join(here))
        yield Fact("extras", extra, f"{found} ({use})", state, "" if state == "ok" else step)


def _state(broken: list[str], absent: list[str]) -> State:
    return "broken" if broken else "missing" if absent else "ok"


def body_facts(store: Store) -> Iterator[Fact]:
    """The bodies, their regressors and what each is for; every body that is here is loaded."""
    from hmrb.body import load_body

    yield _loaded("open", partial(load_body, "open"), "in the package")
    folder = store.bodies / "smpl"
    has_regressors = not [need for need in body_needs("smpl", (), store) if need.what in REGRESSOR_FILES]
    for gender in GENDERED:
        use = "training, most benchmarks" if gender == "neutral" else "benchmarks with gendered truth"
        if not has_body(gender, store):
            yield _absent("bodies", body_need(gender), f"for {use}")
        elif not has_regressors:
            yield Fact("bodies", f"SMPL {gender}", f"here, but its regressors are not ({use})", "missing")
        else:
            yield _loaded(f"SMPL {gender}", partial(load_body, "smpl", gender, store), use)
    for name in (*REGRESSOR_FILES, SPIN19, MEAN_PARAMS):
        yield _file("bodies", folder / name, file_need(folder / name), GIVES[name])
    yield from _expressive_facts(store)
    yield _file("bodies", store.pascal, pascal_need(), "occluders: pascal")


def _expressive_facts(store: Store) -> Iterator[Fact]:
    """SMPL-X and its way to SMPL; loaded if all of it is here."""
    from hmrb.body import load_body

    use = "body: smplx; optional"
    if needs := body_needs("smplx", (), store):
        for need in needs:
            if need.what not in REGRESSOR_FILES:
                yield _absent("bodies", need, f"for {use}")
    else:
        yield _loaded("SMPL-X neutral", partial(load_body, "smplx", "neutral", store), use)


def _loaded(name: str, load: "Callable[[], SMPL]", use: str) -> Fact:
    try:
        return Fact("bodies", name, f"{load().sha} ({use})")
    except RequestError as error:
        return Fact(
            "bodies",
            name,
            str(error),
            "broken",
            "hmrb convert-data body --file FILE" if name.startswith("SMPL ") else "",
        )


def _file(group: str, path: Path, need: Need, use: str) -> Fact:
    if not path.exists():
        return _absent(group, need, f"for {use}")
    try:
        return Fact(group, need.what, f"{short_sha(path)} ({use})")
    except RunError as error:
        return Fact(group, need.what, str(error), "broken", need.command)


def _absent(group: str, need: Need, use: str) -> Fact:
    return Fact(group, need.what, f"not here, {use}", "missing", f"{need.command} {need.page}".strip())


def shard_facts(store: Store) -> Iterator[Fact]:
    """The shards of a store, their headers read; `hmrb verify` compares a shard with its hash."""
    folder = store.root / "shards"
    try:
        paths = [path for path in files_in(folder, "[!.]*.h5") if ".pictures-" not in path.name]
    except RequestError as error:
        yield Fact("shards", "shards", str(error), "broken")
        return
    if not paths:
        step = "hmrb convert-data synthetic"
        yield Fact("shards", "none", f"{folder} has no shard", "missing", step)
    for path in paths:
        try:
            shard = Shard(path)
            verified = is_verified(shard, store)
        except (RequestError, OSError) as error:
            yield Fact("shards", path.stem, str(error), "broken", f"hmrb verify {path.stem}")
            continue
        info, size = shard.info, size_bytes(path) / 1e6
        found = f"{info.num_people:,} people, {info.num_images:,} pictures, {size:,.0f} MB, sha {info.sha}"
        step = "" if verified else f"hmrb verify {path.stem}"
        yield Fact("shards", path.stem, f"{found}, {'verified' if verified else 'not yet verified'}", step=step)


def weight_facts(store: Store) -> Iterator[Fact]:
    """Weights in the store and in the hub's cache, published models."""
    try:
        files = files_in(store.weights, *(f"*{suffix}" for suffix in SUFFIXES))
    except RequestError as error:
        files = []
        yield Fact("weights", "weights", str(error), "broken")
    for path in files:
        try:
            yield Fact("weights", path.name, f"{path.stat().st_size / 1e6:.0f} MB, {short_sha(path)}")
        except (RunError, OSError) as error:
            yield Fact("weights", path.name, str(error), "broken", "download it again")
    for backbone, name in IMAGENET.items():
        if is_cached(name):
            yield Fact("weights", backbone, f"{name}, in the hub's cache")
    here = [row.name for row in ZOO.values() if any((store.models / name).is_file() for name in row.names)]
    if here:
        yield Fact("weights", "published models", ", ".join(here))
    if not files and not any(map(is_cached, IMAGENET.values())):
        step = f"put NAME.safetensors in {store.weights}, or let hmrb download it on first use"
        yield Fact("weights", "none", "no backbone's weights are here", "missing", step)
