"""croissant.json: the export in the vocabulary of MLCommons Croissant 1.0, which search engines and loaders read.

mlcommons.org/croissant/1.0. The records are the rows of manifest.csv; files that hold many pictures are listed too.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from dnnlib.files import atomic_write, sha256_of
from stylegan_oct.export.description.card import Facts
from stylegan_oct.export.description.manifest import CSV, Column, Rows, manifest_of

FILE = "croissant.json"
TYPES: Final = {str: "sc:Text", int: "sc:Integer", float: "sc:Float", bool: "sc:Boolean"}
ENCODINGS: Final = {".csv": "text/csv", ".tar": "application/x-tar", ".zip": "application/zip",
                    ".npz": "application/zip", ".safetensors": "application/octet-stream"}
TERMS: Final = ("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet",
                "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
                "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField",
                "transform")


def write_croissant(out: Path, facts: Facts, rows: Rows) -> None:
    """Write croissant.json beside the manifest, the latents and the files that hold many pictures.

    Raises:
        OSError: a file cannot be read or written.
    """
    data = {
        "@context": _context(), "@type": "sc:Dataset", "name": "synthetic-retinal-oct",
        "description": "Synthetic retinal OCT pictures, drawn by a generator; no scans of patients, not for diagnosis.",
        "conformsTo": "http://mlcommons.org/croissant/1.0", "license": facts.licence,
        "version": "1.0.0", "isLiveDataset": False,
        "keywords": ["synthetic", "retina", "optical coherence tomography", *facts.collection.classes],
        "rai:dataLimitations": "Synthetic: no more variety than the generator's training data, whose biases it "
                               "inherits. Labels are what the generator was asked for. Not for diagnosis.",
        "rai:personalSensitiveInformation": "No scan of a patient is contained. A generator can repeat training "
                                            "scans; see the card for what was checked.",
        "distribution": list(_files(out)), "recordSet": [_records([*manifest_of(rows).columns])]}
    with atomic_write(out / FILE) as file:
        file.write(json.dumps(data, indent=1) + "\n")


def _context() -> dict[str, Any]:
    """Return the terms that the specification asks for."""
    return {"@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
            "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo",
            "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
            "examples": {"@id": "cr:examples", "@type": "@json"}, **{term: f"cr:{term}" for term in TERMS}}


def _files(out: Path) -> Iterator[dict[str, Any]]:
    """Yield the files that are no single pictures."""
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.suffix in ENCODINGS and not any(part.startswith(".") for part in name.split("/")):
            yield {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name,
                   "encodingFormat": ENCODINGS[path.suffix], "sha256": sha256_of(path)}


def _records(columns: list[Column]) -> dict[str, Any]:
    return {"@type": "cr:RecordSet", "@id": "pictures", "name": "pictures", "description": "A row for each picture.",
            "field": [_field(column) for column in columns]}


def _field(column: Column) -> dict[str, Any]:
    unit = f" ({column.unit})" if column.unit else ""
    return {"@type": "cr:Field", "@id": f"pictures/{column.name}", "name": column.name,
            "description": column.meaning + unit, "dataType": TYPES[column.kind],
            "source": {"fileObject": {"@id": CSV}, "extract": {"column": column.name}}}
