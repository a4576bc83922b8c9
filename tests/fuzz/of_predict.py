"""Damaged pictures, lists, videos, checkpoints, stores and folders, given to `predict`, `export` and `list-models`."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from command import Done, hmrb

from fuzz.archives import changed_zip
from fuzz.mutations import Rng, changed_bytes, changed_tree, pick
from fuzz.of_models import changed_fields
from fuzz.seeds import Seeds, picture, saved, tar
from fuzz.verdict import Change, Room

NAMES = (
    b"a\nb.jpg", b"\xff\xfe.jpg", b"-o.jpg", b"[a]*.jpg", b"predictions.jpg", b".plan.jpg", b"b~1.jpg", b"<b>.jpg",
    b"\xc3\xa9" * 100 + b".jpg",
)  # fmt: skip
OUTSIDE = ("../x.jpg", "/etc/hostname", "/dev/zero", "a/../../x.jpg", "", "a" * 5000, "x\x00.jpg", "\udcff.jpg", ".")
GIANT = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\x86\xa0\0\1\x86\xa0\x08\2\0\0\0"  # 100,000 pixels a side
TARGETS = {"link": "/nowhere/at/all", "loop": "here", "full": "/dev/full", "endless": "/dev/zero"}
GIVEN = ("--no-overlay", "--mesh", "none")  # who is where is given
WHOLE = ("--whole", *GIVEN)
OPTIONS = (WHOLE, (*WHOLE, "--format", "h5"), (*WHOLE, "--format", "json"), (*WHOLE, "--json"), ("--whole",))
PLAN = {"facts": {"inputs": "1 pictures", "format": "npz"}, "places": {"inputs": ["a"]}, "account": {"pictures": 1}}
Made = tuple[list[Any], str]
"""The words of a command that come first, and what was done."""


def change_predict(seeds: Seeds, room: Room, rng: Rng) -> Change:
    """A request of which one part is wrong: an input, the checkpoint or the folder of the results."""
    os.link(seeds.model, room.given / "model.pt")
    room.out.mkdir()
    kind = pick(rng, list(INPUTS))
    words, said = INPUTS[kind](seeds, room, rng)
    options = GIVEN if kind in ("list", "detections", "tar") else pick(rng, OPTIONS)
    (room.folder / "words.json").write_text(json.dumps([*map(str, words), *options]))
    return Change(f"{kind}: {said}")


def whole_request(seeds: Seeds, given: Path) -> None:
    """A request without a fault."""
    os.link(seeds.model, given / "model.pt")
    words = [given / "a.jpg", given / "a.mp4"]
    words[0].write_bytes(picture(".jpg"))
    words[1].write_bytes(seeds.video)
    (given.parent / "words.json").write_text(json.dumps([*map(str, words), *WHOLE]))


def run_predict(seeds: Seeds, room: Room) -> list[Done]:
    """`hmrb predict`, and once more, as users do after a failure."""
    words = json.loads((room.folder / "words.json").read_text())
    asked = ("predict", room.given / "model.pt", *words, "-o", room.out / "here", "--device", "cpu")
    return [seeds.hmrb(*asked), seeds.hmrb(*asked)]


def _photo(seeds: Seeds, room: Room, rng: Rng) -> Made:
    path = room.given / f"a{pick(rng, ('.jpg', '.png', '.webp', '.bmp'))}"
    data, said = changed_bytes(picture(path.suffix), rng)
    path.write_bytes(data)
    return [path, _whole(room, "b.jpg")], f"{path.suffix}, {said}"


def _whole(room: Room, name: str) -> Path:
    path = room.given / name
    path.write_bytes(picture(".jpg"))
    return path


def _giant(seeds: Seeds, room: Room, rng: Rng) -> Made:
    (room.given / "a.png").write_bytes(GIANT + rng.bytes(200))
    return [room.given / "a.png", _whole(room, "b.jpg")], "100,000 pixels a side"


def _names(seeds: Seeds, room: Room, rng: Rng) -> Made:
    """A folder with photos of hostile names, links and pipes."""
    folder, kind, name = room.given / "photos", pick(rng, ("name", "name", "name", *TARGETS, "pipe")), b"here"
    folder.mkdir()
    (folder / "b.jpg").write_bytes(picture(".jpg"))
    if kind == "name":
        name = pick(rng, NAMES)
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(picture(".jpg"))
    else:
        _odd(folder / "here.jpg", kind)
    return [folder], f"{kind} {name!r}"


def _odd(path: Path, kind: str) -> None:
    """Something at `path` that is no plain file: a link of TARGETS, a pipe, a folder."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.name if kind == "loop" else TARGETS[kind])


def _list(seeds: Seeds, room: Room, rng: Rng) -> Made:
    rows = [(_whole(room, name).name, 10, 10, 50, 60) for name in ("a.jpg", "b.jpg")]
    text = "path,x,y,w,h\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows)
    name = pick(rng, OUTSIDE)
    data, said = text.replace("b.jpg", name).encode("utf-8", "surrogateescape"), f"a name {name[:20]!r}"
    if rng.random() < 0.5:
        data, said = changed_bytes(text.encode(), rng)
    (room.given / "list.csv").write_bytes(data)
    return [room.given / "list.csv"], said


def _detections(seeds: Seeds, room: Room, rng: Rng) -> Made:
    names = [_whole(room, name).name for name in ("a.jpg", "b.jpg")]
    rows = [{"file_name": name, "bbox": [9, 9, 50, 60], "score": 0.9, "category_id": 1} for name in names]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    people = [{"image_id": number, "bbox": [9, 9, 50, 60], "category_id": 1} for number in range(2)]
    tree, said = changed_tree(rows if rng.random() < 0.5 else {"images": images, "annotations": people}, rng)
    data = json.dumps(tree).encode()
    if rng.random() < 0.2:
        data, said = changed_bytes(data, rng)
    (room.given / "found.json").write_bytes(data)
    return [room.given / "found.json"], said


def _video(seeds: Seeds, room: Room, rng: Rng) -> Made:
    data, said = changed_bytes(seeds.video, rng)
    (room.given / "a.mp4").write_bytes(data)
    return [room.given / "a.mp4"], said


def _tar(seeds: Seeds, room: Room, rng: Rng) -> Made:
    tree, said = changed_tree({"bbox": [[9, 9, 50, 60]], "score": 1}, rng)
    data = tar({"../a.jpg": picture(".jpg"), "../a.json": json.dumps(tree).encode()})
    if rng.random() < 0.5:
        data, said = changed_bytes(data, rng)
    (room.given / "a.tar").write_bytes(data)
    return [room.given / "a.tar"], said


def _checkpoint(seeds: Seeds, room: Room, rng: Rng) -> Made:
    return [_whole(room, "a.jpg")], _damaged(seeds, room.given / "model.pt", rng)


def _damaged(seeds: Seeds, path: Path, rng: Rng) -> str:
    path.unlink(missing_ok=True)  # it is a link to the whole file
    if rng.random() < 0.5:
        data, said = changed_zip(seeds.checkpoint, rng)
    else:
        fields, said = changed_fields(seeds.fields, rng)
        data = saved(fields)
    path.write_bytes(data)
    return said


def _out(seeds: Seeds, room: Room, rng: Rng) -> Made:
    """The folder of the results is something else, or holds something under a name that is needed."""
    kind = pick(rng, (*TARGETS, "pipe", "plan", "plan", "predictions.npz", "parts", "a.json", ".plan.json"))
    here = room.out / "here"
    if kind in (*TARGETS, "pipe"):
        _odd(here, kind)
    else:
        here.mkdir()
        if kind == "plan":
            (here / ".plan.json").write_text(json.dumps(changed_tree(PLAN, rng)[0]))
        else:
            _odd(here / kind, pick(rng, ("folder", "loop", "full")) if kind != "parts" else "full")
    return [_whole(room, "a.jpg")], kind


INPUTS: dict[str, Callable[[Seeds, Room, Rng], Made]] = {
    "photo": _photo, "giant": _giant, "names": _names, "list": _list, "detections": _detections, "video": _video,
    "tar": _tar, "checkpoint": _checkpoint, "out": _out,
}  # fmt: skip


def change_export(seeds: Seeds, room: Room, rng: Rng) -> Change:
    """A damaged checkpoint, or a file that cannot be written."""
    os.link(seeds.model, room.given / "model.pt")
    room.out.mkdir()
    if rng.random() < 0.8:
        return Change(_damaged(seeds, room.given / "model.pt", rng))
    kind = pick(rng, (*TARGETS, "pipe", "folder"))
    _odd(room.out / "a.pt2", kind)
    return Change(f"at the file's place: {kind}")


def run_export(seeds: Seeds, room: Room) -> list[Done]:
    """A torch.export program; ONNX takes five times as long."""
    return [seeds.hmrb("export", room.given / "model.pt", room.out / "a.pt2")]


def change_models(seeds: Seeds, room: Room, rng: Rng) -> Change:
    """A store whose folder of models is odd, or holds odd files under a published model's names or others."""
    models, kind = room.given / "models", pick(rng, (*TARGETS, "pipe", "folder", "bytes"))
    if rng.random() < 0.2:
        _odd(models, kind if kind != "bytes" else "full")
        return Change(f"in place of the folder: {kind}")
    models.mkdir()
    name = pick(rng, ("spin.pt", "model_checkpoint.pt", "a.pt", "b\n.pth"))
    if kind == "bytes":
        (models / name).write_bytes(changed_bytes(seeds.weights, rng)[0])
    else:
        _odd(models / name, kind)
    return Change(f"{name!r}: {kind}")


def run_models(seeds: Seeds, room: Room) -> list[Done]:
    return [hmrb("list-models", *words, home=room.given) for words in (["--json"], ["--here"], [])]
