import hashlib
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from made_samples import CHECKPOINT, made_item, made_picture, made_samples
from PIL import Image

from stylegan_oct.export.description.marks import SOURCE_TYPE, XMP_KEYWORD, Marker, corner_tag

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def _open(png):
    return Image.open(io.BytesIO(png))


def test_a_picture_says_that_it_is_synthetic_and_how_it_was_drawn():
    text = _open(Marker().stamp(made_item(7), made_picture(7)).png).text
    assert text["synthetic"] == "true" and "not for diagnosis" in text["Description"]
    assert (text["seed"], text["psi"], text["class"], text["checkpoint_sha256"]) == ("7", "0.8", "NORMAL", CHECKPOINT)


def test_the_xmp_is_valid_xml_with_the_type_that_the_iptc_names():
    packet = _open(Marker().stamp(made_item(7), made_picture(7)).png).text[XMP_KEYWORD]
    root = ElementTree.fromstring(packet)
    assert root.find(f".//{RDF}Description").attrib[IPTC] == SOURCE_TYPE
    assert SOURCE_TYPE.endswith("/trainedAlgorithmicMedia")


def test_pillow_reads_the_xmp():
    pytest.importorskip("defusedxml", reason="Pillow reads XMP with defusedxml")
    found = _open(Marker().stamp(made_item(7), made_picture(7)).png).getxmp()
    assert found["xmpmeta"]["RDF"]["Description"]["DigitalSourceType"] == SOURCE_TYPE


def test_marks_change_no_pixel():
    picture = made_picture(7)
    stamped = Marker().stamp(made_item(7), picture)
    assert (np.asarray(_open(stamped.png)) == picture).all()
    assert stamped.item.pixels_sha256 == hashlib.sha256(picture.tobytes()).hexdigest()


def test_the_same_picture_gives_the_same_bytes():
    assert Marker().stamp(made_item(7), made_picture(7)).png == Marker().stamp(made_item(7), made_picture(7)).png


@pytest.mark.parametrize("side", [64, 256, 512])
def test_the_corner_mark_covers_the_upper_left_corner_alone(side):
    picture = made_picture(1, side)
    marked = np.asarray(_open(Marker(corner=True).stamp(made_item(1), picture).png))
    height, width = corner_tag(side).shape
    assert (marked[:height, :width] == corner_tag(side)).all()
    assert (marked[height:] == picture[height:]).all() and (marked[:, width:] == picture[:, width:]).all()
    assert height <= max(side // 8, 14) and width <= side // 2
    assert corner_tag(side).min() == 0 and corner_tag(side).max() > 200


def test_a_corner_mark_fits_the_smallest_picture():
    picture = made_picture(1, 8)
    assert Marker(corner=True).stamp(made_item(1), picture).pixels.shape == (8, 8)


def test_a_corner_mark_on_colour_is_white_on_black():
    picture = np.full((64, 64, 3), 99, np.uint8)
    marked = Marker(corner=True).stamp(made_item(1), picture).pixels
    assert set(np.unique(np.ptp(marked, axis=2))) == {0} and picture.max() == 99


def test_threads_keep_the_order():
    assert [stamped.item.seed for stamped in Marker().stamp_all(made_samples(range(100)))] == list(range(100))


def test_no_more_pictures_are_drawn_ahead_than_the_threads_need():
    drawn = []

    def samples():
        for seed in range(1000):
            drawn.append(seed)
            yield made_item(seed), made_picture(seed)
    next(Marker().stamp_all(samples()))
    assert len(drawn) <= 40


def test_what_stops_the_drawing_stops_the_marking():
    with pytest.raises(KeyboardInterrupt):
        list(Marker().stamp_all(made_samples(range(100), fail_at=50)))
