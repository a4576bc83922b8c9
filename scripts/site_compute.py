"""The page of what each spec costs: GPU hours, memory and disk, modelled from counted operations.

`python scripts/site_compute.py` counts the models of all specs again and writes docs/compute.json, which the page is
made from without torch. A test compares both.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from hmrb.cli.shipped import shipped_specs
from hmrb.data.convert.catalogue import DATASETS
from hmrb.spec import Experiment, HeadSpec, ModelSpec, SpecModel, load_experiment

COUNTS = Path(__file__).parents[1] / "docs" / "compute.json"
PASSES = 3  # as in hmrb/training/utilisation.py
# Published: NVIDIA A100 datasheet, dense; the number formats of `precision` (fp32 multiplies in TF32).
PEAK_FLOPS = {"fp32": 156e12, "bf16": 312e12, "fp16": 312e12}
# Published: NVIDIA DeepLearningExamples, ResNet50 v1.5 for PyTorch, DGX A100 80GB, mixed precision.
RESNET50_IMAGES_PER_S = 2470.0
RESNET50 = "resnet50, mean, 224 px, iterative 3 x 1024"
GPUS = 8  # that a batch is divided by, as in the specs' commands
BYTES_PER_WEIGHT = 16  # fp32: weight, gradient, two moments of Adam
PICTURE_BYTES, LABEL_BYTES = 82e3, 2006.0  # measured and counted: docs/scale.md


def model_key(model: ModelSpec) -> str:
    """What the counts of a model depend on, in words."""
    head = model.head
    of_head = f"{head.name} {head.steps} x {head.hidden}" if isinstance(head, HeadSpec) else _in_words(head)
    side = f"{model.image_px} px" if model.crop == "square" else f"{model.crop} {model.image_px} px"
    return f"{model.backbone}, {model.features}, {side}, {of_head}"


def _in_words(head: SpecModel) -> str:
    """The name and the numbers of a head that is no regressor."""
    facts = head.model_dump()
    return " ".join([facts.pop("name"), *(f"{key} {value}" for key, value in facts.items() if value != "none")])


@cache
def experiments() -> dict[str, Experiment]:
    """Hmrb's specs by name."""
    return {name: load_experiment(path) for name, path in shipped_specs().items()}


def counted(model: ModelSpec) -> dict[str, int]:
    """Parameters, multiply-adds of one picture, and bytes that the backbone keeps of it for the backward pass."""
    from hmrb.models.flops import count

    parts = count(model).parts.values()
    return {
        "params": sum(part.params for part in parts),
        "multiply_adds": sum(part.multiply_adds for part in parts),
        "kept_bytes": (_kept(model, 4) - _kept(model, 2)) // 2,
    }


def _kept(model: ModelSpec, batch: int) -> int:
    """Bytes of the maps that a training pass of the backbone keeps, in fp32; each once, without the weights."""
    import torch

    from hmrb.models.backbones import build_backbone, seen_columns

    found: dict[int, torch.UntypedStorage] = {}  # holds them, so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            found[storage._cdata] = storage
        return tensor

    with torch.device("meta"):
        backbone = build_backbone(model)[0].train()
        image = torch.zeros(batch, 3, model.image_px, model.image_px)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = backbone(image[..., seen_columns(model)])
    del features
    return sum(storage.nbytes() for storage in found.values())


def read_counts() -> dict[str, dict[str, int]]:
    """The counts in docs/compute.json."""
    counts: dict[str, dict[str, int]] = json.loads(COUNTS.read_text(encoding="utf-8"))
    return counts


def share_of_peak(counts: dict[str, dict[str, int]]) -> float:
    """The share of an A100's peak that the published ResNet-50 uses; assumed for every model."""
    return RESNET50_IMAGES_PER_S * 2 * PASSES * counts[RESNET50]["multiply_adds"] / PEAK_FLOPS["bf16"]


def people(names: Iterable[str]) -> tuple[list[int], bool]:
    """The known sizes of datasets, and whether all are known."""
    sizes = [DATASETS[name].size.count for name in names]
    return [size for size in sizes if size is not None], None not in sizes


def row(name: str, experiment: Experiment, counts: dict[str, dict[str, int]]) -> list[str]:
    """The cells of a spec: hours on one A100, memory of one of eight, disk."""
    model, optim = counts[model_key(experiment.model)], experiment.optim
    sizes, are_known = people(experiment.data.mix)
    draws = experiment.data.epoch_len or max(sizes, default=0)
    at_least = "" if are_known or not draws else "at least "
    flops = 2 * PASSES * model["multiply_adds"] * optim.epochs * draws
    hours = flops / (share_of_peak(counts) * PEAK_FLOPS[optim.precision]) / 3600
    share = max(optim.batch // GPUS, 1)
    memory = (model["params"] * BYTES_PER_WEIGHT + model["kept_bytes"] * share) / 1e9
    disk = sum(sizes) * (PICTURE_BYTES + LABEL_BYTES) * (experiment.model.image_px / 224) ** 2 / 1e9
    return [
        name, model_key(experiment.model), f"{optim.epochs} x {at_least}{draws:,}" if draws else "unknown",
        f"{at_least}{number(hours)}" if draws else "unknown", f"{number(memory)} ({share})",
        f"{at_least}{number(disk)}" if draws else "unknown",
    ]  # fmt: skip


def number(value: float) -> str:
    """Two digits, because a model is no more exact."""
    if value < 0.1:
        return "< 0.1"
    return f"{value:.2g}" if value < 10 else f"{float(f'{value:.2g}'):,.0f}"


def compute_page() -> str:
    """The page, in Markdown."""
    counts = read_counts()
    lines = [
        "# What a spec costs",
        "",
        "**Modelled, not measured.** Nobody has run these specs on the card of this table. The figures say which of two"
        " specs costs more, and what order of magnitude to expect; `hmrb train SPEC --profile` measures yours.",
        "",
        "- **GPU hours**, of one A100: `6 M e n / (s P)`. M are the multiply-adds of one picture (`hmrb flops SPEC`):"
        " backbone, regressor and body. A multiply-add is two operations, and a backward pass costs two forward passes."
        " e are the epochs, n the draws of an epoch: the size of the largest dataset, by the catalogue. P is the card's"
        f" published dense peak, {PEAK_FLOPS['fp32'] / 1e12:.0f} TFLOP/s in TF32 (fp32) and"
        f" {PEAK_FLOPS['bf16'] / 1e12:.0f} in bf16 and fp16. s = {share_of_peak(counts):.2f} is assumed: the share of"
        f" the peak at which NVIDIA's published ResNet-50 trains ({RESNET50_IMAGES_PER_S:,.0f} images/s)."
        " Evaluations and loading are not in it.",
        f"- **Memory**, of one of {GPUS} GPUs, in GB: {BYTES_PER_WEIGHT} bytes for each parameter, and the maps that"
        " the backbone keeps for the backward pass in fp32, counted, times the pictures in brackets. The maps of"
        " regressor, body and losses, and the workspace of libraries, are not in it: `speed.device_batch`,"
        " `speed.checkpointing` and `optim.precision: bf16` lower it, `hmrb train SPEC --find-batch` tries.",
        f"- **Disk**, of the shards, in GB: {(PICTURE_BYTES + LABEL_BYTES) / 1e3:.0f} kB for each person"
        " ([measured and counted](../scale.md#the-model) at 224 px, in proportion to the pixels for other sizes) times"
        " the sizes of the mix. The raw files are larger.",
        "- *At least*: the catalogue has no size of one of the datasets. Sizes that are numbers of pictures stand for"
        " at least as many people.",
        "",
        "| spec | model | epochs x draws | GPU hours | GB of memory (pictures) | GB of disk |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"| {' | '.join(row(name, one, counts))} |" for name, one in sorted(experiments().items())]
    return "\n".join(lines) + "\n"


def write_counts() -> None:
    """Counts the models of all specs; takes minutes."""
    models = {model_key(one.model): one.model for one in experiments().values()}
    models.setdefault(RESNET50, ModelSpec())
    counts: dict[str, Any] = {key: counted(models[key]) for key in sorted(models)}
    COUNTS.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_counts()
