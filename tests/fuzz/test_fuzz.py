"""Damaged inputs of every kind: one message, or read; no traceback, no hang, no code run, nothing half-written.

200 cases in the default run, 2,000 with `pytest -m heavy tests/fuzz`. HMRB_FUZZ_SEED varies the cases; -s shows the
table of counts. `HMRB_FUZZ_CASE=kind:number` runs a single case again.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command import Done

from fuzz import of_data, of_models, of_predict
from fuzz.archives import npz
from fuzz.seeds import Seeds, picture, tar_4dhumans
from fuzz.verdict import Case, Change, Changing, Room, Running, judged, table

WHOLE_INPUT = Change("none")
SEED = int(os.environ.get("HMRB_FUZZ_SEED", "0"))
# How many of the default run's cases are of this kind, how an input is changed, and what reads it.
KINDS: dict[str, tuple[int, Changing, Running]] = {
    "shard": (26, of_data.change_shard, of_data.run_shard),
    "checkpoint": (22, of_models.change_checkpoint, of_models.run_checkpoint),
    "weights": (10, of_models.change_weights, of_models.run_weights),
    "body": (16, of_models.change_body, of_models.run_body),
    "predictions": (26, of_models.change_predictions, of_models.run_predictions),
    "packed": (20, of_data.change_packed, of_data.run_packed),
    "tar": (10, of_data.change_tar, of_data.run_tar),
    "raw tree": (14, of_data.change_tree, of_data.run_tree),
    "picture": (14, of_data.change_picture, of_data.run_picture),
    "record": (14, of_models.change_record, of_models.run_record),
    "predict": (8, of_predict.change_predict, of_predict.run_predict),
    "export": (1, of_predict.change_export, of_predict.run_export),
    "models": (3, of_predict.change_models, of_predict.run_models),
}
WHOLE: dict[str, Callable[[Seeds, Path], object]] = {
    "shard": lambda seeds, given: shutil.copy(seeds.converted, given),
    "checkpoint": lambda seeds, given: [(given / n).write_bytes(seeds.checkpoint) for n in ("last.pt", "last.1.pt")],
    "weights": lambda seeds, given: (given / "a.pth").write_bytes(seeds.weights),
    "body": lambda seeds, given: (given / "SMPL_NEUTRAL.npz").write_bytes(npz(seeds.body)),
    "predictions": lambda seeds, given: (given / "a.npz").write_bytes(npz(seeds.predictions)),
    "packed": lambda seeds, given: (given / "spin.npz").write_bytes(npz(seeds.packed["spin"])),
    "tar": lambda seeds, given: (given / "a.tar").write_bytes(tar_4dhumans(seeds.people_4dhumans)),
    "raw tree": lambda seeds, given: of_data.TREES["lsp"](given / "lsp"),
    "picture": lambda seeds, given: (given / "a.tiff").write_bytes(picture(".tiff")),
    "record": lambda seeds, given: shutil.copytree(seeds.result, given, dirs_exist_ok=True),
    "predict": of_predict.whole_request,
    "export": lambda seeds, given: (os.link(seeds.model, given / "model.pt"), (given.parent / "out").mkdir()),
    "models": lambda seeds, given: (given / "models").mkdir(),
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Seeds:
    return Seeds(tmp_path_factory.mktemp("seeds"))


@pytest.fixture(scope="session")
def cases() -> Iterator[list[Case]]:
    found: list[Case] = []
    yield found
    print(f"\n\n{table(found)}" if found else "")


def cases_of(kind: str, times: int, seeds: Seeds, folder: Path) -> Iterator[Case]:
    count, change, run = KINDS[kind]
    only = os.environ.get("HMRB_FUZZ_CASE", "").partition(":")
    for number in range(count * times):
        if only[0] and (only[0] != kind or int(only[2]) != number):
            continue
        room = Room(folder / str(number))
        room.given.mkdir(parents=True)
        rng = np.random.default_rng([SEED, number, *kind.encode()])
        done = change(seeds, room, rng)
        yield judged(kind, number, room, done, lambda: run(seeds, room))  # noqa: B023  called immediately


def check(kind: str, times: int, seeds: Seeds, folder: Path, cases: list[Case]) -> None:
    mine = list(cases_of(kind, times, seeds, folder))
    cases += mine
    wrong = [f"{case.kind}:{case.number} {case.change}\n    {case.problem}" for case in mine if case.problem]
    assert not wrong, f"{len(wrong)} of {len(mine)}\n" + "\n".join(wrong)


@every_kind
def test_damage_is_read_or_refused_with_one_message(kind: str, seeds: Seeds, tmp_path: Path, cases: list[Case]) -> None:
    check(kind, 1, seeds, tmp_path, cases)


@pytest.mark.heavy
@every_kind
def test_much_damage_is_read_or_refused_with_one_message(
    kind: str, seeds: Seeds, tmp_path: Path, cases: list[Case]
) -> None:
    check(kind, 10, seeds, tmp_path, cases)


@every_kind
def test_an_input_that_is_whole_is_read(kind: str, seeds: Seeds, tmp_path: Path) -> None:
    """Else every case could be refused for another reason than its damage."""
    room = Room(tmp_path)
    room.given.mkdir()
    WHOLE[kind](seeds, room.given)
    case = judged(kind, 0, room, WHOLE_INPUT, lambda: KINDS[kind][2](seeds, room))
    assert (case.ending, case.problem) == ("read", "")


def test_the_verdict_notices_what_it_should(seeds: Seeds, tmp_path: Path) -> None:
    def verdict(run: Running, change: Change = WHOLE_INPUT) -> str:
        room = Room(tmp_path / "case")
        room.out.mkdir(parents=True)
        return judged("none", 0, room, change, lambda: run(seeds, room)).problem

    def fails(seeds: Seeds, room: Room) -> list[Done]:
        raise KeyError("x")

    def leaves(seeds: Seeds, room: Room) -> list[Done]:
        (room.out / ".a.part").touch()
        return [Done(0, "", "")]

    def runs(seeds: Seeds, room: Room) -> list[Done]:
        room.canary.touch()
        return [Done(2, "", "hmrb: no")]

    assert verdict(lambda seeds, room: [Done(2, "", "hmrb: no")]) == ""
    assert "KeyError" in verdict(fails)
    assert "left behind: .a.part" in verdict(leaves)
    assert "code of the file was run" in verdict(runs)
    assert "exit code 139" in verdict(lambda seeds, room: [Done(139, "", "")])
    assert "0 messages" in verdict(lambda seeds, room: [Done(2, "", "")])
    assert "not noticed" in verdict(lambda seeds, room: [Done(0, "", "")], Change("a bit", is_noticed=True))
