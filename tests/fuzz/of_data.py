"""Damaged shards, packed files, tars, raw trees and pictures, given to `verify` and `convert-data`."""

import importlib
import json
import os
import pickle
import pkgutil
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import raw
from command import Done
from raw import h36m
from raw.pickled import Bomb

from fuzz.archives import changed_table, changed_zip, npz
from fuzz.hdf5_changes import changed_hdf5, content_flip
from fuzz.mutations import Rng, changed_bytes, changed_tree, pick
from fuzz.seeds import Seeds, picture, tar, tar_4dhumans
from fuzz.verdict import Change, Room
from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.formats.pictures import UnreadablePicture, read_pixels

PICTURES = (".jpg", ".png", ".bmp", ".tiff", ".webp", ".gif", ".ppm", ".hdr", ".pfm", ".sr")
TREES: dict[str, Callable[[Path], Any]] = {}
for _module in pkgutil.iter_modules(raw.__path__):
    TREES |= getattr(importlib.import_module(f"raw.{_module.name}"), "TREES", {})
TREES = dict(sorted({**TREES, "h36m": h36m.write_one}.items()))  # one clip of fifteen: a conversion of all takes 2 s
NEED_A_BODY = ("rich",)
PACKED = ("humandata", "spin", "bedlam")


def change_shard(seeds: Seeds, room: Room, rng: Rng) -> Change:
    path = room.given / seeds.converted.name
    shutil.copy(seeds.converted, path)
    return content_flip(path, rng) if rng.random() < 0.3 else changed_hdf5(path, rng)


def run_shard(seeds: Seeds, room: Room) -> list[Done]:
    """`hmrb verify`; then what training reads, if the shard can be opened."""
    (path,) = room.given.iterdir()
    done = seeds.hmrb("verify", path)
    if done.returncode != 2:
        try:
            shard = Shard(path)
            for row in range(len(shard)):
                shard.read(row)
        except RequestError as error:
            return [done, Done(2, "", f"hmrb: {error}")]
    return [done]


def change_packed(seeds: Seeds, room: Room, rng: Rng) -> Change:
    kind = pick(rng, PACKED)
    table, said = changed_table(seeds.packed[kind], rng) if rng.random() < 0.8 else (seeds.packed[kind], "")
    if rng.random() < 0.05:
        table, said = {**table, pick(rng, list(table)): [Bomb(room.canary)] * 3}, "a pickle that calls"
    data = npz(table)
    if not said:
        data, said = changed_zip(data, rng)
    (room.given / f"{kind}.npz").write_bytes(data)
    return Change(f"{kind}: {said}")


def run_packed(seeds: Seeds, room: Room) -> list[Done]:
    (path,) = room.given.iterdir()
    words = ("--images", seeds.images, "--as", "lsp", "--image-px", 64)
    return [seeds.hmrb("convert-data", path.stem, "--file", path, *words, "--out", room.out)]


def change_tar(seeds: Seeds, room: Room, rng: Rng) -> Change:
    people, said = seeds.people_4dhumans, "members"
    chance = rng.random()
    if chance < 0.5:
        first, said = changed_table(people[0], rng)
        people = [first, people[1]]
    elif chance < 0.6:
        people, said = changed_tree([*people], rng)
    elif chance < 0.65:
        people, said = [Bomb(room.canary)], "a pickle that calls"
    data = tar_4dhumans(people)
    if chance > 0.9:
        extra = {"../set/b.jpg": picture(".png"), "set/\udcff.jpg": b"", "set/a.data.pyd": b"", "set/b.jpg": b"x"}
        name = pick(rng, list(extra))
        data, said = data + tar({name: extra[name]}), f"a member {name!r} more"
    elif chance > 0.65:
        data, said = changed_bytes(data, rng)
    (room.given / "a.tar").write_bytes(data)
    return Change(said)


def run_tar(seeds: Seeds, room: Room) -> list[Done]:
    words = ("--file", room.given / "a.tar", "--as", "lsp", "--image-px", 64, "--out", room.out)
    return [seeds.hmrb("convert-data", "4dhumans", *words)]


def change_tree(seeds: Seeds, room: Room, rng: Rng) -> Change:
    """One file of a raw tree, a file of labels three times out of four."""
    slug = pick(rng, list(TREES))
    tree = seeds.root / "trees" / slug
    if not tree.exists():
        TREES[slug](tree)
    shutil.copytree(tree, room.given / slug, copy_function=os.link)
    files = sorted(path for path in (room.given / slug).rglob("*") if path.is_file())
    labels = [path for path in files if path.suffix not in (".jpg", ".png", ".jpeg")]
    path = pick(rng, labels if rng.random() < 0.75 or not files else files)
    data, said = _changed_file(path, room, rng)
    path.unlink()  # it is a link to the whole file
    path.write_bytes(data)
    return Change(f"{path.relative_to(room.given)}: {said}")


def _changed_file(path: Path, room: Room, rng: Rng) -> tuple[bytes, str]:
    data = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.8:
        content, said = changed_tree(json.loads(data), rng)
        return json.dumps(content).encode(), said
    if path.suffix == ".pkl" and rng.random() < 0.6:
        if rng.random() < 0.1:
            return pickle.dumps(Bomb(room.canary)), "a pickle that calls"
        try:
            content = pickle.loads(data, encoding="latin1")
        except (ImportError, AttributeError):
            content = None
        if isinstance(content, dict) and content:
            table, said = changed_table(content, rng)
            return pickle.dumps(table, 2), said
    return changed_zip(data, rng) if data[:2] == b"PK" else changed_bytes(data, rng)


def run_tree(seeds: Seeds, room: Room) -> list[Done]:
    (folder,) = room.given.iterdir()
    if folder.name in NEED_A_BODY:
        shutil.copytree(seeds.bodies, room.out / "bodies", copy_function=os.link)
    words = ("--raw", folder, "--workers", 1, "--image-px", 64, "--out", room.out)
    return [seeds.hmrb("convert-data", folder.name, *words)]


def change_picture(seeds: Seeds, room: Room, rng: Rng) -> Change:
    ending = pick(rng, PICTURES)
    data = picture(ending)
    changed, said = changed_bytes(data[:64], rng) if rng.random() < 0.5 else changed_bytes(data, rng)
    if len(changed) < len(data) and rng.random() < 0.5:
        changed += data[64:]
    (room.given / f"a{ending}").write_bytes(changed)
    return Change(f"{ending}: {said}")


def run_picture(seeds: Seeds, room: Room) -> list[Done]:
    """The decoder of all commands."""
    (path,) = room.given.iterdir()
    try:
        pixels = read_pixels(path)
    except UnreadablePicture as error:
        return [Done(1, "", f"hmrb: {error}")]
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    cv2.resize(pixels, (4, 4))
    return [Done(0, "", "")]
