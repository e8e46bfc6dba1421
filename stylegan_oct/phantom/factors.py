"""The ground truth of one simulated scan, as one row of factors.csv."""

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Every factor; sizes are 0 where the lesion is absent. Units are in the names; the rest have none."""

    label: str
    severity: float              # 0 for NORMAL, below 0.28 subtle, up to 1
    laterality: str              # OD or OS
    width_mm: float              # what the scan's columns span
    fovea_x_mm: float            # from the middle of the scan, positive to the right
    scan_offset_mm: float        # the scan passes the fovea at this distance
    tilt_deg: float              # positive: deeper to the right
    curvature_um_per_mm2: float  # positive: the edges bend up
    thickness_scale: float       # of all retinal layers
    retinal_pos: float           # depth of Bruch's membrane in the middle column, share of the height
    choroid_um: float            # mean thickness
    looks: float                 # averaged looks of the speckle
    floor_grey: float            # display grey (0 to 1) of one SD of the noise
    gain: float                  # on the display grey
    vessels_n: int
    vitreous_line: int           # 1 where the vitreous face is seen
    cst_um: float                # mean inner limiting to Bruch's membrane within 0.5 mm of the fovea's column
    foveal_thickness_um: float   # the same in the fovea's column
    drusen_n: int
    drusen_mean_height_um: float   # of the single drusen, before neighbours merge
    drusen_mean_width_um: float
    drusen_max_height_um: float
    drusen_area_mm2: float
    ped_height_um: float
    ped_width_um: float
    srf_height_um: float
    srf_width_um: float
    srf_area_mm2: float
    shrm_height_um: float
    shrm_width_um: float
    shrm_grey: float             # display grey, 0 to 1
    cysts_n: int
    cysts_area_mm2: float
    cyst_max_um: float           # largest height or width
    hrf_n: int                   # hyperreflective foci
    border_type: str             # none, white or black
    border_angle_deg: float
    border_fraction: float       # of the picture's pixels

    def row(self) -> dict[str, str | int | float]:
        """Return the factors by name; floats rounded to what a reader can use (1e-4)."""
        return {name: round(value, 4) if isinstance(value, float) else value
                for name, value in dataclasses.asdict(self).items()}


def factor_names() -> list[str]:
    """Return the column names in their order."""
    return [field.name for field in dataclasses.fields(Factors)]
