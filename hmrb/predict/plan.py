"""What a prediction depends on, and the blocks that it is made of: a run goes on only with parts of its own plan."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hmrb.data.shard import Shard
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import reason
from hmrb.formats.writing import replacing
from hmrb.predict.account import Account
from hmrb.predict.pictures import PictureSource

PLAN = ".plan.json"
BLOCK = 256  # people or pictures of a block; a process that is killed loses less than one
TOGETHER = 64  # people that evaluation predicts together


@dataclass(frozen=True, slots=True)
class Plan:
    """`facts` are what results depend on; `places` tell where the pictures are, for who needs them again.

    `account` is that of a finished prediction, None before.
    """

    facts: dict[str, Any]
    places: dict[str, Any]
    account: Account | None = None

    def write(self, folder: Path) -> None:
        """Write it into the folder of a prediction. Raises RunError."""
        tree = {"facts": self.facts, "places": self.places, "account": self.account and self.account.tree()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / PLAN) as part:
                part.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise RunError(f"{folder / PLAN}: could not be written: {reason(error)}") from None

    def differences(self, now: "Plan") -> str:
        """What another plan has different, a line each."""
        keys = dict.fromkeys((*self.facts, *now.facts))
        return "\n".join(
            f"  {key}: {self.facts.get(key)} in the folder, {now.facts.get(key)} requested"
            for key in keys
            if self.facts.get(key) != now.facts.get(key)
        )


def read_plan(folder: Path) -> Plan | None:
    """The plan of a folder, or None. Raises RequestError if it is damaged."""
    path = folder / PLAN
    if path.exists() and not path.is_file():
        raise RequestError(f"{path}: not a file, so not the plan of a prediction; choose another folder with -o")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        account = tree["account"] and Account.of(tree["account"])
        return Plan(dict(tree["facts"]), dict(tree["places"]), account)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RequestError(f"{path}: {reason(error)}") from None
    except (ValueError, TypeError, LookupError, RecursionError):
        raise RequestError(f"{path}: not the plan of a prediction; choose another folder with -o") from None


def blocks_of(pictures: Sequence[PictureSource]) -> list[range]:
    """Cut pictures into blocks of about BLOCK people, if they are known, else pictures.

    A block's people fill whole batches of TOGETHER where they can: then predictions are evaluation's to the last bit.
    """
    out, start, people = [], 0, 0
    for end, picture in enumerate(pictures, 1):
        people += 1 if picture.boxes is None else len(picture.boxes)
        is_full = people >= BLOCK and people % TOGETHER == 0
        if is_full or max(people, end - start) >= 4 * BLOCK or end == len(pictures):
            out.append(range(start, end))
            start, people = end, 0
    return out


def inputs_sha(pictures: Sequence[PictureSource], missing: Collection[str] = ()) -> str:
    """A hash of what is known of the pictures: names, boxes, cameras, and the size and time of change of their files.

    A folder that was moved has the same. Pictures called as in `missing` count as files that are not there.
    """
    whole, stamps = hashlib.sha256(), dict[Path, object]()
    for one in pictures:
        if one.name in missing and (path := file_of(one)):
            stamps[path] = _absent(path)
        facts = (one.name, _where(one, stamps), one.boxes, one.is_stored_as_is, one.margin, one.asked, one.camera)
        whole.update(repr(facts).encode("utf-8", "surrogateescape") + b"\n")
    return whole.hexdigest()[:16]


def file_of(picture: PictureSource) -> Path | None:
    """The file that is this picture; None for pictures inside of another file."""
    args = picture.read.args if isinstance(picture.read, partial) else ()
    return args[0] if len(args) == 1 and isinstance(args[0], Path) else None


def origin_of(picture: PictureSource) -> str:
    """The hash of a picture's shard; empty for one that is in none."""
    owner = getattr(picture.read.func, "__self__", None) if isinstance(picture.read, partial) else None
    return owner.info.sha if isinstance(owner, Shard) else ""


def _where(picture: PictureSource, stamps: dict[Path, object]) -> list[object]:
    """What tells the pixels of a picture from others, without reading them."""
    if not isinstance(picture.read, partial):
        return []
    shard = [sha] if (sha := origin_of(picture)) else []
    return [*shard, *(_stamp(part, stamps) if isinstance(part, Path) else part for part in picture.read.args)]


def _stamp(path: Path, stamps: dict[Path, object]) -> object:
    if path not in stamps:
        try:
            status = path.stat()
            stamps[path] = (path.name, status.st_size, status.st_mtime_ns)
        except (OSError, ValueError):
            stamps[path] = _absent(path)
    return stamps[path]


def _absent(path: Path) -> object:
    return (path.name, "missing")
