"""hmrb predict: photos in, bodies out."""

from pathlib import Path
from typing import Annotated

import typer


def predict(
    checkpoint: Annotated[
        Path, typer.Argument(help="A run, a checkpoint, or a file that import-checkpoint reads.", show_default=False)
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Photos, folders, globs, lists (path,x,y,w,h: .csv, .parquet), detections (.json), shards, .tar.",
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
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1; auto: a GPU if there is one.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision of the network: fp32, bf16 or fp16.")] = "fp32",
    batch: Annotated[int, typer.Option(min=1, help="Number of people predicted together.")] = 64,
    json_: Annotated[bool, typer.Option("--json", help="Print only an account of the results, as JSON.")] = False,
) -> None:
    """Predict the people of photos: parameters, overlays, meshes. See docs/predict.md."""
    from hmrb.errors import RequestError
    from hmrb.models.zoo import find_row, near
    from hmrb.predict.cameras import AskedCamera
    from hmrb.predict.inputs import read_inputs, with_boxes
    from hmrb.predict.wanted import Wanted, check_folder
    from hmrb.store import Store

    if not checkpoint.exists() and not find_row(str(checkpoint)):
        raise RequestError(
            f"{checkpoint}: no such checkpoint, run or model.{near(str(checkpoint))} hmrb list-models lists the names"
        )
    if sum((bool(box), detect, whole)) > 1:
        raise RequestError("--box, --detect and --whole are three ways to say where the people are; give one")
    check_folder(out)
    asked, store = AskedCamera(focal, fov), Store.default()
    found = read_inputs(inputs, store, images).taken_with(asked)
    wanted = Wanted.of(overlay, mesh, found.is_data)
    if box:
        found = with_boxes(found, box)
    if detect or whole:
        found = found.without_boxes()

    from hmrb.predict.network import load_network
    from hmrb.predict.request import PredictRequest, finder_named, predict_into

    network = load_network(checkpoint, device, precision, store)
    finder = finder_named(detector) if found.needs_boxes and not whole else None
    request = PredictRequest(found, network, wanted, finder, batch)
    if json_:
        summary = predict_into(out, request)
        typer.echo(summary.json())
    else:
        from hmrb.cli.progress import progress_bar

        with progress_bar("pictures") as (_, bar):
            for line in (*found.notes, *request.said()):
                bar.say(line)
            bar.part(out, len(found.pictures))
            summary = predict_into(out, request, bar.done, bar.say)
        for line in summary.lines():
            typer.echo(line)
    summary.check()
