"""Errors of the biomarkers, written by `python -m benchmarks.biomarkers --write`.

Rows of a picture of the whole depth of a scan -> biomarker -> the limit below which 90 of 100 absolute errors lie,
measured on 200 and 600 phantom scans of four classes at each resolution. Biomarkers that a resolution does not allow
are absent.
"""

from typing import Final

ERRORS: Final[dict[int, dict[str, float]]] = {
    64: {
        "central_thickness_um": 20.9,
        "mean_thickness_um": 14.3,
        "rpe_elevation_max_um": 42.3,
        "rpe_elevation_area_mm2": 0.0586,
        "drusen_height_um": 75.8,
        "drusen_area_mm2": 0.0716,
        "intraretinal_fluid_mm2": 0.038,
        "subretinal_fluid_mm2": 0.0486,
    },
    256: {
        "central_thickness_um": 5.09,
        "mean_thickness_um": 2.84,
        "rpe_elevation_max_um": 13.2,
        "rpe_elevation_area_mm2": 0.0319,
        "drusen_count": 4.1,
        "drusen_height_um": 41.4,
        "drusen_area_mm2": 0.0213,
        "intraretinal_fluid_mm2": 0.0161,
        "subretinal_fluid_mm2": 0.0244,
        "foci_count": 4,
    },
    512: {
        "central_thickness_um": 4.07,
        "mean_thickness_um": 2.68,
        "rpe_elevation_max_um": 11.3,
        "rpe_elevation_area_mm2": 0.0313,
        "drusen_count": 4,
        "drusen_height_um": 39.1,
        "drusen_area_mm2": 0.0195,
        "intraretinal_fluid_mm2": 0.0242,
        "subretinal_fluid_mm2": 0.0256,
        "foci_count": 4.1,
    },
}
