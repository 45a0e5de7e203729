"""A collator of images, which may differ in size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, final

import torch
import torch.nn.functional as F
from attrs import field, frozen
from torch import Tensor

from dovetail.data.batch import Batch
from dovetail.data.collators import as_tensor, collate_meta, collect_fields, stack
from dovetail.data.errors import DataError
from dovetail.spec import AtLeast

_PLANE: Final = len(("height", "width"))
_IMAGE: Final = len(("channels", "height", "width"))
_LARGEST_BYTE: Final = 255


def _check_std(_instance: object, _attribute: object, value: float | list[float]) -> None:
    if not all(std > 0 for std in (value if isinstance(value, list) else [value])):
        raise ValueError(f"std: must be above 0, got {value}")


@final
@frozen
class VisionCollator:
    """Normalises images, and resizes or pads them (on the right and below) to one size.

    An image is ``[channels, height, width]``, or ``[height, width]`` for one channel. Bytes are scaled to 0 … 1 first.
    The batch has ``inputs`` ``[batch, channels, height, width]``, float32 if images are bytes or integers; ``targets``,
    one per image, or one per pixel, resized or padded with their image; and ``meta`` as from the default collator, with
    ``image_size`` ``[batch, 2]``, the original height and width of each image.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    #: Subtracted from the pixels: one number, or one per channel.
    mean: float | list[float] = 0.0
    #: Divides the result: one number above 0, or one per channel.
    std: float | list[float] = field(default=1.0, validator=_check_std)
    #: Height and width to resize every image to, bilinearly; None pads to the largest of the batch.
    size: tuple[Annotated[int, AtLeast(1)], Annotated[int, AtLeast(1)]] | None = None
    #: Fills the padding of a smaller image, after normalising.
    pad_value: float = 0.0
    #: Fills the padding of per-pixel targets.
    ignore_index: int = -100

    def __call__(self, samples: list[Any]) -> Batch:
        """Return the batch of ``samples``, in their order.

        Raises:
            DataError: a sample is not an image, or images differ in their number of channels.
        """
        fields = collect_fields(samples)
        if "mask" in fields:
            raise DataError("samples have a mask; this collator takes images and targets")
        images = [self._image(number, value) for number, value in enumerate(fields["inputs"])]
        for number, image in enumerate(images):
            if image.shape[0] != images[0].shape[0]:
                raise DataError(
                    f"samples 0 and {number} of a batch have {images[0].shape[0]} and {image.shape[0]} channels"
                )
        sizes = torch.tensor([image.shape[-_PLANE:] for image in images])
        height, width = map(int, sizes.amax(dim=0)) if self.size is None else self.size
        batch = Batch(inputs=self._combine(images, height, width))
        if "targets" in fields:
            batch["targets"] = self._targets(fields["targets"], sizes, height, width)
        meta = {key: collate_meta(values) for key, values in fields.get("meta", {}).items()}
        batch["meta"] = meta | {"image_size": sizes}
        return batch

    def _image(self, number: int, value: Any) -> Tensor:
        """Return a normalised floating-point image ``[channels, height, width]``."""
        image = as_tensor(value, "inputs")
        if image.ndim == _PLANE:
            image = image[None]
        if image.ndim != _IMAGE or image.is_complex():
            raise DataError(
                f"sample {number} of a batch has inputs of shape {tuple(image.shape)}; an image must be "
                "(channels, height, width) or (height, width)"
            )
        if image.dtype is torch.uint8:
            image = image / _LARGEST_BYTE
        elif not image.is_floating_point():
            image = image.float()
        return (image - self._per_channel("mean", image)) / self._per_channel("std", image)

    def _per_channel(self, name: str, image: Tensor) -> Tensor:
        """Return the mean or the standard deviation, shaped to broadcast over an image."""
        value: float | list[float] = getattr(self, name)
        if isinstance(value, list) and len(value) != image.shape[0]:
            raise DataError(f"collator.{name} has {len(value)} numbers, but an image has {image.shape[0]} channels")
        return torch.tensor(value, dtype=image.dtype).reshape(-1, 1, 1)

    def _combine(self, images: Sequence[Tensor], height: int, width: int) -> Tensor:
        if self.size is not None:
            return torch.cat([_resize(image[None], height, width) for image in images])
        return torch.stack([_pad(image, height, width, self.pad_value) for image in images])

    def _targets(self, values: Sequence[Any], sizes: Tensor, height: int, width: int) -> Tensor:
        """Return per-pixel targets, resized or padded as their images; other targets unchanged."""
        if isinstance(values[0], int | float):
            return stack(values, "targets")
        planes = [as_tensor(value, "targets") for value in values]
        if any(list(plane.shape) != size.tolist() for plane, size in zip(planes, sizes, strict=True)):
            return stack(values, "targets")
        if self.size is None:
            return torch.stack([_pad(plane, height, width, self.ignore_index) for plane in planes])
        return torch.cat([_resize_nearest(plane, height, width)[None] for plane in planes])


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False, antialias=True)


def _resize_nearest(plane: Tensor, height: int, width: int) -> Tensor:
    """Return a plane of labels resized by nearest neighbour, so that labels never mix."""
    rows = ((torch.arange(height) + 0.5) * plane.shape[0] / height).long()
    columns = ((torch.arange(width) + 0.5) * plane.shape[1] / width).long()
    return plane[rows][:, columns]


def _pad(plane: Tensor, height: int, width: int, value: float) -> Tensor:
    return F.pad(plane, (0, width - plane.shape[-1], 0, height - plane.shape[-2]), value=value)
