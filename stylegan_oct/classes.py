"""The four classes, in the order of their labels (that of OCT2017 and OCTMNIST)."""

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
