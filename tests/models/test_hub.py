"""A hub that does not answer costs a few seconds once, not minutes for each spec."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmrb.models import hub
from hmrb.models.hub import NoAnswer, asking, silence
from hmrb.models.weights import initialise
from hmrb.spec import ModelSpec

QUICK_S = 0.3


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a hub that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(hub, "LIMIT_S", QUICK_S)
        silence.cache_clear()
        yield address
        silence.cache_clear()


def test_it_is_asked_once_and_the_answer_is_remembered(mute: str, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.perf_counter()
    for _ in range(31):
        with pytest.raises(NoAnswer, match=f"no answer from {mute}"), asking("resnet50.tv_in1k", on_hub=True):
            pytest.fail("timm was asked")
    assert time.perf_counter() - start < 5 * QUICK_S
    assert capsys.readouterr().err == f"hmrb: asking {mute} (at most 0.3 s)\n"


def test_a_name_that_is_never_resolved_takes_no_longer(mute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object) -> str:
        time.sleep(20 * QUICK_S)
        return ""

    monkeypatch.setattr(hub, "_ask", resolve)
    start = time.perf_counter()
    assert silence(mute) == f"no answer from {mute} in 0.3 s"
    assert time.perf_counter() - start < 5 * QUICK_S


def test_the_message_names_the_file_and_its_place(mute: str, tmp_path: Path) -> None:
    from hmrb.errors import RequestError
    from hmrb.models.backbones import build_backbone
    from hmrb.store import Store

    spec = ModelSpec(backbone="resnet50", weights="imagenet", image_px=64, features="mean")
    backbone, _ = build_backbone(spec)
    with pytest.raises(RequestError, match=f"no answer from {mute}") as refusal:
        initialise(backbone, spec, Store(tmp_path))
    (need,) = refusal.value.needs
    assert need.command == f"put resnet50.tv_in1k.safetensors in {tmp_path / 'weights'}"
    assert not need.is_automatic


def test_what_is_in_the_cache_is_used_without_asking(
    mute: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    kept = tmp_path / "hub" / "models--timm--x.y" / "snapshots" / "c0ffee" / "model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"")
    with asking("x.y", on_hub=True):
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    assert capsys.readouterr().err == ""


def test_a_hub_that_refuses_has_answered() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # answers every request with 501
        thread = Thread(target=server.handle_request)
        thread.start()
        assert hub._ask(f"http://127.0.0.1:{server.server_port}", 5.0) == ""
        thread.join()
