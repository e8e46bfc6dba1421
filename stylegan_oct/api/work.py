"""Longer work that writes files: walks, atlases, evaluations, exports, trainings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from dnnlib.pictures import synthetic_text
from dnnlib.text import format_nimg
from stylegan_oct.api.progress import Progress, speaker, telling
from stylegan_oct.api.shown import as_html
from stylegan_oct.config import TrainConfig
from stylegan_oct.export import export as exporting
from stylegan_oct.export import report as export_report
from stylegan_oct.export.prepare import Settings as ExportSettings
from stylegan_oct.latent.atlas.make import Made, make_atlas
from stylegan_oct.latent.atlas.make import Settings as AtlasSettings
from stylegan_oct.latent.walk.film import film
from stylegan_oct.latent.walk.routes import plan
from stylegan_oct.metrics.ground import Ground, choose_archive
from stylegan_oct.metrics.ground import Settings as EvaluateSettings
from stylegan_oct.metrics.lines import report_lines
from stylegan_oct.metrics.report import Report
from stylegan_oct.model import OctGenerator
from stylegan_oct.video import Video
