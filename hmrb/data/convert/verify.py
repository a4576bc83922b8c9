"""Verify a shard: file checks are here; label_checks.py, camera_checks.py and pixel_checks.py
have those of labels."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from hmrb.body import SMPL, load_body
from hmrb.data.checksums import computed_sha, remember
from hmrb.data.convert.camera_checks import CAMERA_CHECKS
from hmrb.data.convert.label_checks import LABEL_CHECKS, Check, Labels, ok, skipped, wrong
from hmrb.data.convert.pixel_checks import PIXEL_CHECKS
from hmrb.data.convert.writer import BODY, POINTS
from hmrb.data.shard import RAW, Shard
from hmrb.errors import RequestError
from hmrb.formats.pictures import UnreadablePicture, decoded
from hmrb.formats.raw_pictures import raw_pixels
from hmrb.store import Store

SAMPLE = 1000  # people whose labels and images are checked
Progress = Callable[[str], None]


def verify(
    shard: Shard,
    store: Store,
    known: int | None,
    tell: Progress = lambda name: None,
    study_fails: Collection[str] = (),
) -> list[Check]:
    """Run all checks of a shard; `known` is the published number of people. `tell` receives each check's name.

    The study's mistakes fail the checks `study_fails`: for a shard that reproduces them, that is no fault.
    Labels and images are checked for SAMPLE evenly spaced people; finite values, checksums and boxes for all.
    """
    checks = []
    for name, check in FILE_CHECKS.items():
        tell(name)
        checks.append(check(shard, known))
        if name == "checksums" and checks[-1].verdict == "ok":
            remember(shard, store)
    rows = np.linspace(0, len(shard) - 1, min(len(shard), SAMPLE)).astype(int)
    labels = Labels.of(shard, rows, _body(shard, store))
    for name, label_check in (LABEL_CHECKS | CAMERA_CHECKS | PIXEL_CHECKS).items():
        tell(name)
        checks.append(label_check(labels))
    return [_as_in_the_study(check) if shard.info.compat and check.name in study_fails else check for check in checks]


def _as_in_the_study(check: Check) -> Check:
    if check.verdict != "wrong":
        return check
    return skipped(check.name, f"as expected of --compat study: {check.detail}")


def counts(shard: Shard, known: int | None) -> Check:
    """The number of people equals the published number."""
    have = shard.info.num_people
    if shard.info.selection:
        return skipped("counts", f"{have} people: a selection ({shard.info.selection})")
    if known is None:
        return skipped("counts", f"{have} people in {shard.info.num_images} images; no published number to compare")
    if have != known:
        return wrong("counts", f"{have} people, but the source states {known}: are files missing?")
    return ok("counts", f"{have} people, as the source states")


def checksums(shard: Shard, known: int | None) -> Check:
    """The checksum of all arrays equals the stored one."""
    sha = computed_sha(shard)
    if sha != shard.info.sha:
        return wrong(
            "checksums", f"computed sha {sha}, stored sha {shard.info.sha}: the shard is damaged or was modified"
        )
    return ok("checksums", f"sha {sha}")


def finite(shard: Shard, known: int | None) -> Check:
    """No label is NaN or infinite."""
    bad = [key for key, a in shard.arrays.items() if a.dtype.kind == "f" and not all(map(_all_finite, _pieces(a)))]
    if bad:
        return wrong("finite", f"{', '.join(bad)} have values that are not finite")
    return ok("finite", "all labels are finite")


def confidences(shard: Shard, known: int | None) -> Check:
    """No confidence is outside 0 to 1."""
    for key in ("keypoints2d", "keypoints3d"):
        for piece in _pieces(shard.arrays[key]):
            confidence = piece[..., -1]
            if confidence.size and (confidence.min() < 0 or confidence.max() > 1):
                low, high = confidence.min(), confidence.max()
                return wrong(
                    "confidences",
                    f"{key}: confidence is {low:g} to {high:g}, expected 0 to 1: an undecoded visibility code?",
                )
    return ok("confidences", "within 0 to 1")


def labelled(shard: Shard, known: int | None) -> Check:
    """Somebody has a label. The detail says how many people have labels of each kind."""
    arrays, people = shard.arrays, {}
    for key in POINTS:
        people[key] = sum(int((piece[..., -1] > 0).any(1).sum()) for piece in _pieces(arrays[key]))
    people["a body"] = int((arrays["has_body"] > 0).sum())
    said = ", ".join(f"{count} with {what}" for what, count in people.items())
    return ok("labelled", said) if any(people.values()) else wrong("labelled", "nobody has a keypoint or a body")


def unlabelled(shard: Shard, known: int | None) -> Check:
    """Labels that a person does not have are zeros. hmrb does not read them, but other programs may."""
    arrays, found = shard.arrays, {}
    has_body = arrays["has_body"] > 0
    for key in (*POINTS, *BODY):
        count = 0
        for start in range(0, len(shard), 1 << 16):
            rows = slice(start, start + (1 << 16))
            values = arrays[key][rows]
            without = ~(values[..., -1] > 0) if key in POINTS else ~has_body[rows]
            count += int(np.count_nonzero(values[..., :-1][without] if key in POINTS else values[without]))
        if count:
            found[key] = count
    if found:
        said = ", ".join(f"{key} has {count} numbers" for key, count in found.items())
        return wrong("unlabelled", f"{said} under confidence 0 or has_body 0: write zeros there")
    return ok("unlabelled", "missing labels are zeros")


def pictures(shard: Shard, known: int | None) -> Check:
    """SAMPLE evenly spaced images are complete, can be decoded, and are stored as the shard's attributes say."""
    if not shard.arrays["jpeg/offset"][-1]:
        return skipped("pictures", "the shard has bodies but no images")
    count = shard.info.num_images
    looked = np.linspace(0, count - 1, min(count, SAMPLE)).astype(int).tolist()
    is_region, is_raw = bool(shard.info.region_px), shard.info.pictures.endswith(RAW)
    bad, other = [], []
    for image in looked:
        data, label = shard.picture(image), f"picture {image}"
        try:
            decoded(data, label)
            if is_region and (raw_pixels(data, label) is not None) != is_raw:
                other.append(f"{label} is {'encoded' if is_raw else 'raw'}")
        except UnreadablePicture as error:
            bad.append(str(error))
        if not is_region and (shard.arrays["origin"][image] != (0, 0, 1)).any():
            other.append(f"{label} is a region")
    if other:
        said = f"{len(other)} of {len(looked)} are not: {'; '.join(other[:3])}"
        return wrong("pictures", f"the attribute says '{shard.info.pictures}', and {said}; recreate the shard")
    if bad:
        return wrong("pictures", f"{len(bad)} of {len(looked)} checked images are unreadable: {'; '.join(bad[:3])}")
    return ok("pictures", f"{len(looked)} of {count} decoded")


def people_in_picture(shard: Shard, known: int | None) -> Check:
    """Each person's bounding box overlaps its image."""
    arrays = shard.arrays
    if not arrays["jpeg/offset"][-1]:
        return skipped("people_in_picture", "the shard has bodies but no images")
    outside: list[int] = []
    sizes = arrays["photo_px"].astype(np.float64)
    for start in range(0, len(shard), 1 << 16):
        rows = slice(start, start + (1 << 16))
        box, image = arrays["box"][rows].astype(np.float64), arrays["image"][rows]
        origin = arrays["origin"][image].astype(np.float64)
        low = (box[:, :2] + 0.5) / origin[:, 2:] - 0.5 + origin[:, :2]
        high = low + box[:, 2:] / origin[:, 2:]
        meets = (high > 0).all(1) & (low < sizes[image]).all(1) & (box[:, 2:] > 0).any(1)
        outside += (start + np.flatnonzero(~meets)).tolist()
    if outside:
        names = ", ".join(shard.name(row) for row in outside[:3])
        return wrong("people_in_picture", f"{len(outside)} of {len(shard)} boxes are outside their image: {names}")
    return ok("people_in_picture", f"all {len(shard)} boxes overlap their images")


def _body(shard: Shard, store: Store) -> SMPL | None:
    """The neutral body model of the shard's poses, or None if it is not installed."""
    try:
        return load_body(shard.info.body, "neutral", store)
    except RequestError:
        return None


def _pieces(array: np.ndarray) -> list[np.ndarray]:
    return [array[start : start + (1 << 16)] for start in range(0, len(array), 1 << 16)]


def _all_finite(piece: np.ndarray) -> bool:
    return bool(np.isfinite(piece).all())


def record(shard: Shard, checks: list[Check]) -> dict[str, Any]:
    """The verdicts as JSON-compatible values."""
    return {
        "shard": shard.place,
        "sha": shard.info.sha,
        "num_people": shard.info.num_people,
        "ok": all(check.verdict != "wrong" for check in checks),
        "checks": {check.name: {"verdict": check.verdict, "detail": check.detail} for check in checks},
    }


FILE_CHECKS: Mapping[str, Callable[[Shard, int | None], Check]] = {
    check.__name__: check
    for check in (counts, checksums, finite, confidences, labelled, unlabelled, pictures, people_in_picture)
}
