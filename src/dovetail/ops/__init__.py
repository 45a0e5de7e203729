"""The Python face of the native ops in csrc: schema, fake, and a plain-torch reference for each.

An op's kernels live in shared objects beside this file, loaded when it is first called. Without them, or with
DOVETAIL_NATIVE=0, the references do the work.
"""

from __future__ import annotations

from dovetail.ops._grad_norms import HISTOGRAM_EDGES, GradNorms, grad_norms, grad_norms_reference
from dovetail.ops._loader import Native, status
from dovetail.ops._spec_augment import spec_augment, spec_augment_

__all__ = [
    "HISTOGRAM_EDGES",
    "GradNorms",
    "Native",
    "grad_norms",
    "grad_norms_reference",
    "spec_augment",
    "spec_augment_",
    "status",
]
