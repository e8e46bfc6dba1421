"""How far the biomarkers can be trusted: fresh phantom scans, measured and compared with their ground truth.

    python -m benchmarks.biomarkers                       # 64, 256 and 512 px; minutes
    python -m benchmarks.biomarkers --resolution 256 --count 200
    python -m benchmarks.biomarkers --write               # renews stylegan_oct/latent/biomarkers/errors.py

Expected before measuring, at 256 px: boundaries within 2 px, thickness within 10 um, rank correlation of the drusen and
fluid areas at least 0.9 among the scans of the class that has them, 20 images/s on one core. At 64 px: boundaries
within 1 px, areas of fluid 0.8, drusen 0.6. Run with OMP_NUM_THREADS=1 for the speed of one core.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from stylegan_oct.classes import CLASSES
from stylegan_oct.latent.biomarkers.measure import CENTRE_MM, DEPTH_UM, NAMES, Measurements, measure
from stylegan_oct.phantom import LAYERS, LESIONS, Scan, render

SEED = 8_000_000
OUT = Path("stylegan_oct/latent/biomarkers/errors.py")
COUNTS = {64: 150, 256: 150, 512: 50}
TOPS = {"ilm": "RNFL", "rpe": "sub-RPE", "bruch": "choroid"}
PAIRS = {"drusen_area_mm2": "DRUSEN", "drusen_height_um": "DRUSEN", "drusen_count": "DRUSEN",
         "rpe_elevation_max_um": "CNV", "rpe_elevation_area_mm2": "CNV", "intraretinal_fluid_mm2": "DME",
         "subretinal_fluid_mm2": "CNV", "foci_count": "DME"}
HEADER = '''"""Errors of the biomarkers, written by `python -m benchmarks.biomarkers --write`.

Rows of a picture of the whole depth of a scan -> biomarker -> the limit below which 90 of 100 absolute errors lie,
measured on {count} phantom scans of {classes} classes at each resolution. Biomarkers that a resolution does not allow
are absent.
"""

from typing import Final

'''


def curves(scan: Scan) -> dict[str, np.ndarray]:
    """Return the true depth of each boundary, [W] rows."""
    return {name: (scan.layers < LAYERS.index(top)).sum(axis=0) for name, top in TOPS.items()}


def truth(scan: Scan, found: Measurements, number: int) -> dict[str, float]:
    """Return the true biomarkers; the centre is where the measurement has put it."""
    height, width = scan.image.shape
    um_z, um_x = found.um_per_px
    lines, factors = curves(scan), scan.factors
    thickness = (lines["bruch"] - lines["ilm"]) * um_z
    middle = (width - 1) / 2 if np.isnan(found.fovea[number]) else found.fovea[number]
    near = np.abs(np.arange(width) - middle) * um_x <= 1000 * CENTRE_MM
    raised = (lines["bruch"] - lines["rpe"]) * um_z
    pixel = um_z * um_x * 1e-6
    return {"central_thickness_um": thickness[near].mean(), "mean_thickness_um": thickness.mean(),
            "rpe_elevation_max_um": raised.max(), "rpe_elevation_area_mm2": raised.sum() * um_x * 1e-6,
            "drusen_count": factors.drusen_n, "drusen_height_um": factors.drusen_max_height_um,
            "drusen_area_mm2": factors.drusen_area_mm2,
            "intraretinal_fluid_mm2": float((scan.lesions == LESIONS.index("cyst")).sum() * pixel),
            "subretinal_fluid_mm2": float((scan.lesions == LESIONS.index("SRF")).sum() * pixel),
            "foci_count": factors.hrf_n}


def examine(resolution: int, count: int) -> dict[str, float]:
    """Print what holds at a resolution; return the 90th percentile of the absolute error of each biomarker."""
    labels, measured, true, cst, off = [], [], [], [], {name: [] for name in TOPS}
    seconds = 0.0
    for place, label in enumerate(CLASSES):
        scans = [render(SEED, place * 100_000 + index, label=label, resolution=(resolution, resolution), masks=True,
                        border=False) for index in range(count)]
        for width in {scan.factors.width_mm for scan in scans}:
            group = [scan for scan in scans if scan.factors.width_mm == width]
            began = time.process_time()
            scale = DEPTH_UM / resolution, 1000 * width / resolution
            found = measure(np.stack([scan.image for scan in group]), scale)
            seconds += time.process_time() - began
            for number, scan in enumerate(group):
                labels.append(label)
                measured.append([found.values[name][number] for name in NAMES])
                known = truth(scan, found, number)
                true.append([known[name] for name in NAMES])
                on_fovea = scan.factors.scan_offset_mm < 0.3 and not np.isnan(found.fovea[number])
                error = abs(found.values["central_thickness_um"][number] - scan.factors.cst_um)
                cst.append(error if on_fovea else np.nan)
                for name, curve in curves(scan).items():
                    off[name].append(np.nanmean(np.abs(getattr(found, name)[number] - curve)))
    label_of, got, want = np.array(labels), np.array(measured), np.array(true)
    print(f"\n{resolution} px, {len(labels)} scans, {len(labels) / seconds:.0f} images/s of CPU")
    for name, errors in off.items():
        by_class = "  ".join(f"{c} {np.mean(np.array(errors)[label_of == c]):.2f}" for c in CLASSES)
        print(f"  {name}: mean absolute error {np.mean(errors):.2f} px   {by_class}   "
              f"images beyond 2 px {np.mean(np.array(errors) > 2):.1%}")
    print("  central thickness against the factor cst_um, where a fovea is found: median error "
          + "  ".join(f"{c} {np.nanmedian(np.array(cst)[label_of == c]):.1f}" for c in CLASSES) + " um")
    limits = {}
    for place, name in enumerate(NAMES):
        error = got[:, place] - want[:, place]
        known = ~np.isnan(error)
        if not known.any():
            print(f"  {name}: not measured")
            continue
        limits[name] = float(f"{np.percentile(np.abs(error[known]), 90):.3g}")
        rank = ""
        if name in PAIRS:
            own = known & (label_of == PAIRS[name])
            rank = (f"   rank correlation {PAIRS[name]} {spearmanr(got[own, place], want[own, place])[0]:.3f}, "
                    f"all {spearmanr(got[known, place], want[known, place])[0]:.3f}")
        print(f"  {name}: mean absolute error {np.abs(error[known]).mean():.3g}, bias {error[known].mean():+.3g}, "
              f"90 % within {limits[name]:g}, unknown {np.mean(~known):.1%}{rank}", flush=True)
    return limits


def main() -> None:
    """Examine the resolutions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, nargs="*", default=sorted(COUNTS))
    parser.add_argument("--count", type=int, help="scans of each class")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    table = {size: examine(size, args.count or COUNTS.get(size, 50)) for size in args.resolution}
    if args.write:
        counts = " and ".join(sorted({str(4 * (args.count or COUNTS.get(size, 50))) for size in table}, key=int))
        lines = [f"    {size}: {{\n" + "".join(f'        "{name}": {value:g},\n' for name, value in limits.items())
                 + "    },\n" for size, limits in table.items()]
        OUT.write_text(HEADER.format(count=counts, classes="four") + "ERRORS: Final[dict[int, dict[str, float]]] = {\n"
                       + "".join(lines) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
