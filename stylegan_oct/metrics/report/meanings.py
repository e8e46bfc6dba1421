"""What each metric says, in words."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Meaning:
    """What a metric is to a reader."""

    title: str
    line: str             # what the number says
    worse: str = ""       # what it means to be worse than the floor
    above: str = ""       # the same beyond a floor that is to be met; "" where that is no fault
    importance: float = 0.5  # of a fault, against others as far from their floor; 0: another metric speaks for it
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
    "fd_train": Meaning("Fréchet distance to training scans", "As papers give it, beside that of as many "
                        "held-out scans. A generator that copies does best.", importance=0.0),
    "kd_train": Meaning("Kernel distance to training scans", "As papers give it, beside that of held-out "
                        "scans. It shows no copies.", importance=0.0),
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
    "tstr_auc": Meaning("AUC, trained on synthetic", "How well a classifier that saw synthetic scans alone ranks real "
                        "ones; the floor is one trained on all real scans.",
                        "a classifier trained on the samples does worse on real scans", importance=1.5),
    "tstr_accuracy": Meaning("Accuracy, trained on synthetic", "Share of real scans named rightly, the classes "
                             "counting alike; the floor is training on real scans.",
                             "a classifier trained on the samples does worse on real scans", importance=0.8),
    "tstr_sensitivity": Meaning("Sensitivity, trained on synthetic", "Share of real scans of a class that are found.",
                                "a classifier trained on the samples misses scans", importance=0.7),
    "tstr_specificity": Meaning("Specificity, trained on synthetic", "Share of real scans of other classes that are "
                                "not taken for this one.", "a classifier trained on the samples raises false alarms",
                                importance=0.7),
    "gap_auc": Meaning("AUC lost", "What is lost by training on synthetic instead of real scans; the published bar is "
                       "0.01 (Zheng 2020)."),
    "gap_accuracy": Meaning("Accuracy lost", "What is lost by training on synthetic instead of real scans."),
    "gain_auc": Meaning("AUC won", "What is won by adding synthetic scans to real ones."),
    "gain_accuracy": Meaning("Accuracy won", "What is won by adding synthetic scans to real ones."),
    "memorised": Meaning("Memorised", "Share of samples nearer to a training scan than 99 of 100 held-out scans are: "
                         "copies, where it is above the floor of about 1 %.",
                         "samples repeat training scans", importance=3.0, percent=True),
    "authenticity": Meaning("Authenticity", "Share of samples farther from their nearest training scan than that is "
                            "from its own nearest. About a half for new scans, not all.",
                            "samples lie close to training scans", importance=0.5, percent=True),
    "planted_found": Meaning("Planted copies found", "Share of disguised training scans that the judge flags: how far "
                             "its silence can be trusted.", percent=True),
    "planted_auroc": Meaning("Planted copies told apart", "Area under the curve of disguised training scans against "
                             "held-out ones: 1 where all are told apart, a half by chance."),
    "agreement": Meaning("Agreement with the class oracle", "Share of samples in which the oracle sees the class asked "
                         "for; the floor is its share on held-out scans.",
                         "some samples do not show the class that was asked for", importance=1.2, percent=True),
    "wasserstein": Meaning("Wasserstein distance of biomarkers", "How far the distributions lie apart, in standard "
                           "deviations of the scans.", "biomarkers are distributed otherwise than in scans",
                           importance=0.6),
    "ks": Meaning("Greatest difference of biomarkers", "Kolmogorov-Smirnov: the greatest difference of the cumulative "
                  "shares, 0 to 1.", importance=0.0),  # the Wasserstein distance speaks for it
    "unmeasured": Meaning("Biomarkers that cannot be measured", "Share of pictures in which the measurement finds "
                          "nothing to measure.", above="less can be measured than in scans",
                          importance=0.4, percent=True),
    "ppl_z": Meaning("Path length in z", "How far a picture changes for a small step between latents z: smooth is "
                     "low. There is no floor."),
    "ppl_w": Meaning("Path length in w", "How far a picture changes for a small step between latents w: smooth is "
                     "low. There is no floor."),
}
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
    return f"{meaning_of(metric).title} ({plain(seer)})" if seer else meaning_of(metric).title


def plain(name: str) -> str:
    """Return a biomarker's name, or another, without its unit: central_thickness_um -> central thickness."""
    return name.removesuffix("_um").removesuffix("_mm2").replace("_", " ").replace("rpe", "RPE")


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
    return f"{value:.3f}" if size < 0.1 or "auc" in metric else f"{value:.2f}"
