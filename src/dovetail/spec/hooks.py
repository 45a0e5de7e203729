"""Every hook of Dovetail, in one place: the table of contents of the framework.

*Registration hooks* declare what exists. A plugin module implements them; each returns an iterable of
:class:`~dovetail.kernel.component.Component`. *Lifecycle hooks* are called during a run. They are methods of the parts
(callbacks, trackers, losses, trainers …) that the run's config names; installing a package never changes a run by
itself.

An implementation is recognised by its ``dovetail_`` name and may take any subset of the arguments, in any order. A name
that starts with ``dovetail_`` but is no hook is an error that suggests the nearest hook.
:mod:`dovetail.kernel.manager` explains how pluggy is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dovetail.checkpoint.listing import Checkpoint
    from dovetail.data.batch import Batch
    from dovetail.kernel.component import Component
    from dovetail.models.output import ModelOutput
    from dovetail.monitor.alerts import Alert
    from dovetail.train.context import Run
    from dovetail.train.state import Outcome

hookspec = pluggy.HookspecMarker("dovetail")
hookimpl = pluggy.HookimplMarker("dovetail")


class RegistrationHooks:
    """Declare what exists. Called on modules named by the entry-point group ``dovetail``."""

    @hookspec
    def dovetail_losses(self) -> Iterable[Component]:
        """Offer losses.

        Example::

            @hookimpl
            def dovetail_losses():
                yield Component("yourco.envelope", "yourco.losses:EnvelopeLoss", summary="Error of the envelope.")
        """

    @hookspec
    def dovetail_collators(self) -> Iterable[Component]:
        """Offer collators, which turn a list of samples into a ``Batch``.

        Example::

            @hookimpl
            def dovetail_collators():
                yield Component("yourco.ragged", "yourco.data:RaggedCollator", summary="Packs without padding.")
        """

    @hookspec
    def dovetail_schedulers(self) -> Iterable[Component]:
        """Offer learning-rate schedulers; trait ``per_epoch`` makes them step once per epoch.

        Example::

            @hookimpl
            def dovetail_schedulers():
                yield Component("yourco.sawtooth", "yourco.schedulers:Sawtooth", summary="Restarts with a linear fall.")
        """

    @hookspec
    def dovetail_trainers(self) -> Iterable[Component]:
        """Offer trainers: usually a subclass of the standard one that overrides one of its five seams.

        Example::

            @hookimpl
            def dovetail_trainers():
                yield Component("yourco.distil", "yourco.trainers:Distillation", summary="Learns from a teacher.")
        """

    @hookspec
    def dovetail_storage_backends(self) -> Iterable[Component]:
        """Offer stores to copy checkpoints and artifacts to.

        Example::

            @hookimpl
            def dovetail_storage_backends():
                yield Component("yourco.vault", "yourco.storage:Vault", summary="Our artifact store.")
        """

    @hookspec
    def dovetail_models(self) -> Iterable[Component]:
        """Offer models.

        Example::

            @hookimpl
            def dovetail_models():
                yield Component("yourco.tcn", "yourco.models:TemporalConvNet", summary="Dilated 1-D convolutions.")
        """

    @hookspec
    def dovetail_datasets(self) -> Iterable[Component]:
        """Offer datasets: factories of map-style datasets, or of ready-made ``Splits``.

        Example::

            @hookimpl
            def dovetail_datasets():
                yield Component("yourco.turbines", "yourco.data:Turbines", summary="Recordings of our turbines.")
        """

    @hookspec
    def dovetail_transforms(self) -> Iterable[Component]:
        """Offer transforms of one sample.

        Example::

            @hookimpl
            def dovetail_transforms():
                yield Component("yourco.detrend", "yourco.data:Detrend", summary="Removes the linear trend.")
        """

    @hookspec
    def dovetail_optimizers(self) -> Iterable[Component]:
        """Offer optimizers: factories that take ``params``.

        Example::

            @hookimpl
            def dovetail_optimizers():
                yield Component("yourco.lion", "yourco.optim:Lion", summary="Sign momentum (Chen et al. 2023).")
        """

    @hookspec
    def dovetail_metrics(self) -> Iterable[Component]:
        """Offer metrics with ``update(outputs, batch)``, ``compute()`` and ``reset()``.

        Example::

            @hookimpl
            def dovetail_metrics():
                yield Component("yourco.severity_error", "yourco.metrics:SeverityError", summary="Error in severity.")
        """

    @hookspec
    def dovetail_callbacks(self) -> Iterable[Component]:
        """Offer callbacks: objects with any of the lifecycle hooks below.

        Example::

            @hookimpl
            def dovetail_callbacks():
                yield Component("yourco.bell", "yourco.callbacks:Bell", summary="Rings when a run ends.")
        """

    @hookspec
    def dovetail_trackers(self) -> Iterable[Component]:
        """Offer trackers: callbacks that record a run somewhere, each at a cadence of its own.

        Example::

            @hookimpl
            def dovetail_trackers():
                yield Component("yourco.board", "yourco.trackers:Board", summary="Sends metrics to our dashboard.")
        """

    @hookspec
    def dovetail_profiles(self) -> Iterable[Component]:
        """Offer profiles: factories without arguments that return a layer of config, chosen with ``--profile``.

        Example::

            @hookimpl
            def dovetail_profiles():
                yield Component("yourco.nightly", "yourco.profiles:nightly", summary="Long runs on the night cluster.")
        """

    @hookspec
    def dovetail_commands(self) -> Iterable[Component]:
        """Offer console commands: click commands, imported only when one is called.

        Example::

            @hookimpl
            def dovetail_commands():
                yield Component("fleet", "yourco.cli:fleet", summary="Show the state of the fleet.")
        """


class LifecycleHooks:
    """Called during a run, on the parts that its config names, in the order of the run file."""

    @hookspec
    def dovetail_run_start(self, run: Run) -> None:
        """Act once, after everything is built and before the first batch.

        In a resumed run the parts' state is restored by then, and ``run.state.step`` is above 0.

        Example::

            class Announce:
                def dovetail_run_start(self, run):
                    print(f"{run.config.run.name} starts on {run.device}")
        """

    @hookspec
    def dovetail_epoch_start(self, run: Run, epoch: int) -> None:
        """Act before the first batch of an epoch; ``epoch`` counts from 1. Not called for an epoch that is resumed.

        Example::

            class Unfreeze:
                def dovetail_epoch_start(self, run, epoch):
                    if epoch == 3:
                        run.parts.model.requires_grad_(True)
        """

    @hookspec
    def dovetail_batch_start(self, run: Run, step: int) -> None:
        """Act before an optimizer update; ``step`` counts finished updates. Free if no part implements it.

        Example::

            class Clock:
                def dovetail_batch_start(self, step):
                    self.began = time.perf_counter()
        """

    @hookspec
    def dovetail_batch_end(self, run: Run, step: int, loss: object) -> None:
        """Act after an optimizer update. ``loss`` is a 0-d tensor on the device: reading it waits for the device.

        Example::

            class Watch:
                def dovetail_batch_end(self, run, step, loss):
                    if step % 100 == 0 and float(loss) > 50:
                        run.request_stop("the loss blew up", by="watch")
        """

    @hookspec
    def dovetail_log(  # noqa: PLR0917 (called by names; an implementation takes those that it needs)
        self, run: Run, event: str, metrics: Mapping[str, float], epoch: int, step: int, time: float
    ) -> None:
        """Act on figures that were just logged.

        ``event`` is ``"train"``, ``"validation"``, ``"epoch"``, ``"test"``, or ``"monitor"`` for what a part measures.
        Training figures are logged every ``logging.every`` updates and are already on the host, so progress displays
        and trackers should implement this hook rather than ``dovetail_batch_end``. ``epoch``, ``step`` and ``time``
        (seconds since the start of the run) are those at which the figures were logged. A tracker whose method takes
        ``step`` gets ``"train"`` and ``"monitor"`` figures many at a time, up to a second late, so that training does
        not wait; every other part gets them at once.

        Example::

            class Progress:
                def dovetail_log(self, event, metrics, step):
                    if event == "train":
                        print(step, metrics["train_loss"], metrics["samples_per_second"])
        """

    @hookspec
    def dovetail_validation_batch(self, run: Run, batch: Batch, outputs: ModelOutput) -> None:
        """Act on a batch of a validation and the model's outputs. Free if no part implements it.

        Example::

            class Surprises:
                def dovetail_validation_batch(self, batch, outputs):
                    self.worst.append(outputs.logits.softmax(-1).amax(-1).min())
        """

    @hookspec
    def dovetail_validation_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Act on fresh validation metrics, named ``val_loss``, ``val_accuracy`` ….

        Example::

            class Patience:
                def dovetail_validation_end(self, run, metrics):
                    if metrics["val_loss"] < 0.01:
                        run.request_stop("good enough", by="patience")
        """

    @hookspec
    def dovetail_epoch_end(self, run: Run, epoch: int, metrics: Mapping[str, float]) -> None:
        """Act at the end of an epoch, after its validation, on the training and validation metrics together.

        Example::

            class Print:
                def dovetail_epoch_end(self, epoch, metrics):
                    print(epoch, metrics["train_loss"])
        """

    @hookspec
    def dovetail_checkpoint_saved(self, run: Run, checkpoint: Checkpoint) -> None:
        """Act on a committed checkpoint: complete, verified and durable.

        Example::

            class Ship:
                def dovetail_checkpoint_saved(self, checkpoint):
                    copy_to_colleague(checkpoint.path)
        """

    @hookspec
    def dovetail_alert(self, run: Run, alert: Alert) -> None:
        """Act on a problem that did not end the run: drift, a loss spike, a gradient out of range.

        Example::

            class Page:
                def dovetail_alert(self, alert):
                    send_mail(alert.message)
        """

    @hookspec
    def dovetail_run_end(self, run: Run, outcome: Outcome) -> None:
        """Act once at the end of the run, however it ended; ``outcome`` says how. Every part gets this call.

        Example::

            class Close:
                def dovetail_run_end(self, outcome):
                    self.file.write(outcome.status)
        """
