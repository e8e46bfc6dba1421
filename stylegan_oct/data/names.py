"""Names as people write them: paths, classes and patients are brought to one spelling here, before anything is read."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from stylegan_oct.classes import CLASSES

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
               "test": "test", "testing": "test"}
FOLDERS = 4096  # names whose meaning is kept: a set of 100,000 scans has few folders


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What public sets and clinics call classes, as `fold_class` writes it. A folder of another name may be a patient.
KNOWN_CLASSES = _words("""
    cnv dme drusen normal nor no healthy control controls abnormal diseased pathological positive negative other others
    amd armd amrd damd wamd namd iamd dryamd wetamd dry wet earlyamd intermediateamd lateamd advancedamd exudativeamd
    neovascularamd nonneovascularamd mnv ga geographicatrophy pcv ped pdr npdr dr diabeticretinopathy diabetic
    diabeticmacularedema diabeticmacularoedema me cme macularedema macularoedema choroidalneovascularization
    choroidalneovascularisation agerelatedmaculardegeneration maculardegeneration csr csc cscr
    centralserousretinopathy centralserouschorioretinopathy mh macularhole erm mem epiretinalmembrane vid vmt
    vitreomaculartraction vitreomacularinterfacedisease rvo brvo crvo veinocclusion retinalveinocclusion rao brao crao
    retinalarteryocclusion glc glaucoma myo myopia pathologicmyopia highmyopia rp retinitispigmentosa stargardt
    uveitis srf irf hrf referable nonreferable urgent routine""")
# Words of these that mean something else as often: a column of them alone may hold anything.
WEAK = _words("no nor me other others positive negative wet dry urgent routine abnormal diseased")
FILLERS = re.compile(r"(?<=[a-z])(?:eyes?|retinas?|octs?|scans?|images?|class|cases?|patients?|subjects?)$")
# Folders that tell neither a class nor a patient.
SILENT = _words("""
    image images img imgs pic pics picture pictures imagedata oct octs octimages octscans scan scans bscan bscans
    frame frames slice slices volume volumes bmp png pngs jpg jpgs jpeg jpegs tif tiff tiffs 8bittiffs raw data
    original originals processed patient patients subject subjects cases eyes od os ou left right l r lefteye
    righteye re le""")
PATIENT_FOLDER = re.compile(r"(?:patients?|pat|pt|subj(?:ect)?|sub|case|person|participant|volunteer|volume|vol|eye|id)"
                            r"(?:[\s_.#-]+\w+|\d+\w*)|(?:p|s|pid|mrn)[\s_.#-]*\d+\w*", re.ASCII)
DATE = re.compile(r"(?:19|20)\d\d([-_. ]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])|\d{1,2}([-_.])\d{1,2}\2\d{2,4}")
YEAR = re.compile(r"(?:19|20)\d\d", re.ASCII)
NUMBERED = re.compile(r"\s*(?:\d+[\s_.#-]*)?(.*?)(?:[\s_.#-]*\d+)?\s*", re.DOTALL)


def clean_path(text: str) -> str:
    """Return a path with forward slashes, composed letters (NFC), and no ".", doubled slashes or blanks at the ends.

    Archivers of Windows write backslashes, those of macOS decomposed letters. For reading what a path tells, not for
    opening it.
    """
    parts = [part.strip() for part in unicodedata.normalize("NFC", text).replace("\\", "/").split("/")]
    lead = "/" if parts[0] == "" and len(parts) > 1 else ""
    return lead + "/".join(part for part in parts if part not in ("", "."))


def composed(text: str) -> str:
    """Return a text with composed letters (NFC) and without blanks at its ends."""
    return unicodedata.normalize("NFC", text).strip()


@lru_cache(FOLDERS)
def fold(text: str) -> str:
    """Return a text without what cannot be seen: case, composed or decomposed letters, marks of direction."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    seen = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFKC", seen).strip()


@lru_cache(FOLDERS)
def fold_class(name: str) -> str:
    """Return the spelling by which class names are compared: "Dry AMD", "dry_amd" and "DRY-AMD " are one."""
    return re.sub(r"(?<=[^\W\d_])[\s_-]+|[\s_-]+(?=[^\W\d_])", "", fold(name))


@lru_cache(FOLDERS)
def fold_patient(name: str) -> str:
    """Return the spelling by which patients are told apart: case, blanks and Unicode forms do not matter."""
    return unicodedata.normalize("NFKC", "".join(fold(name).split()))


@lru_cache(FOLDERS)
def is_known_class(name: str) -> bool:
    """Whether this is what retinal data sets call a class."""
    folded = fold_class(name)
    return folded in KNOWN_CLASSES or FILLERS.sub("", folded) in KNOWN_CLASSES


def is_clear_class(name: str) -> bool:
    """Whether this is a known class and hardly anything else."""
    return is_known_class(name) and fold_class(name) not in WEAK


def class_of_numbered(name: str) -> str | None:
    """Return "AMD" of "AMD12", "amd_12" or "12-AMD" where that is a known class; None of other names."""
    match = NUMBERED.fullmatch(name)
    return match[1] if match and match[1] != name.strip() and is_known_class(match[1]) else None


@lru_cache(FOLDERS)
def split_of(name: str) -> str | None:
    """Return "train", "val" or "test" for a folder or value of that meaning, such as "Training" or "test_set"."""
    return SPLIT_NAMES.get(re.sub(r"[\s_-]*(?:set|data|split|images)$", "", fold(name)))


@lru_cache(FOLDERS)
def looks_like_patient(folder: str) -> bool:
    """Whether a folder is named as folders of patients are: patient_7, P0012, 1016042; dates and years are none."""
    folded = fold(folder)
    if DATE.fullmatch(folded) or YEAR.fullmatch(folded):
        return False
    return folded.isdecimal() or PATIENT_FOLDER.fullmatch(folded) is not None


@lru_cache(FOLDERS)
def is_silent(folder: str) -> bool:
    """Whether a folder tells neither class nor patient: images, OD, 2019-03-12."""
    return fold_class(folder) in SILENT or DATE.fullmatch(fold(folder)) is not None


def order_classes(labels: Sequence[str | None]) -> dict[str, str]:
    """Return the final name of each label; ours come first, in our order, numbers in theirs.

    Spellings that differ in case, blanks, hyphens or Unicode form become one: the most frequent.
    """
    counts = Counter(label for label in labels if label is not None)
    by_fold: dict[str, list[str]] = {}
    for label in counts:
        by_fold.setdefault(fold_class(label), []).append(label)
    ranks = {fold_class(name): rank for rank, name in enumerate(CLASSES)}

    def place(folded: str) -> tuple[int, int, str]:
        return ranks.get(folded, len(ranks)), int(folded) if folded.isdecimal() else 0, names[folded]

    names = {folded: CLASSES[ranks[folded]] if folded in ranks else
             composed(max(spelt, key=lambda label: (counts[label], label))) for folded, spelt in by_fold.items()}
    return {label: names[folded] for folded in sorted(names, key=place) for label in by_fold[folded]}
