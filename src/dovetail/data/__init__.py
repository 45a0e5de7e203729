"""From files to batches: datasets, splits, transforms, collators and loaders.

Public names are imported on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

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
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
