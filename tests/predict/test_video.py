"""Videos in, videos out: frames, times, tracks, and what is wrong with a video in one message."""

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Done, hmrb, refused
from photos import jpeg, noise, untrained

from hmrb.formats.pictures import UnreadablePicture
from hmrb.predict.video import tracks, video_pictures, write_video

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


def film(path: Path, codec: str = "libx264", sound_s: float = 0.0, is_varied: bool = False, **options: str) -> Path:
    """A video of 100 frames, 25 in a second (`is_varied`: with four pauses of 0.8 s), and its sound."""
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("libopus", rate=48000, layout="mono") if sound_s else None
        packets = []
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(noise(64, 48, seed=number), format="rgb24")
            frame.pts, frame.time_base = number + is_varied * (number // 20) * 20, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode()
        for number in range(int(sound_s * 50) if sound else 0):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts, silence.time_base = 48000, number * 960, Fraction(1, 48000)
            packets += sound.encode(silence)
        packets += sound.encode() if sound else []
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


FILMS: dict[str, dict[str, Any]] = {
    "film.mkv": {},
    "sound.mkv": {"sound_s": 6.0},
    "varied.mkv": {"is_varied": True},
    "film.webm": {"codec": "libvpx"},
    "sound.webm": {"codec": "libvpx", "sound_s": 2.0},
    "varied.webm": {"codec": "libvpx", "is_varied": True},
    "film.mp4": {"movflags": "faststart"},
    "varied.mp4": {"movflags": "faststart", "is_varied": True},
    "parts.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "film.avi": {"codec": "mpeg4"},
    "stream.mkv": {"live": "1"},  # states nothing
}


@pytest.mark.parametrize("name", FILMS)
def test_a_whole_video_is_whole_and_one_that_is_cut_is_not(name: str, tmp_path: Path) -> None:
    path = film(tmp_path / name, **FILMS[name])
    pictures, _ = video_pictures(path, None)
    assert [picture.frame is not None for picture in pictures] == [True] * 100
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    *kept, last = video_pictures(path, None)[0]
    assert 30 < len(kept) < 70
    if name != "stream.mkv":
        assert last.frame is None
        with pytest.raises(UnreadablePicture, match=rf"cut short: {len(kept)} of (about )?1\d\d frames are there"):
            last.read()


def test_pictures_are_whole_where_only_the_longer_sound_is_cut(tmp_path: Path) -> None:
    path = film(tmp_path / "sound.mkv", sound_s=12.0)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 2000])
    assert len(video_pictures(path, None)[0]) == 100


def test_a_webm_that_is_cut_is_one_message(model: Path, tmp_path: Path) -> None:
    path = film(tmp_path / "film.webm", codec="libvpx")
    path.write_bytes(path.read_bytes()[:9000])
    done = predict(model, path, tmp_path / "out", "--no-overlay")
    refused(done, "film.webm: the video is cut short:", "of about 100 frames are there", "of 4.00 s", code=1)


def test_videos_of_one_stem_get_a_video_each(model: Path, tmp_path: Path) -> None:
    for name, count in (("dance.mp4", 3), ("dance.mkv", 4), ("people.mp4", 2)):
        write_video(tmp_path / "it.mp4", [noise(96, 64, seed=number) for number in range(count)], 24)
        (tmp_path / "it.mp4").rename(tmp_path / name)
    names = [str(tmp_path / name) for name in ("dance.mp4", "dance.mkv", "people.mp4")]
    done = hmrb("predict", str(model), *names, "-o", str(tmp_path / "out"), "--whole", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    lengths = {}
    for path in (tmp_path / "out").glob("*.mp4"):
        with av.open(str(path)) as video:
            lengths[path.name] = video.streams.video[0].frames
    assert lengths == {"dance_overlay.mp4": 3, "dance.mkv_overlay.mp4": 4, "people_overlay.mp4": 2}


def test_beside_a_photo_frames_get_files_only_if_asked(model: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    words = ("predict", str(model), str(clip), str(tmp_path / "a.jpg"), "--whole", "--device", "cpu")
    assert hmrb(*words, "-o", str(tmp_path / "out")).returncode == 0
    listed = sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".")
    photos = ["a.json", "a.npz", "a_1.glb", "a_1.obj", "a_overlay.jpg", "a_views.jpg"]
    assert listed == [*photos, "clip_overlay.mp4", "predictions.npz"]
    assert hmrb(*words, "-o", str(tmp_path / "asked"), "--mesh", "obj").returncode == 0
    frames = {path.name for path in (tmp_path / "asked" / "clip.mp4").iterdir()}
    assert frames == {f"{n:06d}{end}" for n in range(FRAMES) for end in (".json", ".npz", "_1.obj")}
    again = hmrb(*words, "-o", str(tmp_path / "out"), "--overlay")
    refused(again, "files of frames and data: none in the folder, overlay requested")
