"""Hair and clothes with shapes of their own, and photographed places: they change pictures, never labels."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from hmrb.body import SMPL, load_body
from hmrb.body.render import vertex_normals
from hmrb.data.convert import blocks
from hmrb.errors import RunError
from hmrb.formats.pictures import UnreadablePicture
from hmrb.records import Sample
from hmrb.synthetic import outfits, panoramas
from hmrb.synthetic.domains import DOMAINS
from hmrb.synthetic.figure import Stage, draw_figure, pose_body, stage_of
from hmrb.synthetic.outfits import Outfit, Piece
from hmrb.synthetic.photos import render_photo
from hmrb.synthetic.places import Surroundings, backdrop
from hmrb.synthetic.poses import turn
from hmrb.synthetic.scene import Camera, cast_shadow, sample_light
from hmrb.synthetic.wardrobe import Look, sample_look

PLAIN = Outfit(
    volume=0.0, curl=0.0, fall=0.0, knot="none", top=0.0, sleeve=0.0, legs=0.0, reach=0.5, spread=0.0, hangs="none",
    phase=0.0,
)  # fmt: skip
UP = np.array([0, 1, 0], np.float32)  # the unposed body's frame


@cache
def body() -> SMPL:
    return load_body("open")


def look(**changes: object) -> Look:
    made = sample_look(np.random.default_rng(0))
    return replace(made, **({"hat": "none", "cut": "short", "jacket": None} | changes))


def worn(outfit: Outfit, how: Look, legs: float = 0.0) -> tuple[Stage, np.ndarray, np.ndarray, list[Piece]]:
    """The pieces on the unposed body, whose thighs are lifted to both sides by so many degrees."""
    stage = stage_of(body())
    rotmats = np.tile(np.eye(3, dtype=np.float32), (body().kind.num_joints, 1, 1))
    rotmats[1], rotmats[2] = turn(z=legs), turn(z=-legs)
    vertices, _ = pose_body(body(), rotmats, np.zeros(body().kind.num_betas, np.float32))
    normals = vertex_normals(vertices, stage.faces)
    found = outfits.pieces(outfit, how, stage.measures, stage.points, vertices, normals, UP)
    return stage, vertices, normals, found


def test_labels_are_those_of_the_undressed(monkeypatch: pytest.MonkeyPatch) -> None:
    dressed = [render_photo(body(), "lifelike", "train", 0, index)[0] for index in range(8)]
    monkeypatch.setitem(DOMAINS, "lifelike", replace(DOMAINS["lifelike"], dressed=False))
    plain = [render_photo(body(), "lifelike", "train", 0, index)[0] for index in range(8)]

    def labels(one: Sample) -> bytes:
        arrays = (one.pose, one.betas, one.transl, one.keypoints2d, one.keypoints3d, one.box, one.camera)
        return b"".join(np.asarray(array).tobytes() for array in arrays)

    assert [labels(one) for one in dressed] == [labels(one) for one in plain]
    assert all(one.jpeg != other.jpeg for one, other in zip(dressed, plain, strict=True))


@pytest.mark.parametrize("legs", [0, 15, 30])
def test_a_skirt_goes_around_both_legs(legs: float) -> None:
    """At each height between waist and hem, the legs are inside the ring, but for corners that its sides cut."""
    stage, vertices, _, (skirt,) = worn(replace(PLAIN, hangs="bottom"), look(), legs)
    count = outfits.LEVELS * outfits.AROUND
    assert len(skirt.vertices) == 2 * count
    rings = skirt.vertices[:count].reshape(outfits.LEVELS, outfits.AROUND, 3)
    levels = skirt.rest[:count].reshape(outfits.LEVELS, outfits.AROUND, 3)[:, 0, 1]
    for ring, level in zip(rings, levels, strict=True):
        leg = vertices[np.abs(stage.points[:, 1] - level) < 0.005][:, [0, 2]]
        hull = cv2.convexHull(ring[:, [0, 2]].astype(np.float32))
        assert all(cv2.pointPolygonTest(hull, point, True) > -0.03 for point in leg.tolist())
    hem = measures_hem(stage, 0.5)
    assert abs(skirt.rest[:, 1].min() - hem) < 1e-5


def measures_hem(stage: Stage, share: float) -> float:
    measures = stage.measures
    return measures.hip_y - share * (measures.hip_y - measures.ankle_y)


def test_a_skirt_is_left_out_where_it_would_tear() -> None:
    assert not worn(replace(PLAIN, hangs="bottom"), look(), 50)[3]


def test_a_coat_is_open_in_front() -> None:
    coat, skirt = (worn(replace(PLAIN, hangs=cloth), look())[3][0] for cloth in ("jacket", "bottom"))
    assert len(coat.faces) < len(skirt.faces)
    middle = coat.rest[coat.faces].mean(1)
    assert not ((middle[:, 2] > 0) & (np.abs(middle[:, 0]) < 0.05)).any()


@pytest.mark.parametrize("fall", [0.1, 0.36])
def test_hair_hangs_down_outside_the_body(fall: float) -> None:
    _, vertices, normals, (hair,) = worn(replace(PLAIN, fall=fall), look(cut="long"))
    assert hair.material == "hair"
    chain = hair.vertices[: outfits.LINKS * outfits.LOCKS].reshape(outfits.LINKS, outfits.LOCKS, 3)
    fallen = chain[0, :, 1] - chain[-1, :, 1]
    assert (fallen > 0.6 * fall - 0.03).all()
    assert (fallen < fall + 0.03).all()
    strand = chain[1:-1].reshape(-1, 3)
    nearest = ((strand[:, None] - vertices[None]) ** 2).sum(2).argmin(1)
    off = ((strand - vertices[nearest]) * normals[nearest]).sum(1)
    assert (off > -0.012).all()  # a strand may cut a corner between two vertices


def test_buns_tails_and_visors_are_where_they_belong() -> None:
    eye = np.array(stage_of(body()).measures.eye)
    bun, tail = (worn(replace(PLAIN, knot=knot), look())[3][0] for knot in ("bun", "tail"))
    visor = worn(PLAIN, look(hat="cap"))[3][0]
    assert [piece.material for piece in (bun, tail, visor)] == ["hair", "hair", "hat"]
    assert bun.vertices[:, 2].max() < eye[2] - 0.1
    assert bun.vertices[:, 1].min() > eye[1] - 0.02
    assert tail.vertices[:, 2].max() < eye[2] - 0.1
    assert tail.vertices[:, 1].min() < eye[1] - 0.1
    assert visor.vertices[:, 2].max() > eye[2] + 0.04
    assert visor.vertices[:, 1].min() > eye[1]


def test_loose_clothes_stand_off_most_at_their_ends() -> None:
    stage, how = stage_of(body()), look(trousers=0.97, sleeve=1.0)
    loose = replace(PLAIN, top=0.03, sleeve=0.02, legs=0.04)
    width = outfits.loosen(loose, how, stage.measures, stage.points)
    y, measures = stage.points[:, 1], stage.measures
    assert width[y < measures.knee_y].max() > 1.5 * width[(y > measures.knee_y) & (y < measures.knee_y + 0.2)].max()
    assert not outfits.loosen(PLAIN, how, stage.measures, stage.points).any()


def test_hair_has_volume() -> None:
    """A figure with full hair covers more of the picture above the eyes than the same figure without."""
    stage, vertices, _, _ = worn(PLAIN, look())
    camera = Camera(300.0, 64, np.array([[1, 0, 0], [0, -1, 0], [0, 0, 1]], np.float32))
    head = (vertices - [0, stage.measures.eye[1], 0]) @ np.diag([1, -1, -1]) + [0, 0, 2.5]
    head = head.astype(np.float32)
    light = sample_light(np.random.default_rng(0), camera)
    shadow = cast_shadow(light, head, stage.faces)

    def covered(outfit: Outfit) -> int:
        drawn = draw_figure(stage, look(), camera, light, shadow, head, outfit)
        return int((drawn.pixel < (2 * camera.side) ** 2 // 2).sum())

    assert covered(replace(PLAIN, volume=0.07)) > 1.2 * covered(PLAIN)


# --- photographed places


def test_each_panorama_belongs_to_one_split_and_states_its_licence() -> None:
    files = {file.stem for file in panoramas.HERE.glob("*.jpg")}
    listed = [name for split in ("train", "val", "test") for name in panoramas.PANORAMAS[split]]
    assert set(listed) == files
    assert len(listed) == len(files)
    terms = (panoramas.HERE / "LICENSE.md").read_text(encoding="utf-8")
    assert all(f"`{name.partition('_')[0]}_*.jpg`" in terms for name in files)


@pytest.mark.parametrize("left", [None, 0, 20_000])
def test_a_lost_panorama_is_refused_with_advice(
    left: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, empty or cut: people are not moved to other places."""
    data = (panoramas.HERE / "blender_forest.jpg").read_bytes()
    if left is not None:
        (tmp_path / "blender_forest.jpg").write_bytes(data[:left])
    monkeypatch.setattr(panoramas, "HERE", tmp_path)
    panoramas._panorama.cache_clear()
    with pytest.raises(RunError, match="blender_forest.jpg: .*; it is a file of hmrb: install hmrb again") as caught:
        panoramas.look_into("blender_forest", rays(8), 8, 0.0, 1.0)
    assert not isinstance(caught.value, UnreadablePicture)  # which a conversion would count and skip
    panoramas._panorama.cache_clear()


def test_blocks_of_other_panoramas_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "hmrb"
    for name in blocks.CODE:
        (home / name).mkdir(parents=True) if "." not in name else (home / name).write_text("")
    monkeypatch.setattr(blocks, "__file__", str(home / "data" / "convert" / "blocks.py"))
    shas = [blocks.code_sha.__wrapped__()]
    for content in (b"one", b"another"):
        (home / "synthetic" / "place.jpg").write_bytes(content)
        shas.append(blocks.code_sha.__wrapped__())
    assert len(set(shas)) == 3


def rays(side: int, tilt: float = 0.0) -> np.ndarray:
    """Rays of a camera with 90 degrees of view, as right, up, ahead."""
    slope = (np.arange(side) - (side - 1) / 2) / (side / 2)
    right, down = np.meshgrid(slope, slope)
    return np.stack([right, tilt - down, np.ones_like(right)], -1).reshape(-1, 3).astype(np.float32)


def test_a_panorama_is_seen_where_one_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red is a third of the way around to the right, green is above the horizon, blue below."""
    wide = np.zeros((180, 360, 3), np.uint8)
    wide[:90, :, 1], wide[90:, :, 2] = 255, 255
    wide[:, 115:125, 0] = 255
    monkeypatch.setattr(panoramas, "_panorama", lambda name: wide)
    seen = panoramas.look_into("x", rays(64), 64, np.radians(120), 1.0)
    assert seen[10, 5, 1] == 1
    assert seen[50, 5, 2] == 1
    columns = np.flatnonzero(seen[:, :, 0].mean(0) > 0.5)
    assert abs(columns.mean() - 31.5) < 1
    again = panoramas.look_into("x", rays(64), 64, np.radians(120) + 2 * np.pi, 1.0)
    np.testing.assert_allclose(seen, again, atol=2e-2)
    wider = panoramas.look_into("x", rays(64), 64, np.radians(120), 3.0)
    assert 0 < (wider[:, :, 0].mean(0) > 0.5).sum() < len(columns)
    seam = panoramas.look_into("x", rays(64), 64, np.radians(0.2), 1.0)
    assert seam[10].std(0)[1] < 0.01  # no line where the picture's ends meet


def test_people_cast_a_shadow_on_a_photographed_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panoramas, "_panorama", lambda name: np.full((64, 128, 3), 180, np.uint8))
    camera = Camera(96.0, 96, np.array([[1, 0, 0], [0, -1, 0], [0, 0, 1]], np.float32))
    stage, vertices, _, _ = worn(PLAIN, look())
    standing = (vertices @ np.diag([1, -1, -1]) + [0, 0.2, 4]).astype(np.float32)
    light = sample_light(np.random.default_rng(3), camera)
    shadow = cast_shadow(light, standing, stage.faces)
    setting = Surroundings(photographed=1.0)
    image = backdrop(np.random.default_rng(0), camera, light, shadow, standing, setting, "test")
    above, below = image[:30].mean(2), image[60:].mean(2)
    assert above.std() < 0.01
    assert below.min() < 0.9 * above.mean()
