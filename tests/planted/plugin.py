"""The descriptor of the planted components. The descriptor is sound; each component has one defect."""

from __future__ import annotations

from dovetail.kernel.component import Component
from dovetail.spec.hooks import hookimpl

_CLASSIFICATION = ("classification",)


@hookimpl
def dovetail_losses():
    """Register losses with a defect."""
    for name, attribute, traits in (
        ("planted.sound", "SoundLoss", ("classification", "additive")),
        ("planted.argmax", "ArgmaxLoss", _CLASSIFICATION),
        ("planted.hidden_argmax", "HiddenArgmaxLoss", _CLASSIFICATION),
        ("planted.detached", "DetachedTermLoss", _CLASSIFICATION),
        ("planted.random", "RandomLoss", _CLASSIFICATION),
        ("planted.remembers", "RememberingLoss", _CLASSIFICATION),
        ("planted.broadcasts", "BroadcastingLoss", ("regression",)),
        ("planted.not_additive", "NotAdditiveLoss", ("classification", "additive")),
        ("planted.overflows", "OverflowingLoss", _CLASSIFICATION),
        ("planted.no_signal", "NoSignalGradientLoss", ("classification", "signal_gradient")),
        ("planted.untrained", "UntrainedLoss", _CLASSIFICATION),
        ("planted.no_hidden", "NoHiddenGradientLoss", ("classification", "hidden_gradient")),
        ("planted.in_place", "InPlaceLoss", _CLASSIFICATION),
        ("planted.ordered", "OrderedLoss", _CLASSIFICATION),
    ):
        yield Component(name, f"planted.losses:{attribute}", summary="Planted.", traits=traits)
    yield Component("bare", "planted.losses:SoundLoss", traits=_CLASSIFICATION)
    yield Component("planted.one_trait", "planted.losses:SoundLoss", summary="Planted.", traits="additive")
    yield Component("planted.near_trait", "planted.losses:SoundLoss", summary="Planted.", traits=("aditive",))
    yield Component(
        "planted.every_option", "planted.options:LossOfEveryOption", summary="Planted.", traits=_CLASSIFICATION
    )
    yield Component("planted.required", "planted.losses:NeedsAnOption", summary="Needs an option, without an example.")
    yield Component("planted.absent", "planted.losses:NoSuchLoss", summary="Its target does not exist.")
    yield Component("planted.reserved", "planted.losses:ReservedName", summary="Has an option with a reserved name.")


@hookimpl
def dovetail_schedulers():
    """Register schedulers with a defect."""
    for name, attribute in (
        ("planted.sawtooth", "Sawtooth"),
        ("planted.forgetful", "ForgetfulSawtooth"),
        ("planted.negative", "NegativeRate"),
        ("planted.meddling", "MeddlingScheduler"),
    ):
        yield Component(name, f"planted.schedulers:{attribute}", summary="Planted.")


@hookimpl
def dovetail_collators():
    """Register collators with a defect."""
    for name, attribute in (
        ("planted.stack", "Stack"),
        ("planted.drops", "DropsTheOddOne"),
        ("planted.sorts", "SortsByTarget"),
        ("planted.invents_keys", "InventsKeys"),
        ("planted.changes_samples", "ChangesSamples"),
        ("planted.no_factory", "no_factory"),
    ):
        yield Component(name, f"planted.collators:{attribute}", summary="Planted.")


@hookimpl
def dovetail_storage_backends():
    """Register stores with a defect."""
    for name, attribute in (
        ("planted.sound_store", "SoundStore"),
        ("planted.half", "HalfStore"),
        ("planted.copies", "CopyingStore"),
        ("planted.shows_work", "StoreThatShowsItsWork"),
        ("planted.trusting", "TrustingStore"),
        ("planted.lists_folders", "StoreThatListsFolders"),
        ("planted.yields_keys", "StoreThatYieldsKeys"),
    ):
        yield Component(name, f"planted.stores:{attribute}", summary="Planted.", example={"path": "store"})


@hookimpl
def dovetail_metrics():
    """Register metrics with a defect."""
    yield Component("planted.mean_of_means", "planted.others:MeanOfMeans", summary="Planted.", traits=_CLASSIFICATION)


@hookimpl
def dovetail_callbacks():
    """Register callbacks with a defect."""
    yield Component("planted.misspelt", "planted.others:MisspeltCallback", summary="Planted.")
    yield Component("planted.silent", "planted.others:SilentCallback", summary="Planted.")
    yield Component("planted.breaks", "planted.others:BreakingCallback", summary="Planted.")
    yield Component("planted.forgets", "planted.others:ForgetfulCallback", summary="Planted.")


@hookimpl
def dovetail_trainers():
    """Register trainers with a defect."""
    yield Component("planted.noisy", "planted.others:NoisyTrainer", summary="Planted.")
    yield Component("planted.particular", "planted.others:Particular", summary="Planted.")
    yield Component("planted.second_optimizer", "planted.others:SecondOptimizer", summary="Planted.")


@hookimpl
def dovetail_profiles():
    """Register profiles with a defect."""
    yield Component("planted.typo", "planted.others:typo", summary="Planted.")


@hookimpl
def dovetail_datasets():
    """Register datasets with a defect."""
    yield Component("planted.changing", "planted.others:ChangingDataset", summary="Planted.")


@hookimpl
def dovetail_transforms():
    """Register transforms with a defect."""
    yield Component("planted.own_generator", "planted.others:OwnGenerator", summary="Planted.")
    yield Component("planted.claims_calm", "planted.others:Noise", summary="Planted.", traits=("deterministic",))
    yield Component("planted.batch_stream", "planted.batches:DrawsAStream", summary="Planted.", traits=("batched",))
    yield Component("planted.batch_mean", "planted.batches:TakesTheMean", summary="Planted.", traits=("batched",))
    yield Component("planted.batch_in_place", "planted.batches:InPlace", summary="Planted.", traits=("batched",))
    yield Component(
        "planted.batch_calm", "planted.batches:Jitters", summary="Planted.", traits=("batched", "deterministic")
    )


@hookimpl
def dovetail_models():
    """Register models with a defect."""
    yield Component("planted.leaky", "planted.others:LeakyModel", summary="Planted.")


@hookimpl
def dovetail_optimizers():
    """Register optimizers with a defect."""
    yield Component("planted.amnesiac", "planted.others:Amnesiac", summary="Planted.")


@hookimpl
def dovetail_commands():
    """Register commands with a defect."""
    yield Component("planted.mute", "planted.others:mute", summary="Planted.")
    yield Component("planted.bare_function", "planted.others:typo", summary="Planted.")
