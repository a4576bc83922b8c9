"""Pictures fetched ahead of the draws: a worker knows the batches that it will be asked for, and begins with theirs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch.utils.data import get_worker_info

from hmrb.data.shard import Shard

BATCHES_AHEAD = 2  # of each worker, beside the one it makes


@runtime_checkable
class Batches(Protocol):
    """Lists of a dataset's indices."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Sequence[int]: ...


class Ahead:
    """A dataset that begins to fetch the pictures of this worker's next batches before it makes one.

    `batches` are those of the whole loader, in order; batch i is worker i's, modulo their number. `number` is the
    number of the batch that begins with an index, `places` gives the shard and row of an index.
    """

    def __init__(
        self,
        dataset: Any,
        shards: Mapping[str, Shard],
        batches: Batches,
        number: Callable[[int], int],
        places: Callable[[int], tuple[str, int]],
    ) -> None:
        self._dataset, self._shards, self._batches = dataset, shards, batches
        self._number, self._places = number, places

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """The items of a batch."""
        info, number = get_worker_info(), self._number(indices[0])
        step = info.num_workers if info else 1
        last = min(number + BATCHES_AHEAD * step + 1, len(self._batches))
        for batch in range(number, last, step):
            self._fetch(self._batches[batch])
        return [self._dataset[index] for index in indices]

    def _fetch(self, indices: Sequence[int]) -> None:
        wanted: dict[str, list[int]] = {}
        for name, row in map(self._places, indices):
            wanted.setdefault(name, []).append(int(self._shards[name].arrays["image"][row]))
        for name, images in wanted.items():
            if ranges := self._shards[name].ranges:
                ranges.ahead(images)
