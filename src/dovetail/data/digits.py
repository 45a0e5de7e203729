"""scikit-learn's handwritten digits: a real data set that needs no download."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from dovetail.data.samples import TensorSamples


def digits(*, flat: bool = False) -> TensorSamples:
    """Return 1,797 images of handwritten digits, 8 × 8, values 0 to 1, in 10 classes.

    Source: the test set of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), as
        scikit-learn
    carries it.

    Args:
        flat: inputs of shape ``[64]`` instead of ``[1, 8, 8]``.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the dataset 'digits' comes with scikit-learn: pip install 'dovetail[digits]'", name=error.name
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    images = (np.asarray(pixels) / 16).astype(np.float32)
    classes = np.asarray(labels).astype(np.int64)
    return TensorSamples(
        torch.from_numpy(images).reshape(-1, *((64,) if flat else (1, 8, 8))),
        torch.from_numpy(classes),
        class_names=tuple(map(str, range(10))),
        fingerprint=hashlib.sha256(images.tobytes() + classes.tobytes()).hexdigest(),
        columns={"label": classes},
    )
