"""A value that a run file only points to: read from the environment when its part is built, and never recorded."""

from __future__ import annotations

import os

from attrs import frozen


@frozen
class Env:
    """The secret ``{ env = "NAME" }`` of a run file."""

    name: str

    def resolve(self) -> str:
        """Return the variable's value.

        Raises:
            LookupError: the variable is not set.
        """
        try:
            return os.environ[self.name]
        except KeyError:
            raise LookupError(f"the environment variable {self.name} is not set") from None
