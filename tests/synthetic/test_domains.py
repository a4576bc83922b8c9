"""The synthetic domains: exact labels, splits that share nothing, and what each domain's name promises."""

from functools import cache

import cv2
import numpy as np
import pytest
import torch

from hmrb.body import SMPL, load_body
from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, convert
from hmrb.data.convert.verify import verify
from hmrb.data.shard import Shard
from hmrb.data.sources import CONVERTERS, domains
from hmrb.geometry import rotvec_to_rotmat
from hmrb.lookup import UnknownName
from hmrb.records import Sample
from hmrb.store import Store
from hmrb.synthetic import fits
from hmrb.synthetic.actions import ACTIONS, pairs
from hmrb.synthetic.domains import DOMAINS
from hmrb.synthetic.figure import rgba
from hmrb.synthetic.photos import render_photo

every_domain = pytest.mark.parametrize("domain", DOMAINS)


@cache
def body() -> SMPL:
    return load_body("open")


@cache
def photos(domain: str, split: str = "train", count: int = 6) -> list[list[Sample]]:
    return [render_photo(body(), domain, split, 0, index) for index in range(count)]


def everybody(domain: str, split: str = "train", count: int = 6) -> list[Sample]:
    return [one for photo in photos(domain, split, count) for one in photo]


def column(domain: str, name: str, count: int = 6) -> np.ndarray:
    return np.array([one.columns[name] for one in everybody(domain, count=count)])


def picture(sample: Sample) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(sample.jpeg, np.uint8), cv2.IMREAD_COLOR)


@every_domain
def test_labels_are_exact(domain: str) -> None:
    """The labelled body's joints are the 3D joints, which the labelled camera projects to the 2D joints."""
    for one in everybody(domain, count=3):
        mesh = body()(rotvec_to_rotmat(torch.from_numpy(one.pose))[None], torch.from_numpy(one.betas)[None])
        joints = body().joints(mesh, "smpl54")[0].numpy() + one.transl
        np.testing.assert_allclose(joints, one.keypoints3d[:, :3], atol=2e-5)
        fx, fy, cx, cy = one.camera
        flat = joints[:, :2] / joints[:, 2:] * (fx, fy) + (cx, cy)
        np.testing.assert_allclose(flat, one.keypoints2d[:, :2], atol=5e-3)
        assert picture(one).shape == (*one.photo_px, 3)
        assert (np.abs(one.box[:2] + one.box[2:] / 2 - cx) < one.photo_px[0] / 2).all()


@every_domain
def test_splits_share_no_subject_place_action_shape_or_pose(domain: str) -> None:
    seen: dict[str, dict[str, set]] = {}
    for split in ("train", "val", "test"):
        people = everybody(domain, split)
        seen[split] = {name: {one.columns[name] for one in people} for name in ("subject", "place", "action")}
        seen[split] |= {
            name: {np.asarray(getattr(one, name)).tobytes() for one in people} for name in ("betas", "pose", "jpeg")
        }
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = {name for name in seen[first] if seen[first][name] & seen[second][name]}
        assert not shared


@every_domain
def test_every_pair_of_key_poses_belongs_to_one_split(domain: str) -> None:
    for group in DOMAINS[domain].groups:
        assert set(group) <= set(ACTIONS)
        train, val, test = (set(pairs(group, split)) for split in ("train", "val", "test"))
        assert val
        assert test
        assert not train & val | train & test | val & test
        assert len(train | val | test) == len(group) ** 2


def test_people_of_a_crowd_hide_each_other() -> None:
    """Hidden shares are those of the people drawn alone; a person in front of all others is hidden by nobody."""
    hidden = column("crowd", "occlusion").reshape(-1, 4)
    assert (hidden.max(1) > 0.2).all()
    assert (hidden.min(1) < 0.15).all()
    assert hidden.mean() > 0.12
    for photo in photos("crowd"):
        assert len({one.jpeg for one in photo}) == 1
        assert len({one.columns["subject"] for one in photo}) == 4
        nearest = min(photo, key=lambda one: one.columns["distance"])
        assert nearest.columns["occlusion"] < 0.5
    assert column("studio", "occlusion").max() < 1e-6


def test_a_person_s_hidden_share_is_what_is_missing_in_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from hmrb.synthetic import photos as module

    drawn: list[np.ndarray] = []
    composed: list[np.ndarray] = []
    compose = module._compose

    def spy(image: np.ndarray, layers: list, side: int) -> tuple:
        drawn.extend(rgba(layer, side)[..., 3] for layer in layers)
        made = compose(image, layers, side)
        composed.extend(made[0])
        return made

    monkeypatch.setattr(module, "_compose", spy)
    people = render_photo(body(), "crowd", "train", 0, 0)
    whole, seen = np.stack(drawn), np.stack(composed)
    assert (seen.sum(0) <= 1 + 1e-6).all()  # no sample is drawn twice
    assert (seen <= whole + 1e-6).all()
    shares = 1 - seen.sum((1, 2)) / whole.sum((1, 2))
    np.testing.assert_allclose([one.columns["occlusion"] for one in people], shares, atol=1e-5)


def test_who_lies_lies_and_who_sits_is_bent() -> None:
    people = everybody("seated", count=16)
    lying = [one for one in people if str(one.columns["action"]).startswith("lie")]
    sitting = [one for one in people if str(one.columns["action"]).startswith("sit")]
    assert len(lying) > 2
    assert len(sitting) > 2
    for one in lying:
        trunk = one.keypoints3d[12, :3] - one.keypoints3d[0, :3]
        assert abs(trunk[1]) < 0.8 * np.linalg.norm(trunk)  # of a standing person about 0.95
    thighs = np.array([one.keypoints3d[4, :3] - one.keypoints3d[1, :3] for one in sitting])
    trunks = np.array([one.keypoints3d[12, :3] - one.keypoints3d[0, :3] for one in sitting])
    cosines = (thighs * trunks).sum(1) / np.linalg.norm(thighs, axis=1) / np.linalg.norm(trunks, axis=1)
    assert np.median(cosines) > -0.4  # of a standing person -1


def test_domains_differ_in_what_their_names_say() -> None:
    assert column("closeup", "truncation").min() > 0.1
    assert column("wide", "fov").min() > 50
    assert max(column(name, "fov").max() for name in ("studio", "street", "crowd", "sport")) < 50
    light = {name: np.mean([picture(one).mean() for one in everybody(name)]) for name in ("lowlight", "studio")}
    assert light["lowlight"] < 0.5 * light["studio"]
    assert len(set(column("studio", "subject", 16))) <= 8
    assert len(set(column("street", "subject", 16))) > 8


def test_a_photo_does_not_depend_on_the_others() -> None:
    again = render_photo(body(), "crowd", "train", 0, 2)
    assert [one.jpeg for one in again] == [one.jpeg for one in photos("crowd")[2]]
    assert [one.name for one in again] == ["train/000002"] * 4
    with pytest.raises(UnknownName, match=r"no domain named 'studo'. Did you mean 'studio'"):
        render_photo(body(), "studo", "train", 0, 0)


def test_the_table_of_sources_counts_people_as_the_domains_do() -> None:
    assert {name: rules.people for name, rules in DOMAINS.items()} == domains.DOMAINS
    assert {name for name in CONVERTERS if name.startswith("synthetic_")} == {
        "synthetic_full", "synthetic_hidden", *(f"synthetic_{name}" for name in DOMAINS), "synthetic_street_2d",
        "synthetic_studio_3d", "synthetic_street_fits",
    }  # fmt: skip


def test_sets_with_fewer_labels_have_only_those(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same photos as the exact set's; fits follow the joints without being exact, however many are wanted."""
    monkeypatch.setattr(domains, "FITTED_PHOTOS", 4)
    monkeypatch.setattr(fits, "FIT_STEPS", 40)
    exact, flat, solid = (
        [one for item in plan.items for one in plan.read(item)]
        for name in ("street", "street_2d", "studio_3d")
        for plan in CONVERTERS[f"synthetic_{name}"].plan(people=2)[:1]
    )
    (plan,) = CONVERTERS["synthetic_street_fits"].plan(people=6)
    fitted = [one for item in plan.items for one in plan.read(item)]
    (fewer,) = CONVERTERS["synthetic_street_fits"].plan(people=3)
    assert [one.pose.tobytes() for one in fitted[:3]] == [one.pose.tobytes() for one in fewer.read(0)]
    assert [one.jpeg for one in exact] == [one.jpeg for one in flat] == [one.jpeg for one in fitted[:2]]
    assert len(fitted) == 6
    assert not any(one.has_body or one.pose.any() or one.keypoints3d.any() for one in flat)
    assert all(one.keypoints3d[:, 3].all() and not one.has_body for one in solid)
    for one, truth in zip(fitted, exact, strict=False):
        assert one.has_body
        assert not one.keypoints3d.any()
        mesh = body()(rotvec_to_rotmat(torch.from_numpy(one.pose))[None], torch.from_numpy(one.betas)[None])
        chain = mesh.chain[0].numpy() + one.transl
        flat_px = 5 * 96 * chain[:, :2] / chain[:, 2:] + (96 - 1) / 2
        error = np.linalg.norm(flat_px - truth.keypoints2d[:24, :2], axis=1).mean() / max(truth.box[2:])
        assert 0.002 < error < 0.06
        assert np.abs(one.pose - truth.pose).max() > 0.05


@pytest.mark.parametrize("name", ["synthetic_crowd", "synthetic_street_2d"])
def test_a_converted_domain_passes_verify(name: str, tmp_path) -> None:
    source, store = CONVERTERS[name], Store(tmp_path)
    infos = convert(source, source.plan(people=24)[:1], store, ConversionOptions("a test"), ProgressReporter())
    assert [info.num_people for info in infos] == [24]
    wrong = [check for check in verify(Shard(store.shard(name, "train")), store, None) if check.verdict == "wrong"]
    assert wrong == []
