"""What each metric says, in words."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Meaning:
    """What a metric is to a reader."""

    title: str
    line: str             # what the number says
    worse: str = ""       # what it means to be worse than the floor
    above: str = ""       # the same beyond a floor that is to be met; "" where that is no fault
    importance: float = 0.5  # of a fault, against others as far from their floor
    percent: bool = False  # a share, shown in per cent


MEANINGS = {
    "fid50k_full": Meaning("FID", "The official Fréchet Inception distance of 50,000 samples.",
                           "samples can be told from real scans", importance=0.5),
    "kid50k_full": Meaning("KID", "The official kernel Inception distance of 50,000 samples.",
                           "samples can be told from real scans", importance=0.6),
    "pr50k3_full_precision": Meaning("Official precision", "Share of samples among the real ones, by VGG16.",
                                     "samples lie where no real scan does", importance=0.7),
    "pr50k3_full_recall": Meaning("Official recall", "Share of real scans among the samples, by VGG16.",
                                  "a part of the variety is missing", importance=0.9),
    "ppl2_wend": Meaning("Official path length", "How far a picture changes for a small step in w, by VGG16 LPIPS."),
    "fd": Meaning("Fréchet distance", "Distance of the means and covariances of features. It falls as the number of "
                  "pictures grows, so read it beside its floor alone.", "samples can be told from real scans",
                  importance=0.3),
    "kd": Meaning("Kernel distance", "Squared kernel distance of features, without bias at any number of pictures: "
                  "0 for equal distributions.", "samples as a whole can be told from real scans", importance=0.6),
    "precision": Meaning("Precision", "Share of samples that lie among the real scans.",
                         "a part of the samples lies where no real scan does",
                         "samples keep to the commonest kinds of scans", importance=0.8),
    "recall": Meaning("Recall", "Share of real scans that lie among the samples.",
                      "a part of the variety is missing", importance=1.0),
    "density": Meaning("Density", "How densely real scans surround the samples: above 1 where samples crowd the "
                       "commonest kinds.", "samples lie at the margin of the real scans",
                       "samples crowd the commonest kinds of scans", importance=0.3),
    "coverage": Meaning("Coverage", "Share of real scans with a sample in their neighbourhood.",
                        "some kinds of real scans have no sample near them", importance=0.9),
    "ppl_z": Meaning("Path length in z", "How far a picture changes for a small step between latents z: smooth is "
                     "low. There is no floor."),
    "ppl_w": Meaning("Path length in w", "How far a picture changes for a small step between latents w: smooth is "
                     "low. There is no floor."),
}
TO_TRAINING = "_train"  # ends the names of distances to the training scans
OTHER = Meaning("", "", "worse than real scans")


def meaning_of(metric: str) -> Meaning:
    """Return what a metric says; its name may end in that of the network that looked, as in recall_lite0."""
    family = family_of(metric)
    found = MEANINGS.get(family, OTHER)
    return found if found.title else replace(found, title=metric.replace("_", " "))


def family_of(metric: str) -> str:
    """Return the metric's name without what saw the pictures: recall_lite0 -> recall; itself where it is not known."""
    known = [name for name in MEANINGS if metric == name or metric.startswith(f"{name}_")]
    return max(known, key=len, default=metric)


def seer_of(metric: str) -> str:
    """Return what saw the pictures, "" where the name does not tell: recall_lite0 -> lite0."""
    return metric[len(family_of(metric)) + 1:]


def full_title(metric: str) -> str:
    """Return the title with what saw the pictures: Recall (lite0)."""
    seer = seer_of(metric)
    title = meaning_of(metric).title
    if seer.endswith(TO_TRAINING):
        seer, title = seer.removesuffix(TO_TRAINING), f"{title} to training scans"
    return f"{title} ({seer})" if seer else title


def number(value: float, metric: str) -> str:
    """Return a value as people read it."""
    if value != value:
        return "-"
    if meaning_of(metric).percent:
        return f"{100 * value:.1f} %"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size and size < 0.01:
        return f"{value:.2g}"
    return f"{value:.3f}" if size < 0.1 else f"{value:.2f}"
