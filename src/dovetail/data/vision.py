"""From images, also of different sizes, to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, final

import torch
import torch.nn.functional as F
from attrs import field, frozen
from torch import Tensor

from dovetail.data.batch import Batch
from dovetail.data.collators import as_tensor, by_field, gather, stack
from dovetail.data.errors import DataError
from dovetail.spec.limits import AtLeast

_PLANE: Final = len(("height", "width"))
_IMAGE: Final = len(("channels", "height", "width"))
_LARGEST_BYTE: Final = 255


def _check_std(_instance: object, _attribute: object, value: float | list[float]) -> None:
    if not all(one > 0 for one in (value if isinstance(value, list) else [value])):
        msg = f"std: must be above 0, got {value}"
        raise ValueError(msg)


@final
@frozen
class VisionCollator:
    """Normalises images, and brings them to one size: resized, or padded on the right and below.

    An image is ``[channels, height, width]``, or ``[height, width]`` for one channel; bytes are brought to 0 … 1 first.
    The batch has ``inputs`` ``[batch, channels, height, width]``, float32 where images are bytes; ``targets``, one per
    image, or one per pixel, which are resized or padded with their image; and in ``meta`` what the default collator
    puts there and ``image_size`` ``[batch, 2]``, the height and width that each image had.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    #: Subtracted, from every channel or one number for each.
    mean: float | list[float] = 0.0
    #: Divided by after that.
    std: float | list[float] = field(default=1.0, validator=_check_std)
    #: Height and width that every image is resized to, bilinearly; None pads to the batch's largest.
    size: tuple[Annotated[int, AtLeast(1)], Annotated[int, AtLeast(1)]] | None = None
    #: What is put around a smaller image, after normalising.
    pad_value: float = 0.0
    #: What targets of pixels have there.
    ignore_index: int = -100

    def __call__(self, samples: list[Any]) -> Batch:
        """Return the batch of ``samples``, in their order.

        Raises:
            DataError: a sample is no image, or images have different numbers of channels.
        """
        fields = by_field(samples)
        if "mask" in fields:
            raise DataError("samples have a mask; this collator takes images and targets")
        images = [self._image(number, value) for number, value in enumerate(fields["inputs"])]
        for number, one in enumerate(images):
            if one.shape[0] != images[0].shape[0]:
                raise DataError(
                    f"samples 0 and {number} of a batch have {images[0].shape[0]} and {one.shape[0]} channels"
                )
        sizes = torch.tensor([one.shape[-_PLANE:] for one in images])
        height, width = map(int, sizes.amax(dim=0)) if self.size is None else self.size
        batch = Batch(inputs=self._together(images, height, width))
        if "targets" in fields:
            batch["targets"] = self._targets(fields["targets"], sizes, height, width)
        kept = fields.get("meta", {})
        batch["meta"] = {key: gather(values) for key, values in kept.items()} | {"image_size": sizes}
        return batch

    def _image(self, number: int, value: Any) -> Tensor:
        """Return an image as normalised floating numbers ``[channels, height, width]``."""
        image = as_tensor(value, "inputs")
        if image.ndim == _PLANE:
            image = image[None]
        if image.ndim != _IMAGE or image.is_complex():
            raise DataError(
                f"sample {number} of a batch has inputs of shape {tuple(image.shape)}; an image is "
                "(channels, height, width) or (height, width)"
            )
        if image.dtype is torch.uint8:
            image = image / _LARGEST_BYTE
        elif not image.is_floating_point():
            image = image.float()
        return (image - self._each("mean", image)) / self._each("std", image)

    def _each(self, name: str, image: Tensor) -> Tensor:
        """Return the mean or the standard deviation, to be combined with an image."""
        value: float | list[float] = getattr(self, name)
        if isinstance(value, list) and len(value) != image.shape[0]:
            raise DataError(f"collator.{name} has {len(value)} numbers, but an image has {image.shape[0]} channels")
        return torch.tensor(value, dtype=image.dtype).reshape(-1, 1, 1)

    def _together(self, images: Sequence[Tensor], height: int, width: int) -> Tensor:
        if self.size is not None:
            return torch.cat([_resized(one[None], height, width) for one in images])
        return torch.stack([_padded(one, height, width, self.pad_value) for one in images])

    def _targets(self, values: Sequence[Any], sizes: Tensor, height: int, width: int) -> Tensor:
        """Return targets of pixels at their image's size, others as they are."""
        if isinstance(values[0], int | float):
            return stack(values, "targets")
        planes = [as_tensor(value, "targets") for value in values]
        if any(list(one.shape) != size.tolist() for one, size in zip(planes, sizes, strict=True)):
            return stack(values, "targets")
        if self.size is None:
            return torch.stack([_padded(one, height, width, self.ignore_index) for one in planes])
        return torch.cat([_picked(one, height, width)[None] for one in planes])


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False, antialias=True)


def _picked(plane: Tensor, height: int, width: int) -> Tensor:
    """Return a plane of labels at another size, each the nearest one's."""
    rows = ((torch.arange(height) + 0.5) * plane.shape[0] / height).long()
    columns = ((torch.arange(width) + 0.5) * plane.shape[1] / width).long()
    return plane[rows][:, columns]


def _padded(plane: Tensor, height: int, width: int, value: float) -> Tensor:
    return F.pad(plane, (0, width - plane.shape[-1], 0, height - plane.shape[-2]), value=value)
