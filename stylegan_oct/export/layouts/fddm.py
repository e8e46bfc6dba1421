"""image_data/topcon-mm/<split>/oct.txt with the pictures in train/Images/oct-images, for FDDM's code."""

from collections.abc import Sequence

from stylegan_oct.export.layouts.lists import Lists


class Fddm(Lists):
    """Wang et al. 2023 (MICCAI, "Fundus-Enhanced Disease-Aware Distillation Model"); github.com/xmed-lab/FDDM."""

    name = "fddm"
    known = ("NOR", "AMD", "WAMD", "DR", "CSC", "PED", "MEM", "FLD", "EXU", "CNV", "RVO")
    pictures = "image_data/topcon-mm/train/Images/oct-images"
    list_file = "image_data/topcon-mm/{split}/oct.txt"

    def label(self, places: Sequence[int]) -> str:
        """Return a bit for each known class."""
        return " ".join("1" if place in places else "0" for place in range(len(self.known)))
