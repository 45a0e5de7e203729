"""The device and precision of a run, and torch's settings, which end with it."""

from __future__ import annotations

import contextlib

import pytest
import torch

from dovetail.checkpoint.format import read_checkpoint
from dovetail.config.diagnostics import ConfigError
from dovetail.main import run
from dovetail.train import hardware
from dovetail.train.hardware import DeviceError, resolve_device, torch_settings
from small_runs import Keep, small


@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32"])
def test_every_precision_learns_and_restores_torchs_settings(tmp_path, precision):
    """Autocast, the scaler and TF32 work with accumulation and a schedule, and end with the run."""
    keep = Keep()
    before = torch.backends.cuda.matmul.fp32_precision
    config = small(
        tmp_path,
        optimizer={"type": "adamw", "lr": 0.05},
        training={"max_epochs": 4, "precision": precision, "accumulate": 2},
        scheduler={"type": "warmup_cosine"},
        callbacks={"keep": keep},
    )
    outcome = run(config).check()

    assert outcome.test_metrics["test_accuracy"] > 0.9
    assert (keep.run.parts.scaler is not None) == (precision == "fp16")
    assert all(parameter.dtype == torch.float32 for parameter in keep.run.parts.model.parameters())
    assert torch.backends.cuda.matmul.fp32_precision == before
    assert not torch.is_autocast_enabled("cpu")


def test_a_checkpoint_holds_the_loss_scale(tmp_path):
    """And for how many updates it has held."""
    keep = Keep()
    run(small(tmp_path, training={"precision": "fp16", "test": False}, callbacks={"keep": keep})).check()
    saved = read_checkpoint(keep.run.checkpoints.latest().path)["scaler"]

    assert saved == keep.run.parts.scaler.state_dict()
    assert saved["_growth_tracker"] > 0


@pytest.mark.parametrize(
    "name,message",
    [
        ("gpu", r"'gpu' is no device; choose 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'"),
        ("cuda:99", r"'cuda:99' is not available: .*; 'auto' picks an available device"),
        ("meta", r"'meta': only 'cpu', 'cuda' and 'mps' devices are supported"),
    ],
)
def test_an_unavailable_device_is_refused(name, message):
    """It never falls back to another one."""
    with pytest.raises(DeviceError, match=message):
        resolve_device(name)


def test_a_run_on_an_unavailable_device_is_refused(tmp_path):
    """The error has the place of the setting."""
    with pytest.raises(ConfigError, match=r"hardware\.device: 'cuda:99' is not available"):
        run(small(tmp_path, hardware={"device": "cuda:99"}))


def test_auto_picks_an_available_device():
    """On every machine a tensor can be made there."""
    device = resolve_device("auto")

    assert torch.ones(2, device=device).sum() == 2
    assert resolve_device(str(device)) == device
    assert resolve_device("cpu") == torch.device("cpu")


def test_more_devices_than_processes_are_refused(tmp_path):
    """The message says how to start them."""
    with pytest.raises(ConfigError, match=r"hardware\.devices: 2 devices need as many processes, but 1 were started"):
        run(small(tmp_path, hardware={"devices": 2, "strategy": "ddp"}))


def test_settings_of_torch_are_restored_after_an_error():
    """Threads, precision of matrix products, and deterministic algorithms, whoever changed them meanwhile."""
    threads, matmul = torch.get_num_threads(), torch.backends.cuda.matmul.fp32_precision
    deterministic, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark

    with contextlib.suppress(ZeroDivisionError), torch_settings(threads=threads + 1, tf32=True):
        assert torch.get_num_threads() == threads + 1
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        torch.use_deterministic_algorithms(mode=not deterministic)
        torch.backends.cudnn.benchmark = not benchmark
        raise ZeroDivisionError

    assert torch.get_num_threads() == threads
    assert torch.backends.cuda.matmul.fp32_precision == matmul
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.backends.cudnn.benchmark == benchmark


def test_mixed_precision_for_a_loop_of_your_own():
    """TF32 is allowed for the whole process; a CPU has no tensor cores."""
    with torch_settings(tf32=True):  # restores what follows
        hardware.enable_mixed_precision()
        assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "tf32"
    assert not hardware.check_mixed_precision_support("cpu")
