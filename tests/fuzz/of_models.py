"""Damaged checkpoints, weights, bodies, predictions and records."""

import json
import pickle
import shutil
from collections.abc import Callable
from typing import Any

import torch
from command import Done
from raw.pickled import Bomb

from fuzz.archives import changed_table, changed_zip, npz
from fuzz.hdf5_changes import changed_hdf5
from fuzz.mutations import ODD, Rng, changed_bytes, changed_tree, pick
from fuzz.seeds import Seeds, saved
from fuzz.verdict import Change, Room
from hmrb.checkpoint import Run, newest_checkpoint
from hmrb.errors import RequestError
from hmrb.evaluation.records import Record
from hmrb.models.hmr import build_model
from hmrb.models.weight_files import read_weights, tensors_of
from hmrb.spec import parse_experiment


def change_checkpoint(seeds: Seeds, room: Room, rng: Rng) -> Change:
    """last.pt is damaged, last.1.pt is whole."""
    run = Run(room.given)
    chance, is_noticed = rng.random(), False
    if chance < 0.25:
        data, said = _tensor_flip(seeds, rng)
        is_noticed = True
    elif chance < 0.6:
        data, said = changed_zip(seeds.checkpoint, rng)
    elif chance < 0.65:
        data, said = saved({**seeds.fields, "training": {"x": Bomb(room.canary)}}), "a pickle that calls"
        is_noticed = True
    else:
        fields, said = changed_fields(seeds.fields, rng)
        data = saved(fields)
    run.before.write_bytes(seeds.checkpoint)
    run.last.write_bytes(data)
    return Change(said, is_noticed)


def _tensor_flip(seeds: Seeds, rng: Rng) -> tuple[bytes, str]:
    name = pick(
        rng, [key for key, value in seeds.fields["model"].items() if value.numel() > 99 and value.unique().numel() > 9]
    )
    tensor = seeds.fields["model"][name].contiguous().numpy().tobytes()
    data = bytearray(seeds.checkpoint)
    at = bytes(data).find(tensor)
    data[at + int(rng.integers(len(tensor)))] ^= 1 << int(rng.integers(8))
    return bytes(data), f"a bit of {name}"


def changed_fields(fields: dict[str, Any], rng: Rng) -> tuple[dict[str, Any], str]:
    """The fields of a checkpoint with one of them changed."""
    key = pick(rng, [*fields, "spec", "spec", "spec", "model", "model", "format"])
    if key == "spec" and rng.random() < 0.9:
        spec, said = changed_tree(json.loads(fields["spec"]), rng)
        return {**fields, "spec": json.dumps(spec)}, f"spec: {said}"
    if key == "model":
        model, name = dict(fields["model"]), pick(rng, list(fields["model"]))
        value = model[name]
        changes: dict[str, Callable[[], Any]] = {
            "NaN": lambda: torch.full_like(value, torch.nan, dtype=torch.float32), "cut": lambda: value.reshape(-1)[:1],
            "half": value.half, "sparse": lambda: value.float().to_sparse(), "none": lambda: None,
            "shared": lambda: torch.zeros(1).expand(value.shape), "empty": lambda: torch.zeros(0),
            "complex": lambda: value.to(torch.complex64), "integers": value.long, "text": lambda: "x",
            "more": lambda: torch.zeros(1).expand(1 << 40),
        }  # fmt: skip
        how = pick(rng, list(changes))
        return {**fields, "model": {**model, name: changes[how]()}}, f"{how}: {name}"
    return {**fields, key: pick(rng, ODD)}, f"an odd {key}"


def run_checkpoint(seeds: Seeds, room: Room) -> list[Done]:
    """What --resume takes must be whole; then `hmrb eval` of the damaged file."""
    run = Run(room.given)
    try:
        found = newest_checkpoint(run)
        assert found
        assert found.checkpoint.step == 7 or not found.damage
    except RequestError:
        pass
    return [seeds.hmrb("eval", run.last, "--bench", "synthetic", "--out", room.out)]


def change_weights(seeds: Seeds, room: Room, rng: Rng) -> Change:
    """A state dict of this project's small backbone, as a foreign file."""
    chance, state = rng.random(), seeds.backbone
    if chance < 0.4:
        data, said = changed_zip(seeds.weights, rng)
    elif chance < 0.5:
        data, said = saved({"state_dict": state, "x": Bomb(room.canary)}), "a pickle that calls"
    elif chance < 0.6:
        data, said = changed_bytes(pickle.dumps({"state_dict": [1, 2]}), rng)
    else:
        tree, said = changed_tree({"state_dict": {**state, "x": [1], "y": {"z": 1}}, "meta": {"epoch": 1}}, rng)
        data = saved(tree)
    ending = pick(rng, (".pth", ".pth", ".bin", ".safetensors"))
    (room.given / f"a{ending}").write_bytes(data)
    return Change(f"{ending}: {said}")


def run_weights(seeds: Seeds, room: Room) -> list[Done]:
    """`hmrb import-checkpoint`, and the file as a spec's model.weights."""
    (path,) = room.given.iterdir()
    done = seeds.hmrb("import-checkpoint", path, "--out", room.out / "a.pt")
    try:
        tensors_of(read_weights(path), path)
        tree = json.loads(seeds.fields["spec"])
        tree["model"]["weights"] = str(path)
        build_model(parse_experiment(tree, "a spec").model, seeds.store)
    except RequestError as error:
        return [done, Done(2, "", f"hmrb: {error}")]
    return [done, Done(0, "", "")]


def change_body(seeds: Seeds, room: Room, rng: Rng) -> Change:
    table, said = changed_table(seeds.body, rng) if rng.random() < 0.7 else (seeds.body, "")
    if rng.random() < 0.05:
        table, said = {**table, "f": Bomb(room.canary)}, "a pickle that calls"
    is_npz = rng.random() < 0.5
    data = npz(table) if is_npz else pickle.dumps(table, 2)
    if not said:
        data, said = (changed_zip if is_npz else changed_bytes)(data, rng)
    (room.given / f"SMPL_NEUTRAL.{'npz' if is_npz else 'pkl'}").write_bytes(data)
    return Change(said)


def run_body(seeds: Seeds, room: Room) -> list[Done]:
    (path,) = room.given.iterdir()
    done = seeds.hmrb("convert-data", "body", "--file", path, "--out", room.out)
    assert done.returncode == 0 or not list(room.out.rglob("*.npz")), "a body that was refused was written"
    return [done]


def change_predictions(seeds: Seeds, room: Room, rng: Rng) -> Change:
    chance, table = rng.random(), seeds.predictions if rng.random() < 0.7 else seeds.points
    if chance < 0.15:
        path = room.given / "a_samples.h5"
        shutil.copy(seeds.result / "synthetic_samples.h5", path)
        return changed_hdf5(path, rng)
    said = ""
    if chance < 0.7:
        table, said = changed_table(table, rng)
    elif chance < 0.75:
        table, said = {**table, pick(rng, list(table)): [Bomb(room.canary)] * 7}, "a pickle that calls"
    ending = pick(rng, ("npz", "pkl"))
    data = npz(table) if ending == "npz" else pickle.dumps(table if rng.random() < 0.8 else [table, table])
    if not said:
        data, said = (changed_zip if ending == "npz" else changed_bytes)(data, rng)
    (room.given / f"a.{ending}").write_bytes(data)
    return Change(f"{ending}: {said}")


def run_predictions(seeds: Seeds, room: Room) -> list[Done]:
    (path,) = room.given.iterdir()
    return [seeds.hmrb("eval", "--from-predictions", path, "--bench", "synthetic", "--out", room.out)]


def change_record(seeds: Seeds, room: Room, rng: Rng) -> Change:
    """A result whose record or samples are edited; most records are sealed again."""
    samples, path = room.given / "synthetic_samples.h5", room.given / "synthetic.json"
    shutil.copy(seeds.result / samples.name, samples)
    path.write_text(json.dumps(seeds.record))
    chance = rng.random()
    if chance < 0.2:
        return changed_hdf5(samples, rng)
    if chance < 0.35:
        data, said = changed_bytes(path.read_bytes(), rng)
        path.write_bytes(data)
        return Change(said)
    record, said = changed_tree(seeds.record, rng)
    is_noticed = chance > 0.8 and isinstance(record, dict) and _means(record) != _means(seeds.record)
    if chance <= 0.8 and isinstance(record, dict):
        record, said = _sealed(record), f"{said}, sealed again"
    path.write_text(json.dumps(record))
    return Change(said, is_noticed)


def _sealed(record: dict[str, Any]) -> dict[str, Any]:
    try:
        return {**record, "sha": Record.model_validate(record).sealed().sha}
    except (ValueError, RecursionError, TypeError):
        return record


def _means(record: dict[str, Any]) -> str:
    """What a record says: equal for different texts of one value."""
    try:
        return Record.model_validate(record).model_dump_json()
    except (ValueError, RecursionError, TypeError):
        return ""


def run_record(seeds: Seeds, room: Room) -> list[Done]:
    path = room.given / "synthetic.json"
    return [seeds.hmrb("report", path), seeds.hmrb("compare", path, seeds.result / "synthetic.json")]
