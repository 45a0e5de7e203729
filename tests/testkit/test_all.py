"""The checks of the kit together: they find planted defects, and sound components pass."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from dovetail.kernel.component import Component, PluginError
from dovetail.spec.plugins import Plugins
from dovetail.testkit import CheckFailed, run_checks
from dovetail.testkit.runner import select_checks
from dovetail.testkit.subject import Subject
from planted import plugin

LOSSES = {
    "CrossEntropyLoss": ("classification", "soft_labels", "additive"),
    "SmoothL1Loss": ("regression", "additive"),
    "BCEWithLogitsLoss": ("soft_labels", "additive"),
    "PoissonNLLLoss": ("regression", "additive"),
    "MultiLabelSoftMarginLoss": ("soft_labels",),
}
SCHEDULERS = {
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 0.001, "max_lr": 0.1, "step_size_up": 4},
    "MultiStepLR": {"milestones": [2, 4]},
    "ReduceLROnPlateau": {"patience": 2},
}
OPTIMIZERS = ("Adafactor", "LBFGS", "NAdam")


class Torch:
    """A plugin with torch's components under their own signatures."""

    def dovetail_losses(self):
        """Register losses."""
        for name, traits in LOSSES.items():
            yield Component(f"torch.{name}", f"torch.nn:{name}", summary="Torch's own.", traits=traits)

    def dovetail_schedulers(self):
        """Register schedulers."""
        for name, example in SCHEDULERS.items():
            target = f"torch.optim.lr_scheduler:{name}"
            traits = ("cycles_momentum",)
            yield Component(f"torch.{name}", target, summary="Torch's own.", traits=traits, example=example)

    def dovetail_optimizers(self):
        """Register optimizers."""
        for name in OPTIMIZERS:
            yield Component(f"torch.{name}", f"torch.optim:{name}", summary="Torch's own.")


@pytest.fixture(scope="module")
def plugins():
    """The installed plugins, the planted components and torch's own."""
    found = Plugins.discover()
    found.register(plugin, distribution="planted", version="1.0")
    found.register(Torch(), distribution="from-torch")
    return found


def _failures(plugins, name, kind=None):
    results = run_checks(name, kind=kind, plugins=plugins)
    return {result.check: result.message for result in results if result.status == "failed"}


@pytest.mark.parametrize(
    "name, check, message",
    [
        ("planted.argmax", "loss.gradient_reaches_the_logits", "argmax"),
        ("planted.hidden_argmax", "loss.no_hidden_steps", "jumps by"),
        ("planted.detached", "loss.gradient_is_that_of_the_value", ".detach()"),
        ("planted.random", "loss.deterministic", "draws random numbers"),
        ("planted.remembers", "loss.deterministic", "'stateful'"),
        ("planted.remembers", "loss.state_round_trips", "state_dict"),
        ("planted.broadcasts", "loss.too_few_targets_are_refused", "broadcast"),
        ("planted.broadcasts", "loss.wrong_rank_is_refused", "broadcast"),
        ("planted.not_additive", "loss.parts_of_a_batch_add_up", "remove the trait 'additive'"),
        ("planted.overflows", "loss.finite", "log_softmax"),
        ("planted.no_signal", "loss.gradient_reaches_the_inputs", "'signal_gradient' claims"),
        ("planted.untrained", "loss.gradient_reaches_its_parameters", "log_temperature"),
        ("planted.no_hidden", "loss.gradient_reaches_the_hidden_representation", "'hidden_gradient' claims"),
        ("planted.in_place", "loss.leaves_its_inputs_alone", "in place"),
        ("planted.ordered", "loss.order_does_not_matter", "'ordered'"),
        ("bare", "plugin.name_has_a_prefix", "yourco.bare"),
        ("bare", "plugin.summary_is_one_sentence", "no summary="),
        ("planted.one_trait", "plugin.traits_are_spelt_right", "with a comma"),
        ("planted.near_trait", "plugin.traits_are_spelt_right", "did you mean 'additive'?"),
        ("planted.claims_calm", "transform.needs_no_randomness", "claims otherwise"),
        ("planted.required", "plugin.builds", "no example="),
        ("planted.absent", "plugin.signature_is_readable", "NoSuchLoss"),
        ("planted.reserved", "plugin.signature_is_readable", "rename it"),
        ("planted.forgetful", "scheduler.state_round_trips_at_any_step", "must be in state_dict"),
        ("planted.negative", "scheduler.rates_are_finite", "not negative"),
        ("planted.meddling", "scheduler.only_rates_change", "weight_decay"),
        ("planted.drops", "collator.every_sample_is_kept", "a batch of 2 from 3 samples"),
        ("planted.sorts", "collator.every_sample_is_in_its_place", "reordered"),
        ("planted.invents_keys", "collator.batch_has_known_keys", "unknown key 'speed'"),
        ("planted.no_factory", "plugin.builds", "Make it a class with __call__"),
        ("planted.changes_samples", "collator.samples_are_left_alone", "changed the samples"),
        ("planted.half", "storage.readers_see_whole_objects", "partial or mixed"),
        ("planted.half", "storage.a_failed_put_changes_nothing", "partial or mixed"),
        ("planted.half", "storage.a_killed_put_leaves_no_half", "os.replace"),
        ("planted.copies", "storage.a_source_that_fails_changes_nothing", "partial or mixed"),
        ("planted.shows_work", "storage.readers_see_whole_objects", "must not list temporary files"),
        ("planted.trusting", "storage.hostile_keys_are_refused", "ValueError"),
        ("planted.yields_keys", "storage.put_replaces", "list() returns a generator; it must be a list"),
        ("planted.particular", "trainer.completes_a_run", "pass conformance() run="),
        ("planted.second_optimizer", "trainer.completes_a_run", "state_dict() and load_state_dict(state)"),
        ("planted.lists_folders", "storage.behaves_like_a_dictionary", "with this prefix"),
        ("planted.mean_of_means", "metric.batching_does_not_matter", "divide in compute()"),
        ("planted.misspelt", "plugin.lifecycle_hooks_exist", "did you mean 'dovetail_epoch_end'?"),
        ("planted.silent", "callback.has_a_hook", "nothing ever calls it"),
        ("planted.breaks", "callback.takes_part_in_a_run", "val_severity"),
        ("planted.forgets", "callback.state_round_trips", "needs both"),
        ("planted.noisy", "trainer.repeats_itself", "the same tiny run gave"),
        ("planted.mute", "command.helps", "write a docstring"),
        ("planted.bare_function", "command.is_a_click_command", "not a click.Command"),
        ("planted.typo", "profile.is_a_layer_of_config", "did you mean 'max_epochs'?"),
        ("planted.changing", "dataset.indexing_is_deterministic", "differs when read again"),
        ("planted.batch_stream", "transform.address_decides", "use draws instead"),
        ("planted.batch_mean", "transform.sample_is_its_own", "'mixes_samples'"),
        ("planted.batch_in_place", "transform.batch_is_kept", "in place"),
        ("planted.batch_calm", "transform.whatever_is_drawn", "claims otherwise"),
        ("planted.own_generator", "transform.seeds_decide", "generator of its own"),
        ("planted.leaky", "model.samples_do_not_mix_in_evaluation", "other samples of its batch"),
        ("planted.amnesiac", "optimizer.state_round_trips", "not in its state_dict"),
    ],
)
def test_the_right_check_finds_a_planted_defect(plugins, name, check, message):
    """The check for the defect fails with a helpful message."""
    subject = Subject.find(name, plugins=plugins)
    (selected,) = [candidate for candidate in select_checks(subject, {}) if candidate.name == check]

    with pytest.raises(CheckFailed) as failure:
        selected.run(subject)

    assert message in str(failure.value)


def test_few_checks_report_a_defect(plugins):
    """A collator that drops samples fails only the two checks for that."""
    assert set(_failures(plugins, "planted.drops")) == {
        "collator.every_sample_is_kept",
        "collator.every_sample_is_in_its_place",
    }


@pytest.mark.parametrize(
    "name, kind",
    [
        ("planted.sound", "loss"),
        ("planted.every_option", "loss"),
        ("planted.sawtooth", "scheduler"),
        ("planted.sound_store", "storage"),
        ("planted.stack", "collator"),
    ],
)
def test_sound_components_pass(plugins, name, kind):
    """The sound components that the planted ones derive from pass every check."""
    assert _failures(plugins, name, kind) == {}


@pytest.mark.parametrize(
    "module, name, check, message",
    [
        ("planted.heavy", "planted.heavy", "plugin.descriptor_needs_no_torch", "heavy.py:5"),
        ("planted.loud", "planted.loud", "plugin.descriptor_imports_quietly", "thank you for installing"),
    ],
)
def test_a_descriptor_is_imported_in_a_new_interpreter(module, name, check, message):
    """A descriptor that imports torch or prints fails, and the message names the line or the output."""
    plugins = Plugins.discover()
    plugins.register(importlib.import_module(module), distribution="planted")

    failures = _failures(plugins, name)

    assert message in failures[check]
    assert not [name for name in failures if name.startswith("plugin.") and name != check]


def test_a_misspelt_registration_hook_is_named():
    """The error for a component of a plugin with a misspelt hook suggests the right hook."""
    plugins = Plugins.discover()
    plugins.register(importlib.import_module("planted.misspelt"), distribution="planted")

    with pytest.raises(PluginError, match="unknown hook 'dovetail_loses'; did you mean 'dovetail_losses'"):
        run_checks("planted.never_found", plugins=plugins)


def test_sections_of_the_author_replace_those_of_the_tiny_run(plugins):
    """A trainer that needs a certain model passes with the section ``run={"model": …}``."""
    sections = {"model": {"type": "dovetail:mlp", "hidden_dims": [7]}}
    subject = Subject.find("planted.particular", run=sections, plugins=plugins)
    for check in select_checks(subject, {}):
        if check.name.startswith("trainer."):
            check.run(subject)


@pytest.mark.parametrize("name", [*list(LOSSES)[:-1], *SCHEDULERS, *OPTIMIZERS])
def test_torchs_own_components_pass(plugins, name):
    """Torch's losses, schedulers and optimizers pass every check."""
    assert _failures(plugins, f"torch.{name}") == {}


def test_a_broadcasting_loss_of_torch_is_found(plugins):
    """MultiLabelSoftMarginLoss silently broadcasts one target over several samples; the kit reports it."""
    assert list(_failures(plugins, "torch.MultiLabelSoftMarginLoss")) == [
        "loss.too_few_targets_are_refused",
        "loss.wrong_rank_is_refused",
        "loss.outputs_without_samples_are_refused",
    ]


def test_importing_the_kit_needs_neither_torch_nor_hypothesis():
    """``dovetail plugins new`` imports the template without the extra ``testkit``, and starts fast."""
    code = "import sys, dovetail.testkit; print({'torch', 'hypothesis', 'pytest'} & set(sys.modules))"

    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert result.stdout.strip() == "set()"
