"""A whole request: its plan, its blocks one after another in one or many processes, everybody's file at the end."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from hmrb.checkpoint import code_version, hold
from hmrb.data.convert.conversion import ProgressReporter
from hmrb.errors import RequestError
from hmrb.formats.files import short_sha
from hmrb.missing import MAKE_THEMSELVES
from hmrb.parallel.world import World
from hmrb.predict.account import Account, total
from hmrb.predict.clips import NONE, tracks_of, write_clips
from hmrb.predict.engine import BATCH, Finder, predict_pictures
from hmrb.predict.inputs import Inputs
from hmrb.predict.network import Network
from hmrb.predict.outputs import OutputFolder, is_of_data, stems_of
from hmrb.predict.parts import Table, is_done, join, part_file, read_account, read_part, write_part
from hmrb.predict.people import joined
from hmrb.predict.pictures import WHOLE_MARGIN, GivenBox, box_problem
from hmrb.predict.plan import PLAN, Plan, blocks_of, file_of, inputs_sha, read_plan
from hmrb.predict.tables import table_of
from hmrb.predict.wanted import FORMATS, Wanted, check_folder

LOOK_S = 1.0  # between two looks at what other processes have done


@dataclass(frozen=True, eq=False)
class PredictRequest:
    """Pictures, the network that looks at them, what to write; `find` finds people (None: they are given, or whole)."""

    inputs: Inputs
    network: Network
    wanted: Wanted
    find: Finder | None = None
    batch: int = BATCH

    @cached_property
    def blocks(self) -> list[range]:
        """The pictures of each block."""
        return blocks_of(self.inputs.pictures)

    @cached_property
    def stems(self) -> list[str]:
        """The start of the names of each picture's files."""
        return stems_of([picture.name for picture in self.inputs.pictures])

    def said(self) -> list[str]:
        """What the request does, in lines."""
        network, is_whole = self.network, self.find is None and self.inputs.needs_boxes
        margins = [WHOLE_MARGIN] if is_whole else self.inputs.margins(network.rule.margin)
        crops = "; or ".join(network.rule.said(margin) for margin in margins)
        lines = [*network.notes, f"{network.name} on {network.device}, {network.precision}; crop: {crops}"]
        if not self.inputs.is_data and set(network.checkpoint.experiment().data.mix) <= set(MAKE_THEMSELVES):
            lines.append("this model has seen rendered people alone: of real photos expect little (docs/demo.md)")
        return lines


def plan_of(
    inputs: Inputs,
    network: Network,
    wanted: Wanted,
    people_from: str,
    places: dict[str, Any],
    before: Plan | None = None,
) -> Plan:
    """What the results of a request depend on. `people_from` says who tells where people are.

    `before` is the plan in the folder: files that were missing then and have come since do not make another request.
    """
    missing = [one.name for one in inputs.pictures if (path := file_of(one)) and not os.path.exists(path)]
    waited_for = [*missing, *(before.places.get("missing", ()) if before else ())]
    places = places | {"missing": sorted(set(waited_for))}
    facts = {
        "inputs": f"{len(inputs.pictures)} pictures, {inputs_sha(inputs.pictures, set(waited_for))}",
        "people": people_from,
        "checkpoint": f"{network.name}, sha {short_sha(network.path)}",
        "body": network.body.sha if network.body is not None else f"{network.body_name} is not here",
        "precision": network.precision,
        "overlay": wanted.overlay,
        "video": wanted.video,
        "mesh": ",".join(wanted.meshes) or "none",
        "files of frames and data": _of_data(inputs, wanted),
        "format": wanted.format,
        "code": code_version(),
    }
    return Plan(facts, places)


def _of_data(inputs: Inputs, wanted: Wanted) -> str:
    """Which files the frames of videos and the pictures of data sets get, if there are any."""
    files = wanted.of_picture(is_data=True)
    is_here = any(map(is_of_data, inputs.pictures))
    return (is_here and ",".join(("overlay",) * files.overlay + files.meshes)) or "none"


def prepare_folder(folder: Path, plan: Plan) -> None:
    """Write a request's plan into its folder, unless it is there. Raises RequestError for a folder of another one."""
    check_folder(folder)
    before = read_plan(folder)
    if before is None:
        if there := [name for name in FORMATS.values() if (folder / name).exists()]:
            raise RequestError(f"{folder} already holds predictions ({there[0]}); choose another folder with -o")
        plan.write(folder)
        return
    everybody = FORMATS.get(str(before.facts.get("format")), "")
    is_finished = before.account is not None and (folder / everybody).is_file()
    difference = before.differences(plan)
    if difference and (is_finished or any(_parts(folder).glob("*.h5"))):
        what = (
            f"already holds predictions ({everybody})" if is_finished else "holds the beginning of predictions (parts)"
        )
        raise RequestError(f"{folder} {what} of another request; choose another folder with -o:\n{difference}")
    if difference or (before.account is not None and not is_finished):
        plan.write(folder)


def predict_into(folder: Path, request: PredictRequest, world: World, ticker: ProgressReporter) -> Account | None:
    """Predict what is missing of a request whose plan is in `folder`, together with the other processes.

    Rank 0 tells `ticker` of all pictures, joins the parts and returns the account of everybody, the others None.
    Raises RunError if a file cannot be written: what is finished is kept.
    """
    if not world.is_main:
        missing = world.from_first(list[int])
        for number in missing[world.rank :: world.size]:
            write_block(folder, number, request, ProgressReporter())
        while (plan := read_plan(folder)) and plan.account is None:
            time.sleep(LOOK_S)  # a process that ends looks dead to those that work
        return None
    with hold(_parts(folder)):
        plan = read_plan(folder)
        assert plan is not None
        if plan.account is not None and not plan.account.passing:
            world.from_first(list[int])
            _remove_parts(folder)
            ticker.say(f"{folder} is complete: nothing to do")
            return plan.account
        if plan.account is not None:
            replace(plan, account=None).write(folder)
        missing = [at for at in range(len(request.blocks)) if not is_done(part_file(_parts(folder), at))]
        left = sum(len(request.blocks[number]) for number in missing)
        if len(missing) < len(request.blocks):
            whole = len(request.inputs.pictures)
            ticker.say(f"continuing: {whole - left} of {whole} pictures are done")
        ticker.part(folder, left)
        world.from_first(lambda: missing)
        mine = missing[:: world.size]
        others = Others(folder, request, set(missing) - set(mine), ticker)
        for number in mine:
            write_block(folder, number, request, others)
        others.wait()
        return _finish(folder, request, plan)


def write_block(folder: Path, number: int, request: PredictRequest, ticker: ProgressReporter) -> None:
    """Predict the pictures of a block, and write their files and then the block's part. Raises RunError."""
    out, account = OutputFolder(folder, request.wanted), Account()
    block = request.blocks[number]
    pictures = request.inputs.pictures[block.start : block.stop]
    results = predict_pictures(pictures, request.network, request.find, request.batch, request.wanted.overlay)
    frames: list[int] = []
    times: list[float] = []
    for at, result in zip(block, results, strict=True):
        account.problems += result.problems
        account.passing += result.may_pass
        said = list(result.notes)
        if result.people is not None:
            account.pictures += 1
            account.people += len(result.people)
            frame = result.source.frame
            frames += [frame.number if frame else NONE] * len(result.people)
            times += [frame.time_s if frame else 0.0] * len(result.people)
            account.empty += not len(result.people)
            account.cameras.update(result.people.camera_from)
            if lost := int((result.people.camera[:, 0] <= 0).sum()):
                said.append(f"{result.source.name}: {lost} people with a camera of scale 0 or less, in no overlay")
            said += filter(None, [out.add(result.people, result.rows, request.stems[at], is_of_data(result.source))])
        for note in said:
            ticker.say(note)
        account.notes += said
        ticker.done(result.source)
    account.add(out.account)
    rows = out.rows if request.inputs.is_one_shard else None
    table = table_of(joined(out.people), rows) if out.people else {}
    if table and request.inputs.has_video:
        table |= {"frame": np.array(frames, np.int64), "time_s": np.array(times, np.float64)}
    write_part(part_file(_parts(folder), number), table, account)


@dataclass(slots=True)
class Others(ProgressReporter):
    """Rank 0's progress, with the blocks of other processes (`left`: not done yet) as they finish them."""

    folder: Path
    request: PredictRequest
    left: set[int]
    ticker: ProgressReporter
    looked_at: float = 0.0

    def done(self, item: object) -> None:
        """A picture of rank 0 is finished; from time to time those of others are counted too."""
        self.ticker.done(item)
        if self.left and time.monotonic() - self.looked_at > LOOK_S:
            self.look()

    def say(self, line: str) -> None:
        """Show a message to the user."""
        self.ticker.say(line)

    def look(self) -> None:
        """Tell of the blocks that others have finished."""
        for number in sorted(self.left):
            path = part_file(_parts(self.folder), number)
            if path.exists():
                self.left.remove(number)
                for note in read_account(path).notes:
                    self.ticker.say(note)
                for picture in self.request.blocks[number]:
                    self.ticker.done(picture)
        self.looked_at = time.monotonic()

    def wait(self) -> None:
        """Return when all of them are done."""
        self.look()
        while self.left:
            time.sleep(LOOK_S)
            self.look()


def _finish(folder: Path, request: PredictRequest, plan: Plan) -> Account:
    """Join the parts, note the account in the plan, remove the parts; of no picture nothing is kept.

    Where pictures are to be tried anew, the parts of the others stay.
    """
    paths = [part_file(_parts(folder), number) for number in range(len(request.blocks))]
    accounts = [read_account(path) for path in paths]
    account, out = total(accounts), folder / request.wanted.everybody
    if account.pictures:
        full = [path for path, one in zip(paths, accounts, strict=True) if one.people]
        seen = [path for path, one in zip(paths, accounts, strict=True) if one.pictures]
        found = tracks_of(full) if request.inputs.has_video and full else {}

        def read(path: Path) -> Table:
            return read_part(path) | ({"track": found[path]} if path in found else {})

        join(full or seen[:1], out, request.wanted.format, read)
        files = [out]
        if request.wanted.video and request.network.body is not None:
            files += write_clips(folder, request.inputs.pictures, [*map(read, full)], request.network.body)
        for file in files:
            account.kinds[str(file)] += 1
            account.named.append(str(file))
        replace(plan, account=account).write(folder)
    else:
        (folder / PLAN).unlink(missing_ok=True)
    if not (account.passing and account.pictures):
        _remove_parts(folder)
    return account


def _parts(folder: Path) -> Path:
    return folder / "parts"


def _remove_parts(folder: Path) -> None:
    """Remove the parts and their lock, and the folder if it is then empty; what cannot be removed harms nothing."""
    parts = _parts(folder)
    with suppress(OSError):
        for path in _own(parts):
            path.unlink(missing_ok=True)
        parts.rmdir()
    with suppress(OSError):
        folder.rmdir()


def _own(parts: Path) -> Iterator[Path]:
    yield from (path for path in parts.iterdir() if path.stem.isdigit() and path.suffix == ".h5")
    yield from (path for path in parts.glob(".*") if path.name == ".lock" or path.name.endswith(".h5.part"))


def finder_named(name: str | None) -> Finder:
    """The detector of this name, or the default one. Raises RequestError."""
    from hmrb.detect import DEFAULT_DETECTOR, load_detector

    detector = load_detector(name or DEFAULT_DETECTOR)

    def find(picture: UInt8[np.ndarray, "H W 3"]) -> list[GivenBox]:
        found = detector(picture)
        boxes, scores = found.boxes.tolist(), found.scores.tolist()
        given = [GivenBox((box[0], box[1], box[2], box[3]), score) for box, score in zip(boxes, scores, strict=True)]
        return [one for one in given if not box_problem(one.box)]  # a find below a pixel is no mistake of the user

    return find
