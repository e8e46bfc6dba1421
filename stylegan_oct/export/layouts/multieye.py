"""assemble_oct/<train|dev|test>/large9cls.txt with the pictures in ImageData beside it, for MultiEYE's code."""

from stylegan_oct.export.layouts.lists import MULTIEYE_CLASSES, Lists


class MultiEye(Lists):
    """MultiEYE, arXiv 2412.09402."""

    name = "multieye"
    known = MULTIEYE_CLASSES
    splits = {"train": "train", "val": "dev", "test": "test"}
    pictures = "assemble_oct/{split}/ImageData"
    list_file = "assemble_oct/{split}/large9cls.txt"
