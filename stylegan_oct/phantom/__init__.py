"""A simulated retina: B-scans as a Spectralis shows them, of four classes, with their ground truth. Needs no torch."""

from stylegan_oct.phantom.anatomy import BORDER, LAYERS
from stylegan_oct.phantom.factors import Factors, factor_names
from stylegan_oct.phantom.lesions import LESIONS
from stylegan_oct.phantom.scan import Scan, render

__all__ = ["BORDER", "LAYERS", "LESIONS", "Factors", "Scan", "factor_names", "render"]
