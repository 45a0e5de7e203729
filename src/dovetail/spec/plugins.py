"""The plugins of this installation, of the kinds that Dovetail defines."""

from __future__ import annotations

from typing import final

from dovetail.kernel.plugins import PluginRegistry
from dovetail.spec.hooks import RegistrationHooks
from dovetail.spec.kinds import KINDS


@final
class Plugins(PluginRegistry):
    """Installed plugins, the components they offer, and the plugins that are broken."""

    kinds = KINDS
    hooks = RegistrationHooks
