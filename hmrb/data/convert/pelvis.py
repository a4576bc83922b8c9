"""Rest position of SMPL's pelvis: a body rotates about it, so transforming translations requires it."""

from functools import cache

import numpy as np
from jaxtyping import Float

from hmrb.store import Store


def rest_pelvis(betas: Float[np.ndarray, " S"], gender: str, store: Store) -> Float[np.ndarray, "3"] | None:
    """Pelvis of the rest pose in the body's frame, in metres; None if the store has no body of this gender."""
    pelvis = _pelvis(store, gender)
    return None if pelvis is None else pelvis[0] + pelvis[1] @ betas


def transl_to(
    pelvis: Float[np.ndarray, "3"], betas: Float[np.ndarray, " S"], gender: str, store: Store
) -> Float[np.ndarray, "3"]:
    """Translation that moves the pelvis to `pelvis`; zeros if the store has no body of this gender."""
    rest = rest_pelvis(betas, gender, store)
    return np.zeros(3, np.float32) if rest is None else (pelvis - rest).astype(np.float32)


@cache
def _pelvis(store: Store, gender: str) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 S"]] | None:
    from hmrb.body import load_body  # torch: the names of datasets are known without it
    from hmrb.body.official import BodyError, find_body

    try:
        find_body(store.bodies / "smpl", gender)
    except BodyError:
        return None
    body = load_body("smpl", gender, store)
    return body.rest_joints[0].double().numpy(), body.joint_shapedirs[0].double().numpy()
