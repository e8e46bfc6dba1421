"""assemble_oct/<train|dev|test>/large9cls.txt with the pictures below train/ImageData, for MultiEYE's code."""

from collections.abc import Sequence

from dnnlib.errors import ConfigError
from stylegan_oct.export.layouts.lists import Lists


class MultiEye(Lists):
    """MultiEYE / OCT-CoDA, arXiv 2412.09402; github.com/xmed-lab/MultiEYE."""

    name = "multieye"
    known = ("NOR", "AMD", "CSC", "DR", "GLC", "MEM", "MYO", "RVO", "WAMD")
    splits = {"train": "train", "val": "dev", "test": "test"}
    pictures = "assemble_oct/train/ImageData/oct-filter-448x448"  # that name, whatever the size of the pictures
    list_file = "assemble_oct/{split}/large9cls.txt"

    def label(self, places: Sequence[int]) -> str:
        """Return the number of the class."""
        if len(places) > 1:
            raise ConfigError(f"The layout {self.name} gives each picture one class; got "
                              f"{'+'.join(self.known[place] for place in places)}. Several at once are for fddm.")
        return str(places[0])
