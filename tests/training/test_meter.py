"""What limits a run is measured and said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hmrb.parallel.world import World
from hmrb.training import meter as meter_module
from hmrb.training.logger import run_logger
from hmrb.training.meter import DeviceClock, Meter, Shares


@pytest.mark.parametrize(
    ("data_wait", "device_share", "device_lag", "limit"),
    [
        (0.5, 0.5, 0.5, "loader"),
        (0.02, 0.98, 0.98, "device"),
        (0.3, 0.99, 0.4, "device"),  # the host waited, but beside the device's queue
        (0.0, 0.99, 0.01, "host"),  # the device waited within steps
        (0.09, 0.5, 0.0, "host"),  # the device was idle between steps, but not for data
    ],
)
def test_a_run_has_one_limit(data_wait: float, device_share: float, device_lag: float, limit: str) -> None:
    assert Shares(data_wait, device_share, device_lag).limit == limit


class Clock:
    """The time of the host, and of a device that works through its queue."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = self.device = 100.0
        monkeypatch.setattr(meter_module.time, "perf_counter", lambda: self.host)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: self.drain())
        monkeypatch.setattr(DeviceClock, "_event", lambda _: FakeEvent(self))

    def queue(self, host_s: float, device_s: float) -> None:
        """The host takes a time to queue kernels that the device then takes a time for."""
        self.device = max(self.device, self.host) + device_s
        self.host += host_s
        self.device = max(self.device, self.host)

    def drain(self) -> None:
        self.host = self.device = max(self.host, self.device)


class FakeEvent:
    def __init__(self, clock: Clock) -> None:
        self.at = max(clock.device, clock.host)

    def elapsed_time(self, end: "FakeEvent") -> float:
        return 1e3 * (end.at - self.at)


@pytest.mark.parametrize(
    ("wait_s", "host_s", "device_s", "limit"),
    [(0.0, 0.1, 1.0, "device"), (0.0, 1.0, 0.2, "host"), (2.0, 0.1, 1.0, "loader")],
)
def test_events_tell_what_a_gpu_waits_for(
    monkeypatch: pytest.MonkeyPatch, wait_s: float, host_s: float, device_s: float, limit: str
) -> None:
    clock, steps = Clock(monkeypatch), 10
    meter = Meter(World(0, 1, torch.device("cuda", 0)))

    def batches() -> Any:
        for _ in range(steps):
            clock.host += wait_s
            yield torch.zeros(0)

    for _ in meter.waits(batches()):
        meter.begin()
        clock.queue(host_s, device_s)
        meter.add({"total": torch.ones(())}, 4)
    clock.drain()  # as reading the losses does
    facts = meter.facts()
    shares = meter.shares()
    assert shares is not None
    assert shares.limit == limit
    assert facts["device_share"] == pytest.approx(shares.device_share)
    assert facts["data_wait"] == pytest.approx(shares.data_wait, abs=1e-3)  # exchanged in thousandths
    assert 0 <= shares.device_share <= 1


def test_a_run_of_no_steps_has_no_limit() -> None:
    assert Meter(World(0, 1, torch.device("cpu"))).shares() is None


def test_the_limit_is_said_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_logger(tmp_path) as logger:
        logger.start(0, 10, 5)
        logger.limited(10, Shares(0.4, 0.6, 0.6))
    assert "40% waited for data" in capsys.readouterr().out
    line = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    shares = {"data_wait": 0.4, "device_share": 0.6, "device_lag": 0.6}
    assert line == {"step": 10, "limit": {"by": "loader", **shares}}
