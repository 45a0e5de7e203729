"""From files to batches: datasets, splits, transforms, collators and loaders.

Public names are imported on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import imported_on_use

if TYPE_CHECKING:
    from dovetail.data.array_datasets import digits as digits
    from dovetail.data.array_datasets import npz_arrays as npz_arrays
    from dovetail.data.batch import Batch as Batch
    from dovetail.data.batch import as_batch as as_batch
    from dovetail.data.batch import batch_size as batch_size
    from dovetail.data.batch import map_tensors as map_tensors
    from dovetail.data.character_windows import CharacterWindows as CharacterWindows
    from dovetail.data.character_windows import characters as characters
    from dovetail.data.collators import ClassificationCollator as ClassificationCollator
    from dovetail.data.collators import DefaultCollator as DefaultCollator
    from dovetail.data.errors import DataError as DataError
    from dovetail.data.errors import LoaderWorkerError as LoaderWorkerError
    from dovetail.data.folders import FolderSamples as FolderSamples
    from dovetail.data.folders import folder as folder
    from dovetail.data.loader import Loader as Loader
    from dovetail.data.loader import make_loader as make_loader
    from dovetail.data.masking import SpecAugment as SpecAugment
    from dovetail.data.masking import TimeMasking as TimeMasking
    from dovetail.data.samples import Subset as Subset
    from dovetail.data.samples import TensorSamples as TensorSamples
    from dovetail.data.samples import TextSamples as TextSamples
    from dovetail.data.samples import subset as subset
    from dovetail.data.splits import SPLIT_NAMES as SPLIT_NAMES
    from dovetail.data.splits import SplitName as SplitName
    from dovetail.data.splits import SplitOptions as SplitOptions
    from dovetail.data.splits import Splits as Splits
    from dovetail.data.splitting import split as split
    from dovetail.data.table import csv_table as csv_table
    from dovetail.data.table import jsonl_table as jsonl_table
    from dovetail.data.token_collators import LanguageModelingCollator as LanguageModelingCollator
    from dovetail.data.token_collators import SequenceToSequenceCollator as SequenceToSequenceCollator
    from dovetail.data.transfer import to_device as to_device
    from dovetail.data.transforms import GaussianNoise as GaussianNoise
    from dovetail.data.transforms import Normalize as Normalize
    from dovetail.data.transforms import Standardize as Standardize
    from dovetail.data.transforms import fit_transforms as fit_transforms
    from dovetail.data.vision import VisionCollator as VisionCollator

_HOMES = {
    "Batch": "dovetail.data.batch",
    "CharacterWindows": "dovetail.data.character_windows",
    "ClassificationCollator": "dovetail.data.collators",
    "DataError": "dovetail.data.errors",
    "DefaultCollator": "dovetail.data.collators",
    "FolderSamples": "dovetail.data.folders",
    "GaussianNoise": "dovetail.data.transforms",
    "LanguageModelingCollator": "dovetail.data.token_collators",
    "Loader": "dovetail.data.loader",
    "LoaderWorkerError": "dovetail.data.errors",
    "SPLIT_NAMES": "dovetail.data.splits",
    "Normalize": "dovetail.data.transforms",
    "SequenceToSequenceCollator": "dovetail.data.token_collators",
    "SpecAugment": "dovetail.data.masking",
    "SplitName": "dovetail.data.splits",
    "SplitOptions": "dovetail.data.splits",
    "Splits": "dovetail.data.splits",
    "Standardize": "dovetail.data.transforms",
    "Subset": "dovetail.data.samples",
    "TensorSamples": "dovetail.data.samples",
    "TextSamples": "dovetail.data.samples",
    "TimeMasking": "dovetail.data.masking",
    "VisionCollator": "dovetail.data.vision",
    "as_batch": "dovetail.data.batch",
    "batch_size": "dovetail.data.batch",
    "characters": "dovetail.data.character_windows",
    "csv_table": "dovetail.data.table",
    "digits": "dovetail.data.array_datasets",
    "fit_transforms": "dovetail.data.transforms",
    "folder": "dovetail.data.folders",
    "jsonl_table": "dovetail.data.table",
    "make_loader": "dovetail.data.loader",
    "map_tensors": "dovetail.data.batch",
    "npz_arrays": "dovetail.data.array_datasets",
    "split": "dovetail.data.splitting",
    "subset": "dovetail.data.samples",
    "to_device": "dovetail.data.transfer",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 (built from the one table above)

__getattr__ = imported_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
