"""The conformance kit finds what was planted: the right check fails, and says what to do."""

from __future__ import annotations

import importlib

import pytest

from dovetail.kernel.component import PluginError
from dovetail.spec.plugins import Plugins
from dovetail.testkit import CheckFailed, run_checks
from dovetail.testkit.runner import select_checks
from dovetail.testkit.subject import Subject
from planted import plugin


@pytest.fixture(scope="module")
def plugins():
    """Everything that is installed, and the planted parts."""
    found = Plugins.discover()
    found.register(plugin, distribution="planted", version="1.0")
    return found


def _failures(plugins, name, kind=None):
    return {one.check: one.message for one in run_checks(name, kind=kind, plugins=plugins) if one.status == "failed"}


@pytest.mark.parametrize(
    "name, check, said",
    [
        ("planted.argmax", "loss.gradient_reaches_the_logits", "argmax"),
        ("planted.hidden_argmax", "loss.no_hidden_steps", "jumps by"),
        ("planted.detached", "loss.gradient_is_that_of_the_value", ".detach()"),
        ("planted.random", "loss.deterministic", "draws random numbers"),
        ("planted.remembers", "loss.deterministic", "'stateful'"),
        ("planted.remembers", "loss.state_round_trips", "state_dict"),
        ("planted.broadcasts", "loss.too_few_targets_are_refused", "broadcast"),
        ("planted.broadcasts", "loss.wrong_rank_is_refused", "broadcast"),
        ("planted.not_additive", "loss.parts_of_a_batch_add_up", "take the trait 'additive' away"),
        ("planted.overflows", "loss.finite", "log_softmax"),
        ("planted.no_signal", "loss.gradient_reaches_the_inputs", "'signal_gradient' claims"),
        ("planted.untrained", "loss.gradient_reaches_its_parameters", "log_temperature"),
        ("planted.no_hidden", "loss.gradient_reaches_the_hidden_representation", "'hidden_gradient' claims"),
        ("planted.in_place", "loss.leaves_its_inputs_alone", "in place"),
        ("planted.ordered", "loss.order_does_not_matter", "'ordered'"),
        ("bare", "plugin.name_has_a_prefix", "yourco.bare"),
        ("bare", "plugin.summary_is_one_sentence", "no summary="),
        ("planted.one_trait", "plugin.traits_are_spelt_right", "with its comma"),
        ("planted.near_trait", "plugin.traits_are_spelt_right", "did you mean ['additive']?"),
        ("planted.claims_calm", "transform.needs_no_randomness", "claims otherwise"),
        ("planted.required", "plugin.builds", "no example="),
        ("planted.absent", "plugin.signature_is_readable", "NoSuchLoss"),
        ("planted.reserved", "plugin.signature_is_readable", "rename it"),
        ("planted.forgetful", "scheduler.state_round_trips_at_any_step", "must be in state_dict"),
        ("planted.negative", "scheduler.rates_are_finite", "not negative"),
        ("planted.meddling", "scheduler.only_rates_change", "weight_decay"),
        ("planted.drops", "collator.every_sample_is_kept", "went in"),
        ("planted.sorts", "collator.every_sample_is_in_its_place", "reordered"),
        ("planted.invents_keys", "collator.batch_has_known_keys", "goes in meta"),
        ("planted.no_factory", "plugin.builds", "Make it a class with __call__"),
        ("planted.changes_samples", "collator.samples_are_left_alone", "changed the samples"),
        ("planted.half", "storage.readers_see_whole_objects", "half an object"),
        ("planted.half", "storage.a_failed_put_changes_nothing", "half an object"),
        ("planted.half", "storage.a_killed_put_leaves_no_half", "os.replace"),
        ("planted.copies", "storage.a_source_that_fails_changes_nothing", "half an object"),
        ("planted.shows_work", "storage.readers_see_whole_objects", "unfinished work"),
        ("planted.trusting", "storage.hostile_keys_are_refused", "ValueError"),
        ("planted.yields_keys", "storage.put_replaces", "list() returns a generator; it must be a list"),
        ("planted.particular", "trainer.completes_a_run", "give conformance() run="),
        ("planted.second_optimizer", "trainer.completes_a_run", "state_dict() and load_state_dict(state)"),
        ("planted.lists_folders", "storage.behaves_like_a_dictionary", "start so"),
        ("planted.mean_of_means", "metric.batching_does_not_matter", "divide in compute()"),
        ("planted.misspelt", "plugin.lifecycle_hooks_exist", "did you mean 'dovetail_epoch_end'?"),
        ("planted.silent", "callback.has_a_hook", "nothing ever calls it"),
        ("planted.breaks", "callback.takes_part_in_a_run", "val_severity"),
        ("planted.forgets", "callback.state_round_trips", "needs both"),
        ("planted.noisy", "trainer.repeats_itself", "the same tiny run gave"),
        ("planted.mute", "command.helps", "write a docstring"),
        ("planted.bare_function", "command.is_a_click_command", "not a click.Command"),
        ("planted.typo", "profile.is_a_layer_of_config", "did you mean 'max_epochs'?"),
        ("planted.changing", "dataset.indexing_is_deterministic", "asked for again"),
        ("planted.batch_stream", "transform.address_decides", "use draws instead"),
        ("planted.batch_mean", "transform.sample_is_its_own", "'mixes_samples'"),
        ("planted.batch_in_place", "transform.batch_is_kept", "in place"),
        ("planted.batch_calm", "transform.whatever_is_drawn", "claims otherwise"),
        ("planted.own_generator", "transform.seeds_decide", "generator of its own"),
        ("planted.leaky", "model.samples_do_not_mix_in_evaluation", "other samples of its batch"),
        ("planted.amnesiac", "optimizer.state_round_trips", "not in its state_dict"),
    ],
)
def test_a_planted_defect_is_found_by_the_right_check(plugins, name, check, said):
    """The check that is about the defect fails, with a message that helps."""
    subject = Subject.find(name, plugins=plugins)
    (one,) = [one for one in select_checks(subject, {}) if one.name == check]

    with pytest.raises(CheckFailed) as failure:
        one.run(subject)

    assert said in str(failure.value)


def test_a_defect_is_found_by_few_checks(plugins):
    """A drop of samples is not reported as a dozen other things."""
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
def test_what_is_sound_passes(plugins, name, kind):
    """The parts that the planted ones are made of pass every check."""
    assert _failures(plugins, name, kind) == {}


@pytest.mark.parametrize(
    "module, name, check, said",
    [
        ("planted.heavy", "planted.heavy", "plugin.descriptor_needs_no_torch", "heavy.py:5"),
        ("planted.loud", "planted.loud", "plugin.descriptor_imports_quietly", "thank you for installing"),
    ],
)
def test_a_descriptor_is_imported_in_a_fresh_interpreter(module, name, check, said):
    """A descriptor that imports torch or prints is found, and the message names the line."""
    plugins = Plugins.discover()
    plugins.register(importlib.import_module(module), distribution="planted")

    failures = _failures(plugins, name)

    assert said in failures[check]
    assert not [name for name in failures if name.startswith("plugin.") and name != check]


def test_a_misspelt_registration_hook_is_named():
    """A plugin whose hook is misspelt offers nothing; asking for what it would offer says why, and what was meant."""
    plugins = Plugins.discover()
    plugins.register(importlib.import_module("planted.misspelt"), distribution="planted")

    with pytest.raises(PluginError, match="unknown hook 'dovetail_loses'; did you mean 'dovetail_losses'"):
        run_checks("planted.never_found", plugins=plugins)


def test_a_trainer_of_particular_models_is_tried_with_one(plugins):
    """Sections given with ``run`` take the place of those of the kit's tiny run."""
    sections = {"model": {"type": "dovetail:mlp", "hidden_dims": [7]}}
    subject = Subject.find("planted.particular", run=sections, plugins=plugins)
    for one in select_checks(subject, {}):
        if one.name.startswith("trainer."):
            one.run(subject)
