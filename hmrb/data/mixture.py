"""Sampling of people: draw i of a run depends only on (seed, i), at a cost independent of the dataset sizes."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

MASK64 = (1 << 64) - 1


def mix64(*words: int) -> int:
    """Hash integers to 64 bits (SplitMix64: Steele et al., OOPSLA 2014)."""
    state = 0
    for word in words:
        state = (state + word + 0x9E3779B97F4A7C15) & MASK64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK64
        state ^= state >> 31
    return state


def permuted(index: int, size: int, key: int) -> int:
    """Position of `index` in the permutation of range(size) given by `key`: a Feistel network with cycle walking."""
    half = max((size - 1).bit_length() + 1, 2) // 2
    low = (1 << half) - 1
    while True:
        left, right = index >> half, index & low
        for turn in range(4):
            left, right = right, left ^ (mix64(key, turn, right) & low)
        index = left << half | right
        if index < size:
            return index


class MixtureSampler:
    """Draws (dataset, row) with the mix's proportions; a mix is sampled with replacement, as in the study.

    A single dataset is reshuffled every epoch and visited without replacement.
    """

    def __init__(self, mix: Mapping[str, float], sizes: Mapping[str, int], seed: int) -> None:
        self.names: Sequence[str] = [name for name, share in mix.items() if share > 0]
        self._sizes = [sizes[name] for name in self.names]
        self._edges = list(accumulate(mix[name] for name in self.names))
        self._seed = seed

    def draw(self, index: int, attempt: int = 0) -> tuple[str, int]:
        """The dataset and row of a draw; `attempt` 1, 2, ... gives its replacements."""
        if len(self.names) == 1 and not attempt:
            epoch, place = divmod(index, self._sizes[0])
            return self.names[0], permuted(place, self._sizes[0], mix64(self._seed, epoch))
        share = mix64(self._seed, index, attempt, 0) / 2**64 * self._edges[-1]
        which = min(bisect_right(self._edges, share), len(self.names) - 1)
        return self.names[which], mix64(self._seed, index, attempt, 1) * self._sizes[which] >> 64
