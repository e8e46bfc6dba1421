"""What says of a picture that it is synthetic: text and XMP within the PNG, and a tag in its corner on request.

Text and XMP are lost when other software saves the picture anew; file name, manifest and hash list say it too.
"""

import hashlib
import os
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dnnlib.pictures import SYNTHETIC_NOTE, Picture, encode_png, synthetic_text
from stylegan_oct import __version__
from stylegan_oct.export.description.manifest import Item, Samples

XMP_KEYWORD = "XML:com.adobe.xmp"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = (  # the invisible character of the first line is part of the format, which tells the encoding by it
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    f' Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}" xmp:CreatorTool="stylegan-oct {__version__}">'
    f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{SYNTHETIC_NOTE}</rdf:li></rdf:Alt></dc:description>'
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>')
SHORT_BELOW_PX = 128  # narrower pictures have no room for the whole word


@dataclass(frozen=True)
class Stamped:
    """A marked picture."""

    item: Item       # with the hash of the pixels
    pixels: Picture
    png: bytes


@dataclass(frozen=True, kw_only=True)
class Marker:
    """Marks pictures as synthetic."""

    corner: bool = False   # write "synthetic" into the upper left corner

    def pixels(self, picture: Picture) -> Picture:
        """Return the pixels to be stored of a picture [R, R] or [R, R, 3]."""
        if not self.corner:
            return np.ascontiguousarray(picture)
        tag = corner_tag(picture.shape[1])[:picture.shape[0], :picture.shape[1]]
        marked = picture.copy()
        marked[:tag.shape[0], :tag.shape[1]] = tag if picture.ndim == 2 else tag[:, :, np.newaxis]
        return marked

    def stamp(self, item: Item, picture: Picture) -> Stamped:
        """Return a picture with its marks, as a PNG."""
        pixels = self.pixels(picture)
        facts = {"class": item.class_name} if item.class_name else {}
        text = synthetic_text("generator", **facts, seed=item.seed, psi=item.psi, noise=item.noise,
                              checkpoint_sha256=item.checkpoint_sha256) | {XMP_KEYWORD: XMP}
        # Speckle never repeats: looking for repeats longer than a run costs half as much time again, and gains nothing.
        png = encode_png(pixels, text, compress_level=1, compress_type=zlib.Z_RLE)
        return Stamped(with_pixels_hash(item, pixels), pixels, png)

    def stamp_all(self, samples: Samples) -> Iterator[Stamped]:
        """Yield pictures with their marks, in order; threads work while the next pictures are being drawn."""
        workers = min(os.cpu_count() or 1, 8)
        ahead = 4 * workers
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[Stamped]] = deque()
            for sample in samples:
                waiting.append(pool.submit(self.stamp, *sample))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def with_pixels_hash(item: Item, pixels: Picture) -> Item:
    """Return the item with the SHA-256 of the stored values."""
    return replace(item, pixels_sha256=hashlib.sha256(pixels.tobytes()).hexdigest())


@lru_cache
def corner_tag(width: int) -> Picture:
    """Return the tag for a picture of some width, uint8 [h, w], white on black: "synthetic", or "syn" on small ones."""
    word = "synthetic" if width >= SHORT_BELOW_PX else "syn"
    font = ImageFont.load_default(size=max(9, width // 20))
    left, top, right, bottom = (round(edge) for edge in font.getbbox(word))
    tag = Image.new("L", (right - left + 4, bottom - top + 4), 0)
    ImageDraw.Draw(tag).text((2 - left, 2 - top), word, fill=255, font=font)
    return np.asarray(tag)
