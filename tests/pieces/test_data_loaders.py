"""Loaders for a task, and the registry of collators."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from dovetail.data.collators import ClassificationCollator, DefaultCollator
from dovetail.data.token_collators import LanguageModelingCollator, SequenceToSequenceCollator
from dovetail.data.vision import VisionCollator
from dovetail.kernel.component import PluginError
from dovetail.pieces import CollatorRegistry, DataLoaderConfig, DataLoaderFactory


@pytest.mark.parametrize(
    "task, expected",
    [
        ("language_modeling", LanguageModelingCollator),
        ("classification", ClassificationCollator),
        ("sequence_to_sequence", SequenceToSequenceCollator),
        (SimpleNamespace(task_type="image_classification", modality="vision"), VisionCollator),
        (SimpleNamespace(task_type="anything", modality="vision"), VisionCollator),
        (SimpleNamespace(task_type="regression"), DefaultCollator),
    ],
)
def test_a_task_has_its_collator(task, expected):
    """The task is a name, or an object with attributes."""
    samples = {
        LanguageModelingCollator: [torch.arange(3)] * 4,
        SequenceToSequenceCollator: [(torch.arange(3), torch.arange(2))] * 4,
        VisionCollator: [(torch.zeros(1, 2, 2), 0)] * 4,
    }.get(expected, [(torch.zeros(3), 0)] * 4)

    loader = DataLoaderFactory(task, num_workers=0).create_loader(samples, DataLoaderConfig(batch_size=4))
    (batch,) = loader

    reference = expected()(samples)
    assert batch.keys() == reference.keys()
    if not isinstance(batch["inputs"], dict):
        assert torch.equal(batch["inputs"], reference["inputs"])


def order(loader):
    """Return the samples in the order of an epoch."""
    return [int(target) for batch in loader for target in batch["targets"]]


def test_an_evaluation_reads_every_sample_once_in_order():
    """The config does not matter; training is shuffled by seed, and drops a short batch if the config says so."""
    samples = [(torch.zeros(2), number) for number in range(10)]
    config = DataLoaderConfig(batch_size=4, shuffle=True, drop_last=True)
    factory = DataLoaderFactory("regression", num_workers=0)

    training, again = factory.create_loader(samples, config), factory.create_loader(samples, config)
    other = DataLoaderFactory("regression", seed=43, num_workers=0).create_loader(samples, config)

    assert order(factory.create_loader(samples, config, is_eval=True)) == list(range(10))
    assert len(order(training)) == 8
    assert order(training) == order(again)
    assert order(training) != order(other)
    assert sorted(order(factory.create_loader(samples))) == list(range(10))


@pytest.mark.slow
def test_workers_give_the_same_batches():
    """Reading ahead in processes changes only the speed."""
    samples = [(torch.full((2,), float(number)), number) for number in range(20)]
    config = DataLoaderConfig(batch_size=3)

    few = DataLoaderFactory("regression", num_workers=0).create_loader(samples, config)
    many = DataLoaderFactory("regression", num_workers=2).create_loader(samples, config)

    assert order(many) == order(few)


def test_a_registered_collator_is_found_by_name():
    """It takes precedence over an installed collator of the same name, in this registry only."""
    registry = CollatorRegistry()

    def mine(samples):
        """Return the samples as they are."""
        return {"inputs": torch.stack([inputs for inputs, _ in samples]) + 1, "targets": torch.tensor([0])}

    registry.register("custom", mine)
    registry.register("vision", mine)

    assert registry.get("custom") is mine
    assert isinstance(registry.get("language_modeling"), LanguageModelingCollator)
    assert isinstance(CollatorRegistry().get("vision"), VisionCollator)
    factory = DataLoaderFactory("detection", num_workers=0, collators=registry)
    (batch,) = factory.create_loader([(torch.zeros(1), 0)])
    assert batch["inputs"].tolist() == [[1.0]]
    with pytest.raises(TypeError, match="'x': a collator is called with a list of samples, but int is not callable"):
        registry.register("x", 3)
    with pytest.raises(TypeError, match="'x': register an object, not the class VisionCollator"):
        registry.register("x", VisionCollator)
    with pytest.raises(ValueError, match="'custom' is already registered"):
        registry.register("custom", mine)
    with pytest.raises(PluginError, match="did you mean 'vision'"):
        registry.get("vison")


def test_a_batch_size_below_one_is_refused():
    """The constructor of the config raises."""
    with pytest.raises(ValueError, match="'batch_size' must be >= 1: 0"):
        DataLoaderConfig(batch_size=0)
