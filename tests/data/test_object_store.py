"""An S3 server on loopback, behind a proxy with latency and failures: written, read, trained on, killed and resumed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from command import hmrb, refused
from conftest import person, tiny_tree, write_shard, write_tiny_store

from hmrb import objects
from hmrb.data.shard import Shard
from hmrb.errors import RequestError, RunError
from hmrb.store import Store

pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")
from own_s3 import ACCESS, BUCKET, Proxy, s3  # noqa: E402

TESTS = Path(__file__).parents[1]
PEOPLE = [person(index) for index in range(40)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with s3(tmp_path_factory.mktemp("s3") / "log") as proxy:
        yield proxy


@pytest.fixture
def proxy(server: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """The proxy without trouble, an empty cache, and the bucket."""
    for key, value in (ACCESS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}"}).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("HMRB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server.trouble = type(server.trouble)()
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    if not files.exists(BUCKET):
        files.mkdir(BUCKET)
    return server


def place(tmp_path: Path) -> str:
    return f"s3://{BUCKET}/{tmp_path.name}"


def test_a_shard_is_written_whole_and_read_by_ranges(proxy: Proxy, tmp_path: Path) -> None:
    proxy.trouble.failures = 0.2
    store = Store.at(place(tmp_path))
    path = write_shard(store.shard("synthetic", "train"), PEOPLE)
    away = Shard(path)
    assert away.info == Shard(write_shard(tmp_path / "here.h5", PEOPLE)).info
    assert away.ranges
    away.ranges.ahead(range(40))
    before = proxy.trouble.requests
    assert [away.picture(image) == PEOPLE[image].jpeg for image in range(40)] == [True] * 40
    assert proxy.trouble.requests - before <= 2  # 40 neighbours are one range, perhaps repeated
    assert proxy.trouble.failed


def test_damage_on_the_way_silence_and_refusals_name_the_object(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{place(tmp_path)}/shards/synthetic_train.h5"
    shard = Shard(write_shard(Store.at(place(tmp_path)).shard("synthetic", "train"), PEOPLE))
    proxy.trouble.is_damaging = True
    with pytest.raises(RunError, match=f"{url}, bytes .* picture 9 is damaged"):
        shard.picture(9)
    proxy.trouble.is_damaging = False
    assert shard.picture(9) == PEOPLE[9].jpeg
    monkeypatch.setattr(objects, "ATTEMPTS", 2)
    monkeypatch.setenv("HMRB_TIMEOUT_S", "0.3")
    proxy.trouble.is_silent = True
    with pytest.raises(RunError, match=f"{url}, bytes .* no answer within 0.3 s .2 attempts"):
        shard.picture(30)
    proxy.trouble.is_silent = False
    monkeypatch.delenv("HMRB_TIMEOUT_S")
    with pytest.raises(RequestError, match="s3://nobody-has-this/shards: no such bucket"):
        Store.at("s3://nobody-has-this")
    for key in ACCESS:
        monkeypatch.delenv(key)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    refused(hmrb("verify", url), f"{url}: no access (Unable to locate credentials); credentials are read where")


def command(*words: str, wait: bool = True, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path]), "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    if wait:
        process.out, process.err = process.communicate(timeout=300)  # type: ignore[attr-defined]
    return process


def upload_tiny_store(url: str, tmp_path: Path) -> Path:
    """A local store with three shards, and the same at a URL, as a plain copy and without checksums."""
    local = write_tiny_store(tmp_path / "home").root
    for path in (local / "shards").glob("*.h5"):
        objects.upload(path, f"{url}/shards/{path.name}")
    return local


@pytest.mark.heavy
def test_several_processes_train_through_failures_and_a_killed_run_resumes_to_the_same_weights(
    proxy: Proxy, tmp_path: Path
) -> None:
    import torch

    from hmrb.checkpoint import Run, load_checkpoint

    url = place(tmp_path)
    local = upload_tiny_store(url, tmp_path)
    proxy.trouble.latency_s, proxy.trouble.failures = 0.02, 0.01
    spec = tmp_path / "tiny.yaml"
    tree = tiny_tree()
    tree["data"]["workers"] = 2
    spec.write_text(yaml.safe_dump(tree))

    def train(run: str, home: str, *words: str, **environment: str) -> subprocess.Popen[str]:
        folder = str(tmp_path / run)
        return command(
            str(TESTS / "driver.py"), "train", str(spec), "--out", folder, *words, HMRB_HOME=home, **environment
        )

    for run, home, words, fault in (
        ("here", str(local), (), ""),
        ("away", url, (), ""),
        ("killed", url, ("--set", "data.workers=0"), "kill_step:6"),
        ("killed", url, ("--set", "data.workers=0", "--resume"), ""),
    ):
        done = train(run, home, *words, FAULT=fault)
        assert done.returncode == (-signal.SIGKILL if fault else 0), done.err
    runs = [load_checkpoint(Run(tmp_path / run).last).model for run in ("here", "away", "killed")]
    for other in runs[1:]:
        assert all(torch.equal(runs[0][key], other[key]) for key in runs[0])
    assert proxy.trouble.requests > 40  # three epochs of 20 pictures, kept on disk


@pytest.mark.heavy
def test_a_killed_conversion_to_a_store_elsewhere_resumes_to_the_same_shard(proxy: Proxy, tmp_path: Path) -> None:
    proxy.trouble.failures = 0.01
    url = place(tmp_path)
    assert command(str(TESTS / "making.py"), str(tmp_path / "home"), "1").returncode == 0
    killed = command(str(TESTS / "making.py"), url, "1", FAULT="kill:11")
    assert killed.returncode == -signal.SIGKILL
    assert objects.listed(f"{url}/shards") == {}
    done = command(str(TESTS / "making.py"), url, "2")
    assert done.returncode == 0, done.err
    here, away = (Store.at(home).shard("lsp", "train") for home in (str(tmp_path / "home"), url))
    assert Shard(here).info.sha == Shard(away).info.sha
    assert away.stat().st_size < 500


@pytest.mark.heavy
def test_an_upload_that_is_killed_leaves_no_shard_and_is_sent_again(proxy: Proxy, tmp_path: Path) -> None:
    url = place(tmp_path)
    proxy.trouble.latency_s = 0.5
    process = command(str(TESTS / "making.py"), url, "1", wait=False)
    while not list((tmp_path / "cache").rglob("lsp_train.h5")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    proxy.trouble.latency_s = 0
    assert "lsp_train.h5" not in objects.listed(f"{url}/shards")
    done = command(str(TESTS / "making.py"), url, "1")
    assert done.returncode == 0, done.err
    assert "lsp_train.h5" in objects.listed(f"{url}/shards")
