"""image_data/topcon-mm/<split>/oct.txt with the pictures in train/Images/oct-images, for FDDM's code."""

from stylegan_oct.export.layouts.lists import FDDM_CLASSES, Lists


class Fddm(Lists):
    """Wang et al. 2023 (MICCAI, "Fundus-Enhanced Disease-Aware Distillation Model"); github.com/xmed-lab/FDDM."""

    name = "fddm"
    known = FDDM_CLASSES
    pictures = "image_data/topcon-mm/train/Images/oct-images"
    list_file = "image_data/topcon-mm/{split}/oct.txt"
