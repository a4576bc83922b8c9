"""Shards at a URL: read, trained on, evaluated, verified and written; what goes wrong names the object."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Done, hmrb, refused, spec_file
from conftest import person, write_shard, write_tiny_store

from hmrb import objects, urls
from hmrb.checkpoint import Run, load_checkpoint
from hmrb.data import ranges
from hmrb.data.ahead import Ahead
from hmrb.data.checksums import check_once, computed_sha
from hmrb.data.loader import StepDraws
from hmrb.data.remote import sums_path
from hmrb.data.shard import Shard, ShardError
from hmrb.errors import RequestError, RunError
from hmrb.store import Store

PEOPLE = [person(index) for index in range(12)]


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMRB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(objects, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(ranges, "_stopped", [])
    monkeypatch.setattr(ranges, "_added", {})


@pytest.fixture
def far(tmp_path: Path) -> Store:
    """A store at a file:// URL with one shard."""
    store = Store.at(f"file://{tmp_path}/far")
    write_shard(store.shard("synthetic", "train"), PEOPLE)
    return store


def there(store: Store, name: str = "synthetic_train.h5") -> Path:
    """The file behind a file:// URL."""
    return Path(store.url.removeprefix("file://")) / "shards" / name


def damage(store: Store, image: int) -> None:
    """Flip a bit in the middle of a picture."""
    shard = Shard(store.shard("synthetic", "train"))
    assert shard.ranges
    _, start, stop = shard.ranges._place(image)
    with open(there(store), "r+b") as file:
        file.seek((start + stop) // 2)
        byte = file.read(1)[0]
        file.seek((start + stop) // 2)
        file.write(bytes([byte ^ 1]))


def test_people_are_those_of_a_local_shard(far: Store, tmp_path: Path) -> None:
    here, away = Shard(write_shard(tmp_path / "here.h5", PEOPLE)), Shard(far.shard("synthetic", "train"))
    assert away.info == here.info
    for row in range(len(here)):
        ours, theirs = here.read(row), away.read(row)
        assert ours.jpeg == theirs.jpeg
        np.testing.assert_array_equal(ours.pose, theirs.pose)
    assert away.place == f"{far.url}/shards/synthetic_train.h5"
    assert computed_sha(away) == here.info.sha


def test_only_labels_are_copied_and_their_folder_is_named_by_the_hash(far: Store) -> None:
    shard = Shard(far.shard("synthetic", "train"))
    assert shard.path.parent.parent.name == shard.info.sha
    assert "jpeg/bytes" not in shard.arrays
    raw = shard.path.read_bytes()
    assert len(raw) == there(far).stat().st_size
    assert PEOPLE[5].jpeg in there(far).read_bytes()
    assert PEOPLE[5].jpeg not in raw


def test_labels_are_compared_with_the_hash_without_reading_pictures(
    far: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = Shard(far.shard("synthetic", "train"))
    monkeypatch.setattr(objects, "read", None)
    assert check_once(shard, far)


def test_damaged_labels_are_refused(far: Store) -> None:
    path = far.shard("synthetic", "train")
    data = bytearray(there(far).read_bytes())
    data[data.index(PEOPLE[4].betas.tobytes())] ^= 1
    there(far).write_bytes(bytes(data))
    found = objects.object_at(f"{far.url}/shards/{path.name}")
    assert found
    objects.write_pointer(path, found)
    with pytest.raises(ShardError, match=f"{far.url}/shards/synthetic_train.h5: computed sha .* labels are damaged"):
        check_once(Shard(path), far)


def test_a_shard_that_changed_is_copied_anew(far: Store) -> None:
    path = far.shard("synthetic", "train")
    old = Shard(path).info.sha
    write_shard(path, PEOPLE[:4])
    new = Shard(path)
    assert (new.info.num_people, new.info.sha == old) == (4, False)
    assert [name for name in os.listdir(there(far).parent) if old in name] == []


def test_a_damaged_picture_names_the_object_and_its_range(far: Store) -> None:
    damage(far, 7)
    shard = Shard(far.shard("synthetic", "train"))
    assert shard.picture(6) == PEOPLE[6].jpeg
    with pytest.raises(RunError, match=f"{far.url}/shards/synthetic_train.h5, bytes [0-9,]+ to .*picture 7 is damaged"):
        shard.picture(7)


def test_a_range_behind_the_end_names_the_object(far: Store) -> None:
    shard = Shard(far.shard("synthetic", "train"))
    os.truncate(there(far), 1000)
    with pytest.raises(RunError, match="synthetic_train.h5, bytes .* bytes came instead of"):
        shard.picture(7)


def test_an_object_that_vanished_is_named(far: Store) -> None:
    shard = Shard(far.shard("synthetic", "train"))
    there(far).unlink()
    with pytest.raises(RunError, match="synthetic_train.h5, bytes .* no longer there"):
        shard.picture(7)


def test_without_checksums_a_shard_is_read_and_said_to_be_unverified(
    far: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    path = far.shard("synthetic", "train")
    for sums in there(far).parent.glob("*.sums"):
        sums.unlink()
    shard = Shard(path)
    assert not sums_path(shard.path).exists()
    assert shard.picture(3) == PEOPLE[3].jpeg
    assert not check_once(shard, far)
    assert f"{far.url}/shards/synthetic_train.h5 has no checksums" in capsys.readouterr().err


def test_kept_pictures_are_read_from_the_disk_and_a_damaged_one_is_fetched_anew(far: Store) -> None:
    path = far.shard("synthetic", "train")
    shard = Shard(path)
    assert shard.picture(2) == PEOPLE[2].jpeg
    kept = ranges.kept_path(shard.info.sha, 2)
    assert kept.read_bytes() == PEOPLE[2].jpeg
    kept.write_bytes(bytes(len(PEOPLE[2].jpeg)))
    assert Shard(path).picture(2) == PEOPLE[2].jpeg
    there(far).unlink()
    assert Shard(shard.path).picture(2) == PEOPLE[2].jpeg


def test_the_folder_of_kept_pictures_stays_within_its_limit(far: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "FOLDERS", 1)
    monkeypatch.setenv("HMRB_CACHE_GB", "0.00001")  # 10 kB, some four pictures
    shard = Shard(far.shard("synthetic", "train"))
    for image in range(12):
        assert shard.picture(image) == PEOPLE[image].jpeg
    sizes = [path.stat().st_size for path in (objects.cache_root() / "pictures").rglob("*-*")]
    assert 0 < sum(sizes) <= 10_000


def test_a_full_disk_stops_keeping_pictures_but_not_reading(
    far: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = Shard(far.shard("synthetic", "train"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ranges.tempfile, "mkstemp", full)
    assert [shard.picture(image) == PEOPLE[image].jpeg for image in (2, 5)] == [True, True]
    told = capsys.readouterr().err
    assert told.count("no longer kept there (No space left on device)") == 1


def test_a_full_disk_ends_the_copy_of_labels_with_one_message(far: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = far.shard("synthetic", "train")
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(objects.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RunError, match=f"{far.url}/shards/synthetic_train.h5: its copy .* are needed.*HMRB_CACHE"):
        Shard(path)
    assert not list(objects.cache_root().rglob(".part-*"))


def test_failures_that_pass_are_repeated(far: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    shard = Shard(far.shard("synthetic", "train"))
    files = fsspec.filesystem("file")
    asked, true = [], type(files).cat_file

    def flaky(self: object, *words: object, **options: object) -> bytes:
        asked.append(words)
        if len(asked) % 3:
            raise TimeoutError
        return true(self, *words, **options)

    monkeypatch.setattr(type(files), "cat_file", flaky)
    assert shard.picture(0) == PEOPLE[0].jpeg
    monkeypatch.setattr(type(files), "cat_file", lambda *_, **__: b"short")
    with pytest.raises(RunError, match="5 bytes came instead of 100 .6 attempts"):
        objects.read(shard.place, 0, 100)


def test_pictures_of_the_next_batches_of_a_worker_are_fetched_once(far: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = Shard(far.shard("synthetic", "train"))
    fetched: list[int] = []
    true = ranges.Ranges._fetched

    def count(self: ranges.Ranges, images: list[int]) -> dict[int, bytes]:
        fetched.extend(images)
        return true(self, images)

    monkeypatch.setattr(ranges.Ranges, "_fetched", count)
    draws = StepDraws(3, 0, 4, 0, 1)
    dataset = Ahead([None] * 12, {"a": shard}, draws, draws.number, lambda draw: ("a", draw))
    dataset.__getitems__([0, 1, 2])
    assert [shard.picture(image) == PEOPLE[image].jpeg for image in range(9)] == [True] * 9
    assert sorted(fetched) == list(range(9))


def test_training_evaluation_predict_and_verify_give_what_a_local_store_gives(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/far"
    write_tiny_store(tmp_path / "far")
    spec = spec_file(tmp_path)

    def run(home: str, out: str) -> dict[str, Done]:
        folder = str(tmp_path / out)
        return {
            "train": hmrb("train", spec, "--out", folder, "--set", "optim.epochs=1", HMRB_HOME=home),
            "eval": hmrb("eval", folder, "--bench", "synthetic", "--json", HMRB_HOME=home),
            "predict": hmrb(
                "predict", folder, f"{home}/shards/synthetic_test.h5", "-o", f"{folder}/out", HMRB_HOME=home
            ),
        }

    here, away = run(str(tmp_path / "far"), "a"), run(url, "b")
    assert [done.returncode for done in (*here.values(), *away.values())] == [0] * 6, away["eval"].stderr

    one, two = (load_checkpoint(Run(tmp_path / out).last).model for out in ("a", "b"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    scores = [json.loads(done["eval"].stdout)[0]["metrics"] for done in (here, away)]
    assert scores[0] == scores[1] != {}
    people = [np.load(next((tmp_path / out / "out").glob("*.npz"))) for out in ("a", "b")]
    assert all(np.array_equal(people[0][key], people[1][key]) for key in people[0].files)
    names = ("synthetic_train", "synthetic_test")
    checks = [
        json.loads(hmrb("verify", *names, "--json", HMRB_HOME=home).stdout) for home in (str(tmp_path / "far"), url)
    ]
    assert [row["checks"] for row in checks[0]] == [row["checks"] for row in checks[1]]
    assert checks[1][0]["shard"] == f"{url}/shards/synthetic_train.h5"


def test_places_that_cannot_be_read_are_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(hmrb("verify", f"file://{tmp_path}/none.h5"), f"file://{tmp_path}/none.h5: no such object")
    (tmp_path / "text.h5").write_text("hello")
    refused(hmrb("verify", f"file://{tmp_path}/text.h5"), "text.h5: not a readable hmrb shard")
    refused(
        hmrb("verify", "nonsense://bucket/a.h5"), "nonsense://bucket/a.h5: ", "use s3://, gs://, https:// or file://"
    )
    refused(hmrb("verify", "synthetic_test", HMRB_HOME=f"file://{tmp_path}/empty"), f"not in file://{tmp_path}/empty")
    refused(hmrb("verify", f"file://{tmp_path}/a.h5", HMRB_TIMEOUT_S="soon"), "HMRB_TIMEOUT_S=soon: expected a number")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    refused(hmrb("verify", f"file://{tmp_path}/a.h5"), "fsspec is required", "pip install 'hmrb[remote]'")


def test_a_pointer_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(objects.POINTER + b'{"url": "file:///a/..", "size": 3, "version": "1"}')
    with pytest.raises(RequestError, match="named '..'"):
        Shard(path)
    path.write_bytes(objects.POINTER + b"[1]")
    with pytest.raises(RequestError, match="is damaged; delete it"):
        Shard(path)


@pytest.mark.parametrize(
    "place",
    [
        *("http://a:b:c/x", "http://[::1", "https://[zz]/x", "https://a..b/x", "s3://", "s3:///x", "file://"),
        *("https://", "https://:80/x", "s3:/bucket", "S3://bucket", "s3:bucket", "https:/server"),
    ],
)
def test_a_store_at_a_malformed_url_is_refused_at_once(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(done := hmrb("list-benches", "--here", HMRB_HOME=place), place, "not a URL", "s3://bucket/folder")
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_a_malformed_url_of_a_shard_is_refused() -> None:
    refused(hmrb("verify", "http://a:b:c/shards/a_val.h5"), "http://a:b:c/shards/a_val.h5: not a URL")


@pytest.mark.parametrize("place", ["s3://x", "s3:/x", "https://server/x"])
def test_a_cache_is_a_folder_of_this_machine(tmp_path: Path, place: str) -> None:
    done = hmrb("list-benches", "--here", HMRB_HOME=f"file://{tmp_path}/far", HMRB_CACHE=place)
    refused(done, f"HMRB_CACHE={place}: a cache is a folder")


@pytest.mark.parametrize(
    "place", ["https://me:secret@127.0.0.1:9/x", "https://me:secret@[zz/x", "https://me:secret@/x"]
)
def test_a_password_in_a_url_is_in_no_message_and_no_file(place: str, tmp_path: Path) -> None:
    for words in (("list-benches", "--here"), ("verify", f"{place}/shards/a_val.h5")):
        done = hmrb(*words, HMRB_HOME=place)
        assert done.returncode == 2
        assert "secret" not in done.stdout + done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


def test_requests_have_the_login_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(urls.LOGINS, "{}")
    assert urls.url_of("https://me:secret@server/x/") == "https://server/x"
    assert urls.with_login("https://server/x/shards") == "https://me:secret@server/x/shards"
    assert urls.with_login("https://other/x") == "https://other/x"
    assert urls.url_of("abfs://container@account/x") == "abfs://container@account/x"
