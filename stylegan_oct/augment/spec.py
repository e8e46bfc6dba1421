"""Which transformations are applied, how often and how strongly."""

import dataclasses
from dataclasses import dataclass

from dnnlib.errors import ConfigError
from dnnlib.text import suggest

GROUPS = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
TRANSFORMATIONS = tuple(name for names in GROUPS.values() for name in names)
PRESETS = {"bgcfnc"[:length]: tuple(GROUPS)[:length] for length in range(1, 7)}
_LETTERS = {"g": "geom", "c": "color", "f": "filter", "n": "noise"}


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentSpec:
    """Multipliers of the probability p, 0 for off, and the constants of the distributions.

    The defaults of the constants are those of Karras et al. 2020 ("Training Generative Adversarial Networks with
    Limited Data"), appendix B.
    """

    xflip: float = 0.0
    rotate90: float = 0.0
    xint: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0
    aniso: float = 0.0
    xfrac: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    lumaflip: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    imgfilter: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0

    xint_max: float = 0.125         # greatest shift, share of width and height
    scale_std: float = 0.2          # of log2 of the factor
    rotate_max: float = 1.0         # greatest angle, in half turns
    aniso_std: float = 0.2          # of log2 of the factor
    xfrac_std: float = 0.125        # of the shift, share of width and height
    brightness_std: float = 0.2     # of the added value; images span -1..1
    contrast_std: float = 0.5       # of log2 of the factor
    hue_max: float = 1.0            # greatest angle, in half turns
    saturation_std: float = 1.0     # of log2 of the factor
    imgfilter_bands: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)  # multipliers, lowest frequencies first
    imgfilter_std: float = 1.0      # of log2 of a band's gain
    noise_std: float = 0.1          # of sigma before its absolute value is taken
    cutout_size: float = 0.5        # side of the square, share of width and height

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if min(value if isinstance(value, tuple) else (value,)) < 0:
                raise ConfigError(f"{field.name} must not be negative; got {value}.")

    def uses(self, *groups: str) -> bool:
        """Return whether any transformation of the groups is on."""
        return any(getattr(self, name) > 0 for group in groups for name in GROUPS[group])


def parse_groups(groups: str) -> tuple[str, ...]:
    """Return the names of the transformations that a text names.

    Args:
        groups: one of b bg bgc bgcf bgcfn bgcfnc; or words with commas between them, each a group (its name or the
            letter b, g, c, f or n) or a transformation: "blit,color", "xflip,scale,brightness".
    Raises:
        ConfigError: a word is none of these.
    """
    if groups in PRESETS:
        return tuple(name for group in PRESETS[groups] for name in GROUPS[group])
    names: list[str] = []
    for word in (part.strip() for part in groups.split(",")):
        group = _LETTERS.get(word, "blit" if word == "b" else word)
        if group in TRANSFORMATIONS and group not in GROUPS:
            names.append(group)
        elif group in GROUPS:
            names.extend(GROUPS[group])
        else:
            raise ConfigError(f"augmentations {groups!r}: there is no {word!r}."
                              f"{suggest(word, [*PRESETS, *GROUPS, *TRANSFORMATIONS])}")
    return tuple(name for name in TRANSFORMATIONS if name in names)
