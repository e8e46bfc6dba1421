"""Words of users, such as names of classes, made fit for the place where they go.

HTML is escaped by jinja2, JSON by `json`, a shell's arguments by `shlex.quote`, markup of rich by `rich.markup.escape`.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

LONGEST = 60  # bytes of a word within a file name: with what is added, a tar's header holds 100
FORMULA = (*"=+-@\t\r\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four are those of Japanese keyboards
RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # names of devices on Windows


def word(text: str) -> str:
    """Return the letters and digits of a text, in any script, with _ for all between them; "" where there are none.

    It may be part of a file's name on every system, and holds no blank, hyphen or dot, at which readers split names.
    """
    return _cut("_".join(re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text))))


def file_name(text: str) -> str:
    """Return a name of a file or folder: the text itself where every system can take it, else one like it.

    Texts that differ have names that differ, at least by upper and lower case.
    """
    kept = re.sub(r"[^\w .,+()-]", "_", unicodedata.normalize("NFC", text)).lstrip(" ._-").rstrip(" .")
    name = _cut(RESERVED.sub(r"\1_\2", kept))
    mark = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:6]
    return name if name == text else f"{_cut(name, LONGEST - 7)}_{mark}".lstrip("_")


def file_names(texts: Iterable[str]) -> dict[str, str]:
    """Return `file_name` of each text, numbered where another differs by upper and lower case alone."""
    names: dict[str, str] = {}
    for number, text in enumerate(texts):
        name, taken = file_name(text), {other.casefold() for other in names.values()}
        names[text] = f"{name}_{number}" if name.casefold() in taken else name
    return names


def printable(text: str) -> str:
    """Return a text in one line without what moves the cursor, colours or turns the writing; such is spelt \\x1b."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def markdown(text: str) -> str:
    """Return a text that Markdown and the HTML within it show as it is, also in the cell of a table."""
    text = re.sub(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", printable(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def yaml_text(text: str) -> str:
    """Return a text between double quotes, as YAML reads it back."""
    return '"' + "".join(letter if letter.isprintable() and letter not in '\\"' else f"\\U{ord(letter):08x}"
                         for letter in text) + '"'


def csv_cells(values: Iterable[object]) -> list[object]:
    """Return a row of a CSV in which no spreadsheet finds a formula: a text that begins like one gets an apostrophe."""
    return [f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value for value in values]


def _cut(text: str, longest: int = LONGEST) -> str:
    return text.encode()[:longest].decode(errors="ignore")
