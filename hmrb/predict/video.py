"""Videos: their frames as pictures, and a video of their overlays. PyAV (the extra `video`) decodes and encodes."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from hmrb.errors import RequestError, RunError
from hmrb.formats.files import instead
from hmrb.formats.optional import needed
from hmrb.formats.pictures import UnreadablePicture
from hmrb.predict.pictures import FrameSource, PictureSource

INSTALL = "'hmrb[video]'"
HELD = 16  # decoded frames: more than the pictures that wait, which threads ask for in any order
SAME_BOX = 0.3  # overlap of the boxes of one person in two frames (SORT's threshold, Bewley et al., ICIP 2016)
PATIENCE_S = 1.0  # after which a person who is not seen gets a new track
RATE = 30  # frames per second where the video does not say
SPARE_FRAMES = 3  # by which a whole video may be shorter than stated: writers count the last frame, or delays


def video_pictures(path: Path, images: Path | None) -> tuple[list[PictureSource], list[str]]:
    """The frames of a video, named NAME/000123, in the order in which they are shown. Raises RequestError.

    Of a video that is cut short, the frames that are there; what is missing is one picture that cannot be read.
    """
    with _opened(path) as (container, stream):
        seen = _look_through(container, stream)
        missing = _missing(container, stream, seen) if seen.times else ""
    times = seen.times
    if not times:
        raise RequestError(f"{path}: a video without frames{instead(path)}")
    frames = FrameReader(path)
    sources = [
        PictureSource(
            f"{path.name}/{number:06d}", partial(frames.read, path, number), frame=FrameSource(path, number, t)
        )
        for number, t in enumerate(times)
    ]
    if missing:
        sources.append(PictureSource(f"{path.name}/{len(times):06d}", partial(_refuse, path, missing)))
    return sources, []


def _refuse(path: Path, missing: str) -> bytes:
    raise UnreadablePicture(f"{path}: the video is {missing}")


@dataclass(frozen=True, slots=True)
class _Seen:
    """The packets of a video: times of its frames, the start and end of its pictures and of all streams, in seconds."""

    times: list[float]
    pictures_s: tuple[float, float]
    all_s: tuple[float, float]
    error: str


def _look_through(container: Any, stream: Any) -> _Seen:
    """All packets up to the end of the file, or to what is damaged: nothing is decoded."""
    av = needed("av", INSTALL)
    times, ends, others, error = [], [0.0], [], ""
    try:
        for packet in container.demux():
            if packet.pts is None or not packet.size:
                continue
            start, end = (float(pts * packet.time_base) for pts in (packet.pts, packet.pts + (packet.duration or 0)))
            if packet.stream_index == stream.index:
                times.append(start)
                ends.append(end)
            else:
                others += [start, end]
    except av.error.FFmpegError as failure:  # the end of a file that was cut short
        error = str(failure.strerror)
    start, end = min(times, default=0.0), max(ends)
    return _Seen(sorted(times), (start, end), (min([start, *others]), max([end, *others])), error)


def _missing(container: Any, stream: Any, seen: _Seen) -> str:
    """What a video lacks of what its header states; empty if nothing.

    Matroska and WebM state no number of frames but a duration, which may be that of a longer sound track: pictures are
    missing if all streams end before it, and the pictures before their own duration, if that is stated too.
    """
    count = len(seen.times)
    if count < stream.frames:
        return f"cut short: {count} of {stream.frames} frames are there"
    is_absolute = "matroska" in container.format.name  # others count from the first frame
    whole, own = float(container.duration or 0) / 1e6, _own_duration_s(stream)
    lacking = [
        stated - (end if is_absolute else end - max(start, 0.0))
        for stated, (start, end) in ((whole, seen.all_s), (own, seen.pictures_s))
        if stated
    ]
    steps = np.diff(seen.times) if count > 1 else np.array([1 / float(stream.average_rate or RATE)])
    if lacking and min(lacking) > max(SPARE_FRAMES * float(steps.mean()), float(steps.max())):
        stated = own or whole
        about = max(round(stated / float(steps.mean())), count + 1) if steps.mean() > 0 else count + 1
        return f"cut short: {count} of about {about} frames are there, {seen.pictures_s[1]:.2f} of {stated:.2f} s"
    return f"damaged after {count} frames: {seen.error}" if seen.error and not (lacking or stream.frames) else ""


def _own_duration_s(stream: Any) -> float:
    """The duration that a stream states for itself; Matroska's is a tag, 00:00:04.000000000. 0 if there is none."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A video and its first stream of pictures. Raises RequestError."""
    av = needed("av", INSTALL)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise RequestError(f"{path}: a file without a video stream")
            yield container, container.streams.video[0]
    except av.error.FFmpegError as error:
        raise RequestError(f"{path}: not a readable video ({error.strerror}){instead(path)}") from None


class FrameReader:
    """Reads the frames of a video by number; quick if they are asked for nearly in order. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._coming: Iterator[Any] | None = None
        self._next = 0

    def __reduce__(self) -> tuple[type["FrameReader"], tuple[Path]]:
        return FrameReader, (self.path,)

    def read(self, path: Path, number: int) -> UInt8[np.ndarray, "H W 3"]:
        """The pixels of a frame. Raises UnreadablePicture if it is beyond what can be decoded."""
        with self._lock:
            if number not in self._held and (self._coming is None or number < self._next):
                self._coming, self._next = self._decode(), 0
                self._held.clear()
            while number not in self._held:
                assert self._coming is not None
                frame = next(self._coming, None)
                if frame is None:
                    raise UnreadablePicture(f"{path.name}/{number:06d}: the video ends or is damaged before this frame")
                self._held[self._next] = frame
                self._next += 1
                if len(self._held) > HELD:
                    self._held.popitem(last=False)
            return _upright(self._held[number])

    def _decode(self) -> Iterator[Any]:
        av = needed("av", INSTALL)
        with _opened(self.path) as (container, stream):
            try:
                yield from container.decode(stream)
            except av.error.FFmpegError:
                return


def _upright(frame: Any) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels; `rotation` is counterclockwise in degrees, as phones note it."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))


def tracks(frames: Iterable[tuple[float, Float[np.ndarray, "_ 4"]]]) -> Iterator[list[int]]:
    """The track of each person of each frame (its time in seconds, its boxes x, y, width, height).

    Simple: boxes that overlap most are one person's, from frame to frame, if by SAME_BOX at least. People who cross
    may exchange their tracks; whoever is not seen for PATIENCE_S comes back as somebody new.
    """
    last: dict[int, tuple[float, np.ndarray]] = {}
    count = 0
    for time_s, boxes in frames:
        last = {track: seen for track, seen in last.items() if time_s - seen[0] <= PATIENCE_S}
        known = list(last)
        pairs = [
            (overlap, row, track)
            for row, box in enumerate(boxes)
            for track in known
            if (overlap := _overlap(box, last[track][1])) >= SAME_BOX
        ]
        found: dict[int, int] = {}
        for _, row, track in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if row not in found and track not in found.values():
                found[row] = track
        for row in range(len(boxes)):
            if row not in found:
                found[row], count = count, count + 1
            last[found[row]] = (time_s, boxes[row])
        yield [found[row] for row in range(len(boxes))]


def _overlap(one: Float[np.ndarray, "4"], two: Float[np.ndarray, "4"]) -> float:
    low = np.maximum(one[:2], two[:2])
    high = np.minimum(one[:2] + one[2:], two[:2] + two[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    return both / (float(np.prod(one[2:]) + np.prod(two[2:])) - both)


def rate_of(path: Path) -> float:
    """FrameReader per second of a video."""
    with _opened(path) as (_, stream):
        return float(stream.average_rate or RATE)


def write_video(path: Path, frames: Iterable[UInt8[np.ndarray, "H W 3"]], rate: float) -> None:
    """Write an .mp4 (H.264) of RGB frames of one size; an odd row or column is cut off. Raises RunError, OSError."""
    av = needed("av", INSTALL)
    try:
        with av.open(str(path), "w", format="mp4") as container:
            stream = None
            for pixels in frames:
                even = np.ascontiguousarray(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2])
                if stream is None:
                    stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
                    stream.width, stream.height, stream.pix_fmt = even.shape[1], even.shape[0], "yuv420p"
                container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            if stream is not None:
                container.mux(stream.encode())
    except av.error.FFmpegError as error:
        raise RunError(f"{path}: could not be written: {error.strerror}") from None
