"""Scans as devices export them, with a canary in every field that could name a patient, and a search for canaries."""

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

NAME, FIRST, NUMBER, VISIT = "Kanarienvogel", "Tweety", "4815162342", "VISIT-90210"
BORN, SEEN = "19610712", "20190923"
INTERNAL = 1748231907          # number of the patient in the device's own data base
BORN_DAYS, SEEN_DAYS = 22474.25, 43731.75  # dates of a .vol: days since 30 December 1899
EXAM_TICKS = 132137280123456789            # 100 ns since 1601
UID = f"1.2.826.0.1.3680043.8.498.{NUMBER}"

_TEXTS = (NAME, FIRST, NUMBER, VISIT, BORN, SEEN, "1961-07-12", "2019-09-23", "12.07.1961", "23.09.2019", str(INTERNAL),
          str(EXAM_TICKS), str(BORN_DAYS), str(SEEN_DAYS))
CANARIES = {text: text.lower().encode() for text in _TEXTS} | {
    f"{text} in {code}": text.lower().encode(code) for text in _TEXTS for code in ("utf-16-le", "utf-32-le")} | {
    "patient number as int32": struct.pack("<i", INTERNAL), "date of birth as double": struct.pack("<d", BORN_DAYS),
    "date of visit as double": struct.pack("<d", SEEN_DAYS), "time of examination": struct.pack("<Q", EXAM_TICKS)}


def canaries_in(*places: Path | str | bytes) -> list[str]:
    """Return the canaries found in texts, bytes, files, and all files below folders, their names and what zips hold."""
    found: list[str] = []
    for place in places:
        if isinstance(place, Path) and place.is_dir():
            found += canaries_in(*(path for path in sorted(place.rglob("*")) if path.is_file()))
            continue
        data = place.encode("utf-8", "surrogateescape") if isinstance(place, str) else place
        if isinstance(data, Path):
            found += [f"{data}: {name}" for name in canaries_in(*_inside(data), str(data.name))]
            data = data.read_bytes()
        found += [name for name, canary in CANARIES.items() if canary in data.lower() or canary in data]
    return found


def _inside(path: Path) -> list[bytes | str]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            return [file.read(name) for name in file.namelist()]
    if path.suffix == ".png":
        with Image.open(path) as image:
            return [repr(getattr(image, "text", {}))]
    return []


def draw(seed: int = 0, height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """Return a bright band in speckle, [height, width], nowhere black or white."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    depth = height * (0.5 + 0.1 * np.sin(x / width * 3 + seed))
    level = 30 + 130 * np.exp(-(((y - depth) / (height / 16)) ** 2))
    return np.clip(level * rng.gamma(4, 0.25, (height, width)), 12, 235).astype(np.uint8)


def make_vol(path: Path, *, count: int = 3, height: int = 64, width: int = 96, missing: int = 0,
             side: bytes = b"OD\0\0", um: tuple[float, float] = (3.872, 11.5), slo: int = 8) -> list[NDArray[np.uint8]]:
    """Write a .vol; return what its B-scans look like when displayed.

    Args:
        path: the file.
        count: B-scans.
        height: of a B-scan in pixels.
        width: of a B-scan in pixels.
        missing: columns at the left for which no value is stored.
        side: OD or OS.
        um: micrometres per pixel, in depth and along the scan.
        slo: width and height of the view of the fundus.
    """
    header = struct.pack("<12s3i3d2i2did4sQ2i", b"HSF-OCT-103\0", width, count, height, um[1] / 1000, 0.12,
                         um[0] / 1000, slo, slo, 0.01, 0.01, 30, 0.5, side, EXAM_TICKS, 3, 256 + 4 * width)
    header += struct.pack("<16s16si24sdi24sd", NUMBER.encode(), NUMBER.encode(), INTERNAL, NAME.encode(), BORN_DAYS,
                          INTERNAL, VISIT.encode(), SEEN_DAYS)
    scans = [draw(i, height, width) for i in range(count)]
    with open(path, "wb") as file:
        file.write(header.ljust(2048, b"\0"))
        file.write(bytes(slo * slo))
        for scan in scans:
            values = np.maximum(np.exp(scan / 255 * 8.285 - 8.3) - 2.44e-4, 0).astype("<f4")
            values[:, :missing] = np.finfo(np.float32).max
            file.write(struct.pack("<12sI", NAME.encode(), 256 + 4 * width).ljust(256 + 4 * width, b"\0"))
            file.write(values.tobytes())
    return scans


def make_dicom(path: Path, *, count: int = 3, height: int = 64, width: int = 96, bits: int = 8, spacing: str = "shared",
               side: str = "top", um: tuple[float, float] = (3.872, 11.5), **changes: Any) -> list[NDArray[np.uint8]]:
    """Write ophthalmic tomography as DICOM; return its frames as 8 bits.

    Args:
        path: the file.
        count: frames.
        height: of a frame in pixels.
        width: of a frame in pixels.
        bits: 8 or 16, stored.
        spacing: where the size of a pixel is: "shared", "frame", "top" or "none".
        side: where the eye is, a left one: "top", "frame" or "none".
        um: micrometres per pixel, in depth and along the scan.
        changes: elements to set otherwise, or with None to leave out; `syntax` compresses.
    """
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, OphthalmicTomographyImageStorage

    frames = [draw(i, height, width) for i in range(count)]
    stored = np.stack(frames) if frames else np.zeros((0, height, width), np.uint8)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = OphthalmicTomographyImageStorage
    meta.MediaStorageSOPInstanceUID = UID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=NAME.encode().ljust(128, b"\0"))
    data.SOPClassUID, data.SOPInstanceUID, data.StudyInstanceUID = OphthalmicTomographyImageStorage, UID, f"{UID}.1"
    data.SeriesInstanceUID, data.FrameOfReferenceUID = f"{UID}.2", f"{UID}.3"
    data.PatientName, data.PatientID, data.PatientBirthDate = f"{NAME}^{FIRST}", NUMBER, BORN
    data.OtherPatientNames, data.PatientAddress, data.PatientComments = f"{FIRST}^{NAME}", NAME, f"{NAME} {BORN}"
    data.StudyDate = data.SeriesDate = data.ContentDate = SEEN
    data.AcquisitionDateTime, data.StudyID, data.AccessionNumber = f"{SEEN}101112", "90210", VISIT
    data.InstitutionName, data.ReferringPhysicianName, data.OperatorsName = NAME, NAME, NAME
    data.DeviceSerialNumber, data.StationName, data.StudyDescription = NUMBER, FIRST, f"{NAME} {SEEN}"
    data.Modality, data.SamplesPerPixel, data.PhotometricInterpretation = "OPT", 1, "MONOCHROME2"
    data.NumberOfFrames, data.Rows, data.Columns = count, height, width
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit, data.PixelRepresentation, data.BurnedInAnnotation = bits - 1, 0, "NO"
    data.PixelData = (stored if bits == 8 else stored.astype("<u2") * 257).tobytes()
    measures, anatomy = Dataset(), Dataset()
    measures.PixelSpacing, anatomy.FrameLaterality = [um[0] / 1000, um[1] / 1000], "L"
    data.SharedFunctionalGroupsSequence = [Dataset()]
    data.PerFrameFunctionalGroupsSequence = [Dataset() for _ in frames]
    for groups in data.PerFrameFunctionalGroupsSequence:
        content = Dataset()
        content.FrameAcquisitionDateTime, content.FrameComments = f"{SEEN}101112", NAME
        groups.FrameContentSequence = [content]
        if spacing == "frame":
            groups.PixelMeasuresSequence = [measures]
        if side == "frame":
            groups.FrameAnatomySequence = [anatomy]
    if spacing == "shared":
        data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = [measures]
    if spacing == "top":
        data.PixelSpacing = measures.PixelSpacing
    if side == "top":
        data.ImageLaterality = "L"
    syntax = changes.pop("syntax", None)
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    if syntax:
        data.compress(syntax)
    data.save_as(path, enforce_file_format=True)
    return frames


def make_xml(path: Path, *, count: int = 3, um: tuple[float, float] = (3.872, 11.5)) -> list[NDArray[np.uint8]]:
    """Write a Heidelberg .xml with its pictures beside it; return the B-scans."""
    scans = [draw(i) for i in range(count)]
    images = "".join(_image(f"{NUMBER}_{i}.tif", "OCT", um) for i in range(count))
    for i, scan in enumerate(scans):
        Image.fromarray(scan).save(path.parent / f"{NUMBER}_{i}.tif", description=f"{NAME} {BORN}")
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?><HEDX><BODY><SWVersion><Version>1</Version></SWVersion>'
        f"<Patient><ID>{INTERNAL}</ID><LastName>{NAME}</LastName><FirstNames>{FIRST}</FirstNames>"
        f"<PatientID>{NUMBER}</PatientID><Birthdate><Date>1961-07-12</Date></Birthdate><Study><StudyDate><Date>2019-09-23"
        f"</Date></StudyDate><Series><ID>{INTERNAL}</ID><Laterality>R</Laterality>{_image('', 'LOCALIZER', um)}{images}"
        "</Series></Study></Patient></BODY></HEDX>", encoding="utf-8")
    return scans


def _image(name: str, kind: str, um: tuple[float, float]) -> str:
    return (f"<Image><ImageType><Type>{kind}</Type></ImageType><OphthalmicAcquisitionContext><Width>96</Width>"
            f"<ScaleX>{um[1] / 1000}</ScaleX><ScaleY>{um[0] / 1000}</ScaleY></OphthalmicAcquisitionContext>"
            f"<ImageData><ExamURL>C:\\{NAME}\\{name}</ExamURL></ImageData></Image>")


def make_picture(path: Path, **options: Any) -> NDArray[np.uint8]:
    """Write a PNG, JPEG or TIFF with canaries in its text chunks or EXIF; return its pixels."""
    scan = draw(7)
    note = f"{NAME}, {FIRST}; {BORN}; {NUMBER}"
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = note       # description, artist
    exif[0x0132] = "2019:09:23 10:11:12"
    text = PngInfo()
    text.add_text("Comment", note)
    extra: dict[str, Any] = {"pnginfo": text} if path.suffix == ".png" else {"exif": exif, "comment": note}
    if path.suffix in (".tif", ".tiff"):
        extra = {"description": note, "artist": note}
    Image.fromarray(scan).save(path, **extra, **options)
    return scan


def make_e2e(path: Path, *, count: int = 2, degrees: float = 20.0) -> list[NDArray[np.uint8]]:
    """Write an .e2e of one series with eyepy's description of the format; return its B-scans as displayed."""
    scans = [draw(i) for i in range(count)]
    reversed_bits = np.array([int(f"{value:010b}"[::-1], 2) for value in range(1024)])  # as eyepy reads the mantissa
    parts: list[tuple[int, int, bytes]] = [(9, -1, _patient()), (11, -1, b"\0" * 14 + b"R" + b"\0" * 12)]
    for i, scan in enumerate(scans):
        values = np.maximum(np.exp(scan / 255 * 8.285 - 8.3) - 2.44e-4, 2.0**-62)
        exponent = np.floor(np.log2(values))
        mantissa = reversed_bits[np.minimum(np.rint((values / 2**exponent - 1) * 1024), 1023).astype(int)]
        pixels = ((exponent + 63).astype("<u2") << 10) | mantissa
        head = struct.pack("<5I", 20 + 2 * scan.size, 35652097, scan.size, *scan.shape)
        parts.append((1073741824, 2 * i, head + pixels.astype("<u2").tobytes()))
        scales = struct.pack("<3I4fIff", 0, *scan.shape, -degrees / 2, 0, degrees / 2, 0, 0, 0, 0.003872)
        scales += struct.pack("<fI2f5I2fI", 0, 0, 0, 0, 0, scan.shape[1], count, i, 3, 0, 0, 0)
        parts.append((10004, 2 * i, (scales + struct.pack("<Q", EXAM_TICKS)).ljust(428, b"\0")))
    chunk = 36 + 52
    at = chunk + 52 + 44 * len(parts)
    folders, body = b"", b""
    for kind, part, content in parts:
        where = (INTERNAL, 1, 2, part)
        folders += struct.pack("<4I4i2H2I", 0, at + len(body), len(content), 0, *where, 1, 0, kind, 0)
        body += struct.pack("<12s5I4i2H2I", b"MDbData", 0, 0, 0, len(content), 0, *where, 1, 0, kind, 0) + content
    start = struct.pack("<12sI20s", b"CMDb", 100, b"") + struct.pack("<12sI20s4I", b"MDbMDir", 100, b"", len(parts), 0,
                                                                    chunk, 0)
    path.write_bytes(start + struct.pack("<12sI20s4I", b"MDbDir", 100, b"", len(parts), chunk, 0, 0) + folders + body)
    return scans


def _patient() -> bytes:
    return struct.pack("<31s66sI1s25s4x", FIRST.encode(), NAME.encode(), INTERNAL, b"F", NUMBER.encode())
