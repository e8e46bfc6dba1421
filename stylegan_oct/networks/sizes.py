"""Resolutions and widths of the blocks of both networks; no torch, so that configurations can ask too."""

from dnnlib.errors import ConfigError


def block_resolutions(img_resolution: int) -> list[int]:
    """Return 4, 8 .. img_resolution.

    Raises:
        ConfigError: it is no power of two from 8 to 1024.
    """
    if img_resolution not in (8, 16, 32, 64, 128, 256, 512, 1024):
        raise ConfigError(f"The resolution must be a power of two from 8 to 1024; got {img_resolution}.")
    return [2**power for power in range(2, img_resolution.bit_length())]


def channels_at(resolution: int, *, channel_base: int, channel_max: int, channel_min: int = 1) -> int:
    """Return the number of feature maps of a block: channel_base / resolution within the bounds."""
    return min(max(channel_base // resolution, channel_min), channel_max)
