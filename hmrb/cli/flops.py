"""hmrb flops: counts the parameters and multiply-adds of a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from hmrb.models.flops import Cost
    from hmrb.spec import ModelSpec


def flops(
    spec: Annotated[
        Path | None, typer.Argument(help="A spec, by path or name: count its model.", show_default=False)
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="A backbone of the study or of timm.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Count every backbone of the study.")] = False,
    features: Annotated[
        str | None, typer.Option(help="The regressor's input: mean, flatten or study.", show_default=False)
    ] = None,
    shape: Annotated[
        int | None, typer.Option(min=32, help="Input size in pixels.  [default: 224]", show_default=False)
    ] = None,
    latency: Annotated[
        list[int], typer.Option(min=1, help="Also measure images/s at this batch size; may be repeated.")
    ] = [],  # noqa: B006
    json_: Annotated[bool, typer.Option("--json", help="Print only the records, as JSON.")] = False,
) -> None:
    """Count a model's parameters and multiply-adds. Lists backbone, head and body model separately."""
    from hmrb.errors import RequestError

    if sum((spec is not None, backbone is not None, all_)) != 1:
        raise RequestError("give exactly one of SPEC, --backbone NAME and --all: hmrb flops --backbone hrnet_w32")
    from hmrb.models.flops import count

    changes: dict[str, Any] = {} if features is None else {"features": features}
    changes |= {} if shape is None else {"image_px": shape}
    chosen = [(_changed(model, changes), body) for model, body in _models(spec, backbone, features)]
    records = []
    costs = []
    for model, body in chosen:
        cost = count(model, body)
        costs.append(cost)
        records.append(cost.record() | ({"latency": _latency(model, body, latency)} if latency else {}))
    if json_:
        import json

        typer.echo(json.dumps(records if all_ else records[0], indent=1))
    else:
        _show(costs, records)


def _models(spec: Path | None, backbone: str | None, features: str | None) -> "list[tuple[ModelSpec, str]]":
    from hmrb.cli.shipped import find_spec
    from hmrb.models.flops import STUDY
    from hmrb.spec import ModelSpec, load_experiment

    if spec is not None:
        experiment = load_experiment(find_spec(spec))
        return [(experiment.model, experiment.body)]
    if backbone is not None:
        return [(ModelSpec(backbone=backbone), "smpl")]
    kinds = [features] if features else ["mean", "study"]
    # Both are the same for ResNets.
    return [
        (_changed(ModelSpec(backbone=name), {"features": kind}), "smpl")
        for name in STUDY
        for kind in kinds
        if kind == "mean" or features or not name.startswith("resne")
    ]


def _changed(model: "ModelSpec", changes: dict[str, Any]) -> "ModelSpec":
    from pydantic import ValidationError

    from hmrb.errors import RequestError
    from hmrb.spec import ModelSpec

    try:
        return ModelSpec.model_validate(model.model_dump() | changes)
    except ValidationError as error:
        raise RequestError(
            "; ".join(f"{e['loc'][0]}: {e['msg']}, got {e['input']!r}" for e in error.errors())
        ) from None


def _latency(model: "ModelSpec", body: str, batches: list[int]) -> dict[str, Any]:
    """Throughput in images/s at each batch size, with the device and threads it was measured on."""
    import platform

    import torch

    from hmrb.models.flops import images_per_s

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU ({platform.machine()})"
    speeds = {str(batch): images_per_s(model, body, batch, device) for batch in batches}
    return {"device": name, "threads": torch.get_num_threads(), "images_per_s": speeds}


def _show(costs: "list[Cost]", records: list[dict[str, Any]]) -> None:
    """Prints one model with a row per part, or several models with a row each."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")

    def row(*cells: str) -> None:
        table.add_row(*cells)

    titles = ["", "params M", "GMACs", "GFLOPs"]
    if len(costs) > 1:
        titles = ["backbone, features", "params M", "GMACs", "head, body", "GFLOPs", "the study's"]
    for title in titles:
        table.add_column(title, justify="right" if title not in ("", titles[0]) else "left", no_wrap=True)
    for cost, record in zip(costs, records, strict=True):
        if len(costs) == 1:
            console.print(f"{cost.backbone}, features {cost.features}, one picture of {cost.image_px} px")
            for name, part in record["parts"].items():
                row(name, *(f"{part[key] / scale:.3f}" for key, scale in _UNITS.items()))
            if cost.study:
                row("the study's tool", f"{cost.study.params_m:.2f}", f"{cost.study.gflops:.2f}", "")
            continue
        backbone, *others = cost.parts.values()
        cells = [f"{cost.backbone}, {cost.features}", f"{backbone.params / 1e6:.2f}"]
        cells += [f"{backbone.multiply_adds / 1e9:.2f}", f"{sum(part.multiply_adds for part in others) / 1e9:.3f}"]
        row(*cells, f"{record['parts']['total']['flops'] / 1e9:.2f}", f"{cost.study.gflops:.2f}" if cost.study else "")
    console.print(table)
    for cost, record in zip(costs, records, strict=True):
        for batch, speed in record.get("latency", {}).get("images_per_s", {}).items():
            console.print(f"{cost.backbone}, {cost.features}: {speed:.1f} images/s at batch {batch}", highlight=False)
    _explain(console, costs, records)


_UNITS = {"params": 1e6, "multiply_adds": 1e9, "flops": 1e9}


def _explain(console: "Console", costs: "list[Cost]", records: list[dict[str, Any]]) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, style="dim")

    if "latency" in records[0]:
        latency = records[0]["latency"]
        say(f"Speed: backbone and head in fp32 on {latency['device']}, {latency['threads']} threads.")
    missed = ", ".join(sorted({name for cost in costs for name in cost.not_counted}))
    say(
        f"A MAC (multiply-add) is two FLOPs. Counted by {costs[0].counter}: convolutions and matrix products,"
        f" including those of attention. Not counted: {missed}."
    )
    if any(cost.study for cost in costs):
        say(
            "The study's tool reports GMACs as GFLOPs, also counts normalisation and activations, omits the body,"
            " and includes the discriminator's 1.81 M parameters."
        )
    for name, why in {cost.backbone: cost.study.why for cost in costs if cost.study and cost.study.why}.items():
        say(f"  {name}: {why}.")
