"""Bodies inside a page, for its 3D view: vertices as 16-bit steps of a box, in base64."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt16

from hmrb.reports.gallery import UPRIGHT, Posing

STEPS = (1 << 16) - 1  # of a box of about two metres: 0.03 mm


def packed(posing: Posing) -> dict[str, Any]:
    """A person's bodies: `low` and `span` of the box in metres, y up, and each body's vertices as little-endian steps.

    All axes have one span, so that a body keeps its proportions.
    """
    bodies = {"predicted": posing.predicted, "labelled": posing.labelled}
    upright = {name: body * UPRIGHT for name, body in bodies.items() if body is not None}
    points = np.concatenate(list(upright.values()))
    low = points.min(0)
    span = float((points.max(0) - low).max()) or 1.0
    return {
        "low": [round(float(edge), 5) for edge in low],
        "span": round(span, 5),
        **{name: _text(_steps(body, low, span)) for name, body in upright.items()},
    }


def packed_faces(faces: Int[np.ndarray, "F 3"]) -> str:
    """Triangles as little-endian 16-bit numbers of vertices, in base64. The largest body has 10,475 vertices."""
    assert faces.max() <= STEPS
    return _text(faces.astype("<u2"))


def within(bodies: Sequence[dict[str, Any]], room: int) -> list[bool]:
    """Which people's bodies fit into a page with `room` bytes left, in this order."""
    out = []
    for body in bodies:
        size = sum(len(str(part)) for part in body.values())
        out.append(size <= room)
        room -= size * out[-1]
    return out


def _steps(body: Float[np.ndarray, "V 3"], low: Float[np.ndarray, "3"], span: float) -> UInt16[np.ndarray, "V 3"]:
    return np.clip(np.rint((body - low) / span * STEPS), 0, STEPS).astype("<u2")


def _text(numbers: UInt16[np.ndarray, "N 3"]) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
