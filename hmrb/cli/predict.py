"""hmrb predict: photos in, bodies out."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmrb.cli.launch import PANEL, CpuProcs, Processes
from hmrb.cli.slurm import Follow, Partition, Sbatch, Slurm, Time

if TYPE_CHECKING:
    from hmrb.parallel.world import World
    from hmrb.predict.account import Account
    from hmrb.predict.engine import Finder
    from hmrb.predict.inputs import Inputs
    from hmrb.predict.network import Network
    from hmrb.predict.plan import Plan
    from hmrb.predict.request import PredictRequest
    from hmrb.predict.wanted import Wanted
    from hmrb.store import Store


@dataclass(frozen=True)
class Predicting:
    """A prediction job: a checkpoint, pictures, a folder. Its single process computes on `device`, many on their own.

    `threads` are those of a single process; `places` say where the pictures are.
    """

    checkpoint: Path
    inputs: "Inputs"
    out: Path
    wanted: "Wanted"
    store: "Store"
    detector: str | None
    to_find: bool
    device: str
    precision: str
    batch: int
    threads: int
    is_quiet: bool
    places: dict[str, Any]

    @property
    def name(self) -> str:
        """The job's name in Slurm's queue."""
        return f"predict-{self.out.absolute().name}"

    @property
    def folder(self) -> None:
        """None: the command is run again after a failure, and goes on."""
        return None

    @cached_property
    def network(self) -> "Network":
        """The network of a single process, and of the process that prepares."""
        from hmrb.predict.network import load_network

        return load_network(self.checkpoint, self.device, self.precision, self.store)

    @cached_property
    def finder(self) -> "Finder | None":
        """The detector, if people have to be found."""
        from hmrb.predict.request import finder_named

        return finder_named(self.detector) if self.to_find else None

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def plan(self) -> "Plan":
        """What the results depend on."""
        from hmrb.detect import DEFAULT_DETECTOR
        from hmrb.predict.plan import read_plan
        from hmrb.predict.request import plan_of

        finder = f"detector {self.detector or DEFAULT_DETECTOR}"
        people_from = f"given, else {finder if self.to_find else 'the whole picture'}"
        return plan_of(self.inputs, self.network, self.wanted, people_from, self.places, read_plan(self.out))

    def prepare(self) -> None:
        """Checks every file and option, and writes the plan. Raises RequestError."""
        from hmrb.predict.request import prepare_folder

        _ = self.finder
        prepare_folder(self.out, self.plan())

    def run(self, world: "World") -> None:
        """Predicts. Raises RunError if pictures could not be read, after all others are done."""
        import torch

        from hmrb.data.convert.conversion import ProgressReporter
        from hmrb.predict.network import load_network
        from hmrb.predict.request import PredictRequest, predict_into

        if world.size > 1:
            network = load_network(self.checkpoint, str(world.device), self.precision, self.store)
        else:
            network = self.network
            torch.set_num_threads(self.threads)
        request = PredictRequest(self.inputs, network, self.wanted, self.finder, self.batch)
        account = (
            self._with_bar(request, world)
            if world.is_main and not self.is_quiet
            else (predict_into(self.out, request, world, ProgressReporter()))
        )
        if account is not None:
            typer.echo(account.json() if self.is_quiet else "\n".join(account.lines()))
        world.from_first(account.check if account is not None else bool)  # all processes end alike

    def _with_bar(self, request: "PredictRequest", world: "World") -> "Account | None":
        from hmrb.cli.progress import progress_bar
        from hmrb.predict.request import predict_into

        with progress_bar("pictures") as (_, bar):
            for line in (*self.inputs.notes, *request.said()):
                bar.say(line)
            return predict_into(self.out, request, world, bar)


def predict(
    checkpoint: Annotated[
        Path, typer.Argument(help="A run, a checkpoint, or a file that import-checkpoint reads.", show_default=False)
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Photos, folders, globs, lists (path,x,y,w,h: .csv, .parquet), detections (.json), shards, .tar, mp4.",
            metavar="INPUT...",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.", show_default=False)],
    box: Annotated[
        list[str],
        typer.Option("--box", help="A person's box x,y,w,h in px, of one photo; repeatable.", show_default=False),
    ] = [],  # noqa: B006
    detect: Annotated[bool, typer.Option("--detect", help="Find the people, even where boxes are given.")] = False,
    detector: Annotated[str | None, typer.Option(help="The detector that finds them.", show_default=False)] = None,
    whole: Annotated[bool, typer.Option("--whole", help="One person per picture, who fills it.")] = False,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the pictures of a list.  [default: the list's own]", show_default=False),
    ] = None,
    focal: Annotated[float | None, typer.Option(help="Focal length in px.", show_default=False)] = None,
    fov: Annotated[
        float | None, typer.Option(help="Angle of view across the width in degrees.", show_default=False)
    ] = None,
    overlay: Annotated[
        bool | None,
        typer.Option("--overlay/--no-overlay", help="Draw bodies.  [default: only for photos]", show_default=False),
    ] = None,
    mesh: Annotated[
        str | None,
        typer.Option(help="obj, glb, both or none.  [default: obj,glb for photos]", show_default=False),
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1; auto: a GPU if there is one.", rich_help_panel=PANEL)
    ] = "auto",
    gpus: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="GPUs per machine, one process each; 0: use the CPU.",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None,
    cpu_procs: CpuProcs = 1,
    precision: Annotated[str, typer.Option(help="Precision of the network: fp32, bf16 or fp16.")] = "fp32",
    batch: Annotated[int, typer.Option(min=1, help="Number of people predicted together.")] = 64,
    format_: Annotated[
        str,
        typer.Option("--format", help="Everybody's file: npz, json; h5 or parquet for millions, without other files."),
    ] = "npz",
    json_: Annotated[bool, typer.Option("--json", help="Print only an account of the results, as JSON.")] = False,
    slurm: Slurm = False,
    partition: Partition = None,
    time: Time = "1-00:00:00",
    sbatch: Sbatch = [],  # noqa: B006
    follow: Follow = False,
) -> None:
    """Predict the people of photos: parameters, overlays, meshes. Run again, it goes on. See docs/predict.md."""
    from hmrb.cli.benches import is_model
    from hmrb.detect import check_detector
    from hmrb.errors import RequestError
    from hmrb.models.zoo import near
    from hmrb.predict.cameras import AskedCamera
    from hmrb.predict.inputs import read_inputs, with_boxes
    from hmrb.predict.wanted import Wanted, check_folder
    from hmrb.store import Store

    if not checkpoint.exists() and not is_model(str(checkpoint)):
        raise RequestError(
            f"{checkpoint}: no such checkpoint or run, nor a model's name.{near(str(checkpoint))}"
            " hmrb list-models lists the names"
        )
    if sum((bool(box), detect, whole)) > 1:
        raise RequestError("--box, --detect and --whole are three ways to say where the people are; give one")
    check_detector(detector)
    check_folder(out)
    asked, store = AskedCamera(focal, fov), Store.default()
    found = read_inputs(inputs, store, images, out).taken_with(asked)
    wanted = Wanted.of(overlay, mesh, found.is_data, format_)
    wanted = replace(
        wanted, video=found.has_video and overlay is not False, of_data=Wanted.of(overlay, mesh, True, format_)
    )
    if box:
        found = with_boxes(found, box)
    if detect or whole:
        found = found.without_boxes()

    import torch

    from hmrb.cli.launch import launch

    processes, own = _processes(device, gpus, cpu_procs, slurm)
    places = {"inputs": [_place(word) for word in inputs], "images": str(images.absolute()) if images else None}
    job = Predicting(
        checkpoint, found, out, wanted, store, detector, found.needs_boxes and not whole, own, precision, batch,
        torch.get_num_threads(), json_, places,
    )  # fmt: skip
    if slurm:
        _submit(job, processes, (partition, time, sbatch), follow)
    else:
        launch(processes, job)


def _processes(device: str, gpus: int | None, cpu_procs: int, is_slurm: bool) -> tuple[Processes, str]:
    """The processes, and the device of a single one: without --gpus, the one that --device names. RequestError."""
    from hmrb.cli.launch import plan_processes
    from hmrb.cli.slurm import plan_nodes
    from hmrb.errors import RequestError
    from hmrb.parallel.world import launched
    from hmrb.predict.network import device_named

    if is_slurm:
        return plan_nodes(gpus, cpu_procs), "cpu"
    if device == "auto" and (launched() or gpus is not None):
        processes = plan_processes(gpus, cpu_procs)
        return processes, "cpu" if processes.total > 1 or not processes.use_gpu else "cuda"
    one = device_named(device)
    if one.type == "cpu" and not gpus:
        return plan_processes(0, cpu_procs), "cpu"
    if gpus is not None or cpu_procs > 1:
        raise RequestError(f"--device {one} is for one process; for several use --gpus N, or --gpus 0 --cpu-procs N")
    return plan_processes(1, 1), str(one)


def _place(word: str) -> str:
    """A word of the inputs as it can be read from any folder."""
    path = Path(word)
    return str(path.absolute()) if path.exists() or path.parent != Path() else word


def _submit(job: Predicting, processes: Processes, asked: tuple[str | None, str, list[str]], follow: bool) -> None:
    """Submits the same command without --slurm as a job."""
    import sys

    from hmrb.cli.many import Command
    from hmrb.cli.slurm import check_slurm, request, submit, without
    from hmrb.predict.engine import THREADS

    submission = request(processes, THREADS, *asked, at_once=1)
    check_slurm()
    job.prepare()
    words = without(sys.argv[1:], ("--partition", "--time", "--sbatch"), ("--slurm", "--follow"))
    papers = job.out.absolute().with_name(f"{job.out.absolute().name}.slurm")
    submit([Command(job.name, tuple(words), papers / "predict.log")], submission, papers, follow)
