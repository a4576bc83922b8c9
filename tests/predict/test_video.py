"""Videos in, videos out: frames, times, tracks, and what is wrong with a video in one message."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from command import Done, hmrb, refused
from photos import noise, untrained

from hmrb.predict.video import tracks, write_video

av = pytest.importorskip("av")
FRAMES = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("run") / "best.pt")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_video(path, [noise(96, 64, seed=number) for number in range(FRAMES)], 24)
    return path


def predict(model: Path, clip: Path, out: Path, *more: str) -> Done:
    return hmrb("predict", str(model), str(clip), "-o", str(out), "--whole", "--device", "cpu", *more)


def test_a_video_gives_parameters_per_frame_and_a_video(model: Path, clip: Path, tmp_path: Path) -> None:
    done = predict(model, clip, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"{FRAMES} people in {FRAMES} pictures" in done.stdout
    listed = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert listed == [".plan.json", "clip_overlay.mp4", "predictions.npz"]
    table = np.load(tmp_path / "out" / "predictions.npz")
    assert table["frame"].tolist() == list(range(FRAMES))
    assert table["track"].tolist() == [0] * FRAMES
    np.testing.assert_allclose(table["time_s"], np.arange(FRAMES) / 24, atol=1e-3)
    assert table["name"][3] == "clip.mp4/000003"
    with av.open(str(tmp_path / "out" / "clip_overlay.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert video.streams.video[0].average_rate == 24
    assert (len(frames), frames[0].shape) == (FRAMES, (426, 640, 3))
    assert predict(model, clip, tmp_path / "json", "--no-overlay", "--format", "json").returncode == 0
    people = json.loads((tmp_path / "json" / "people.json").read_text())["people"]
    assert [(one["frame"], one["track"]) for one in people] == [(number, 0) for number in range(FRAMES)]
    assert not (tmp_path / "json" / "clip_overlay.mp4").exists()


def test_of_a_video_that_is_cut_short_the_frames_so_far_are_kept(model: Path, clip: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.mp4"
    with av.open(str(clip)) as source, av.open(str(short), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = short.read_bytes()
    short.write_bytes(data[: len(data) * 2 // 3])
    done = predict(model, short, tmp_path / "out")
    refused(done, "were left out", "short.mp4: the video is cut short:", f"of {FRAMES} frames are there", code=1)
    kept = len(np.load(tmp_path / "out" / "predictions.npz")["frame"])
    assert 0 < kept < FRAMES
    assert f"{kept} people in {kept} pictures" in done.stdout
    clip.write_bytes(clip.read_bytes()[:500])
    refused(predict(model, clip, tmp_path / "none"), f"{clip}: not a readable video")
    clip.write_text("a letter")
    refused(predict(model, clip, tmp_path / "none"), f"{clip}: not a readable video")
    assert not (tmp_path / "none").exists()


def test_without_pyav_one_message_says_how_to_get_it(
    model: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    refused(predict(model, clip, tmp_path / "out"), "av is required", "pip install 'hmrb[video]'")


def test_tracks_follow_boxes_that_overlap() -> None:
    left, right = np.array([0.0, 0, 10, 20]), np.array([50.0, 0, 10, 20])
    step = np.array([2.0, 0, 0, 0])
    frames = [
        (0.0, np.stack([left, right])),
        (0.1, np.stack([right - step, left + step])),
        (0.2, np.stack([left + 2 * step])),
        (0.3, np.stack([left + 3 * step, right - 2 * step])),
        (2.0, np.stack([left + 3 * step])),
        (2.1, np.zeros((0, 4))),
    ]
    assert list(tracks(frames)) == [[0, 1], [1, 0], [0], [0, 1], [2], []]
