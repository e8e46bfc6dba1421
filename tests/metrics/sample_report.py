"""A report with values of every part, as an evaluation of a middling generator would find them."""

import dataclasses
import math

from stylegan_oct.metrics.report.report import Part, Reference, Report, Seer, Split, Subject
from stylegan_oct.metrics.statistics.values import Value

CLASSES = ("CNV", "DRUSEN")


def sample_report(**changes: object) -> Report:
    share = {"n": 800, "n_real": 800, "detector": "lite0-57934424", "better": "higher"}
    fidelity = (
        Value(metric="recall_lite0", value=0.41, interval=(0.38, 0.44), floor=0.78, floor_interval=(0.75, 0.8),
              **share),
        Value(metric="recall_lite0", class_name="CNV", value=0.2, interval=(0.15, 0.25), floor=0.77,
              floor_interval=(0.7, 0.8), **share),
        Value(metric="recall_lite0", class_name="DRUSEN", value=0.6, interval=(0.55, 0.65), floor=0.79,
              floor_interval=(0.75, 0.83), **share),
        Value(metric="kd_lite0", value=0.012, interval=(0.01, 0.014), floor=0.0, floor_interval=(-0.001, 0.001),
              n=800, n_real=800, better="lower", detector="lite0-57934424", seed=0),
        Value(metric="precision_lite0", value=0.79, interval=(0.76, 0.82), floor=0.78, floor_interval=(0.75, 0.8),
              **share),
        Value(metric="ppl_w_lite0", value=math.nan, note="too few pictures"))
    parts = (Part(name="fidelity", values=fidelity, seconds=1.5),
             Part(name="usefulness", reason="there are only 4 scans to test on"))
    report = Report(
        made="2026-01-01T00:00:00+00:00",
        subject=Subject(file="G_ema.safetensors", sha256="ab" * 32, nimg=80000, preset="demo", classes=CLASSES,
                        resolution=64, channels=1, data_source="phantom", training_archive="cd" * 32, psi=1.0),
        reference=Reference(file="phantom.zip", fingerprint="cd" * 32, source="phantom",
                            splits=(Split(name="train", scans={"CNV": 800, "DRUSEN": 800}, patients=None),)),
        detectors=(Seer(name="lite0", identity="lite0-57934424", sha256="ef" * 32, dim=1280, resize="as they are"),),
        settings={"count": 800, "seed": 0}, versions={"torch": "2.13.0"}, parts=parts, warnings=("a warning",))
    return dataclasses.replace(report, **changes)  # type: ignore[arg-type]
