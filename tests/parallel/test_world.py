"""Two ranks go by what one of them read."""

from functools import partial
from pathlib import Path

import pytest
import torch
from forked import start_server
from torch import distributed

from hmrb.errors import RequestError
from hmrb.parallel.world import World

start_server()
CPU = torch.device("cpu")


def _two(rank: int, folder: str) -> None:
    """One of two ranks; the files of rank 1 differ, as on a machine with a stale cache of a network disk."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    world, said = World(rank, 2, CPU), Path(folder) / f"rank{rank}"
    found = world.from_first(lambda: {"step": 6 - 2 * rank, "weights": torch.full((3,), 6.0 - 2 * rank)})
    lines = [f"{found['step']} {found['weights'].tolist()}"]

    def refuse() -> int:
        raise RequestError("no such file")

    try:
        world.from_first(refuse)
    except RequestError as error:
        lines.append(f"{error} {error.is_shared}")
    lines.append(f"{world.agree(torch.tensor([1.0, 2.0]))} {world.agree(torch.tensor([1.0, 2.0 + rank]))}")
    said.write_text("\n".join(lines))
    distributed.destroy_process_group()


def test_every_rank_has_what_the_first_read_and_notices_a_difference(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(partial(_two, folder=str(tmp_path)), nprocs=2, start_method="forkserver")
    first, second = ((tmp_path / f"rank{rank}").read_text() for rank in (0, 1))
    assert first == second == "6 [6.0, 6.0, 6.0]\nno such file True\nTrue False"


def test_one_rank_alone_agrees_with_itself() -> None:
    alone = World(0, 1, CPU)
    assert alone.agree(torch.tensor([1.0]))
    assert alone.from_first(lambda: 3) == 3
    with pytest.raises(RequestError, match="gone"):
        alone.from_first(partial(_raise, RequestError("gone")))


def _raise(error: Exception) -> int:
    raise error
