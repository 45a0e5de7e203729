"""``Config``: run files from Python."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from dovetail.config.check import check_config
from dovetail.config.diagnostics import PYTHON, ConfigError, Origin, Problem, suggest
from dovetail.config.keywords import Scope, keyword_layer, value_at, with_objects
from dovetail.config.schema import RunConfig, sections
from dovetail.config.tree import Live, Node, merge, resolve
from dovetail.spec.plugins import Plugins

if TYPE_CHECKING:
    from omegaconf import DictConfig

_EVERYWHERE: Final = ("",)


@final
class Config:
    """A configuration, from a run file or from nothing, to change and to build.

    It is immutable: each ``with_…`` method returns a new configuration with one more layer. These methods refuse
    unknown keywords; everything else is checked by :meth:`validate` and :meth:`build`.

    Example::

        config = Config.preset("baseline").with_data("characters", path="shakespeare.txt").with_training(max_epochs=30)
        outcome = dovetail.run(config.build())
    """

    def __init__(self, tree: Node | None = None, *, plugins: Plugins | None = None) -> None:
        """Start from ``tree``, or from nothing.

        Args:
            tree: the result of :func:`~dovetail.config.compose.compose`.
            plugins: the plugins that provide components; all installed ones unless given.
        """
        self._tree = tree if tree is not None else Node.from_python({})
        self._plugins = plugins

    # --- where it comes from --------------------------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        profile: str | None = None,
        overrides: Sequence[str] = (),
        *,
        plugins: Plugins | None = None,
    ) -> Config:
        """Load a run file, or start from the defaults.

        Args:
            path: a TOML file, or a ``.json`` file that :meth:`save` wrote. With None, nothing is set: every setting has
                its default, and you still have to choose data, model and loss.
            profile: the name of one of its ``[profile.NAME]`` tables, or of an installed profile.
            overrides: as on the command line: ``"training.max_epochs=3"``.
            plugins: the plugins that provide components; all installed ones unless given.

        Raises:
            ConfigError: the file cannot be read or composed; carries every problem.
        """
        # Imported here, because a configuration that is made in Python alone reads no files.
        from dovetail.config.compose import compose, installed_profiles

        plugins = Plugins.discover() if plugins is None else plugins
        options: dict[str, Any] = {
            "profile": profile,
            "overrides": overrides,
            "installed_profiles": installed_profiles(plugins),
        }
        if path is not None and Path(path).suffix == ".json":
            from dovetail.config.formats import load_json

            tree = load_json(path, lambda values: compose(None, base=values, **options))
        else:
            tree = compose(path, **options)
        return cls(tree, plugins=plugins)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, plugins: Plugins | None = None) -> Config:
        """Return the configuration of nested tables, as :meth:`to_dict` returns them.

        None is TOML's ``"@none"``, ``{"env": "NAME"}`` is a secret, and an object in place of a part is that part.
        """
        return cls(_merged(Node.from_python({}), values), plugins=plugins)

    @classmethod
    def preset(cls, name: str, *, plugins: Plugins | None = None) -> Config:
        """Return a preset: a causal transformer and everything to train it, on a text file ``input.txt``.

        ==================  ======  ===========  ===============================================
        name                epochs  parameters   further settings
        ==================  ======  ===========  ===============================================
        quick_prototype     3       12 million   one best and one last checkpoint
        baseline            10      124 million
        production          20      124 million  three best and five last checkpoints
        distributed         10      124 million  four devices, DistributedDataParallel
        low_memory          10      124 million  batches of 2, 8 per update
        ==================  ======  ===========  ===============================================

        Raises:
            ConfigError: there is no preset of that name.
        """
        from dovetail.config.profiles import preset, preset_names

        if name not in preset_names():
            hint = suggest(name, preset_names()) or f"; there is {', '.join(preset_names())}"
            raise ConfigError([Problem(PYTHON, "", f"unknown preset {name!r}{hint}")])
        tree = Node.from_python({})
        for values in preset(name):
            tree = _merged(tree, values, Origin(f"preset {name}"))
        return cls(tree, plugins=plugins)

    # --- changes -------------------------------------------------------------------------------------------------

    def with_model(self, model: Any = None, /, **options: Any) -> Config:
        """Choose the model, by name or as an object, and its options.

        Args:
            model: the name of a model, or a module. Without it, the options apply to the model chosen before, or to a
                ``transformer``.
            options: its options; ``model_name`` names the experiment.
        """
        return self._part("model", Scope(aliases=("run.experiment",), part="model"), model, options)

    def with_data(self, data: Any = None, /, **options: Any) -> Config:
        """Choose the dataset, by name or as an object, its options, and how it is split and loaded.

        Args:
            data: the name of a dataset, or a dataset.
            options: its options; settings of ``[loader]`` such as ``batch_size`` and ``num_workers``; ``split``, or
                ``train_split``, ``validation_split``, ``test_split``, ``stratify_by_age``, ``age_group_size``.
        """
        return self._part("data", Scope(("loader",), ("data.", "loader."), "data"), data, options)

    def with_loss(self, loss: Any = None, /, **options: Any) -> Config:
        """Choose the loss, by name or as an object, and its options."""
        return self._part("loss", Scope(part="loss"), loss, options)

    def with_optimizer(self, optimizer: Any = None, /, **options: Any) -> Config:
        """Choose the optimizer (default: ``adamw``), and its options.

        Args:
            optimizer: the name of an optimizer, or an optimizer.
            options: its options, with ``learning_rate`` for ``lr``; also ``max_grad_norm``,
                ``gradient_accumulation_steps`` and ``warmup_ratio``.
        """
        aliases = ("optimizer.", "training.accumulate", "training.max_grad_norm", "scheduler.")
        return self._part("optimizer", Scope(aliases=aliases, part="optimizer"), optimizer, options)

    def with_scheduler(self, scheduler: Any = None, /, **options: Any) -> Config:
        """Choose the learning-rate scheduler (default: ``warmup_cosine``), and its options."""
        return self._part("scheduler", Scope(aliases=("scheduler.",), part="scheduler"), scheduler, options)

    def with_training(self, **settings: Any) -> Config:
        """Configure training: settings of ``[training]``, ``[loader]``, ``[checkpoint]`` and ``[budget]``.

        The documents' names also work: ``epochs``, ``learning_rate``, ``batch_size``, ``warmup_ratio``,
        ``validation_split``, ``early_stopping_patience``, ``random_seed`` and so on.
        """
        return self._set(Scope(("training", "loader", "checkpoint", "budget", "run"), _EVERYWHERE), settings)

    def with_hardware(self, **settings: Any) -> Config:
        """Configure devices and precision: settings of ``[hardware]``, and ``precision``.

        ``use_amp`` and ``mixed_precision`` turn mixed precision on or off, ``precision = "bf16-mixed"`` means
        ``"bf16"``, and ``compile_mode = "default"`` means ``compile = True``.
        """
        return self._set(Scope(("hardware",), ("training.precision", "hardware.")), settings)

    def with_logging(self, **settings: Any) -> Config:
        """Configure names and output: settings of ``[run]``, ``[logging]``, ``[report]`` and ``[paths]``.

        The documents' names also work: ``run_name``, ``experiment_name``, ``log_frequency``, ``save_plots``,
        ``plot_frequency``, ``output_dir`` and so on.
        """
        scope = Scope(("run", "logging", "report", "paths"), ("run.", "logging.", "report.", "paths.", "checkpoint."))
        return self._set(scope, settings)

    def with_parts(self, **tables: Any) -> Config:
        """Set whole sections: tables as in a run file, or objects in place of parts.

        Example::

            config.with_parts(model=net, callbacks={"bell": Bell()}, checkpoint={"every": {"minutes": 10}})
        """
        known = [section.name for section in sections()]
        problems = [
            Problem(PYTHON, name, f"unknown section{suggest(name, known)}") for name in tables if name not in known
        ]
        if problems:
            raise ConfigError(problems)
        return self._with(tables)

    # --- results ---------------------------------------------------------------------------------------------------

    def validate(self) -> list[Problem]:
        """Return every problem, sorted by position; an empty list if the configuration can be built."""
        try:
            self.build()
        except ConfigError as error:
            return error.problems
        return []

    def build(self) -> RunConfig:
        """Return the checked configuration, every default filled in.

        Raises:
            ConfigError: carries every problem.
        """
        return check_config(self._tree, Plugins.discover() if self._plugins is None else self._plugins)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings so far as nested tables, without defaults; ``build().to_dict()`` includes the defaults.

        A secret is ``{"env": "NAME"}``; a Python object is itself.
        """
        values: dict[str, Any] = self._tree.to_python(secrets_as_tables=True)
        return values

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the settings so far to a file that :meth:`load` reads back, and return its path.

        The write is atomic, and replaces an existing file.

        Args:
            path: ends in ``.toml`` or ``.json``. Unless given, the file is named after the run and the time.

        Raises:
            ConfigError: a Python object is part of the configuration, or the path has another ending.
            OSError: the file cannot be written.
        """
        from dovetail.config.formats import to_json, to_toml
        from dovetail.storage.atomic import write_atomic

        target = Path(path) if path is not None else Path(self._timestamped())
        writers = {".toml": to_toml, ".json": to_json}
        if target.suffix not in writers:
            raise ConfigError([Problem(PYTHON, "", f"cannot save as {target.name!r}: it must end in .toml or .json")])
        text = writers[target.suffix](self._tree)
        write_atomic(target, text.encode())
        return target

    def to_omegaconf(self) -> DictConfig:
        """Return the whole configuration, defaults included, as an OmegaConf ``DictConfig``, for Hydra users.

        Secrets become ``${oc.env:NAME}``, which OmegaConf reads on access. Needs the extra ``dovetail[omegaconf]``.

        Raises:
            ConfigError: the configuration cannot be built.
            ImportError: OmegaConf is not installed.
        """
        from dovetail.config.formats import to_omegaconf

        return to_omegaconf(self.build())

    @staticmethod
    def create_default_configs(directory: str | os.PathLike[str]) -> list[Path]:
        """Write commented files with every setting and its default to ``directory``, and return their paths.

        Raises:
            ConfigError: one of the files already exists.
            OSError: a file cannot be written.
        """
        from dovetail.config.defaults import write_defaults

        return write_defaults(Path(directory))

    def __repr__(self) -> str:
        names = ", ".join(self._tree.table) or "nothing set"
        return f"<Config: {names}>"

    # --- private -----------------------------------------------------------------------------------------------------

    def _set(self, scope: Scope, settings: Mapping[str, Any]) -> Config:
        return self._with(keyword_layer(scope, settings, self._tree))

    def _part(self, section: str, scope: Scope, chosen: Any, options: Mapping[str, Any]) -> Config:
        if chosen is None:
            return self._set(scope, options)
        kept = dict(self._tree.table)
        if not (isinstance(chosen, str) and isinstance(value_at(self._tree, f"{section}.type"), str)):
            kept.pop(section, None)  # if both are names, merge() drops the options of the old type
        tree = _merged(
            self._tree.with_value(kept), {section: {"type": chosen if isinstance(chosen, str) else Live(chosen)}}
        )
        return Config(_merged(tree, keyword_layer(scope, options, tree)), plugins=self._plugins)

    def _with(self, values: Mapping[str, Any]) -> Config:
        return Config(_merged(self._tree, values), plugins=self._plugins)

    def _timestamped(self) -> str:
        name = value_at(self._tree, "run.name")
        stem = name if isinstance(name, str) else "run"
        return f"{stem}-{dt.datetime.now(dt.UTC):%Y-%m-%dT%H-%M-%S}.toml"


def _merged(tree: Node, values: Mapping[str, Any], origin: Origin = PYTHON) -> Node:
    """Return ``tree`` with plain tables, or objects in place of parts, laid over it."""
    problems: list[Problem] = []
    over = Node.from_python(with_objects(values), origin)
    tree = resolve(merge(tree, over, problems), problems)
    if problems:
        raise ConfigError(problems)
    return tree


def build_config(config: RunConfig | Config | str | os.PathLike[str]) -> RunConfig:
    """Return the checked configuration of a run file, or of a configuration from Python, built or not.

    Raises:
        ConfigError: carries every problem.
    """
    if isinstance(config, RunConfig):
        return config
    return (config if isinstance(config, Config) else Config.load(config)).build()
