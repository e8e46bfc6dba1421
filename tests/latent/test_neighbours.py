"""Neighbours: what is found, how its nearness is told, copies, private files, and what is refused."""

import csv
import json
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from small_library import CLASSES, make_generator
from torch import Tensor

from dnnlib.errors import ConfigError, DataError
from dnnlib.pictures import encode_png
from stylegan_oct.data.archive import Archive, ArchiveWriter
from stylegan_oct.features import detector as detectors
from stylegan_oct.features.detector import Detector
from stylegan_oct.latent.codes import Codes, save_codes
from stylegan_oct.latent.library import Library, write_library
from stylegan_oct.latent.looks import archive_looks, look, looks_path
from stylegan_oct.latent.neighbours.answers import FeatureSpace, LatentSpace, Neighbours
from stylegan_oct.latent.neighbours.copies import TrainingScans
from stylegan_oct.latent.neighbours.report import save_report
from stylegan_oct.latent.neighbours.search import Query, load_queries, search
from tools.__main__ import main

SCANS = Path(__file__).parents[3] / "shared" / "data" / "oct2017"


class Seer(Detector):
    """Sees a random projection of the pixels."""

    name = "seer"
    dim = 12
    size = None

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.sha256 = str(seed) * 64
        self.seed = seed
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = 0  # pictures

    @classmethod
    def load(cls, weights: Path | None) -> "Seer":
        return cls()

    def taps(self, images: Tensor) -> list[Tensor]:
        return [images]

    def pool(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        flat = images.flatten(1)
        return flat @ torch.randn(flat.shape[1], self.dim, generator=torch.Generator().manual_seed(self.seed))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    write_library(tmp_path / "library.zip", make_generator(), count=40)
    return Library(tmp_path / "library.zip")


def write_training(path: Path, library: Library, *, copies: int, source: str = "scans") -> Path:
    """Training scans of noise, of which the first are pictures of the library, and held-out scans of noise."""
    rng = np.random.default_rng(0)
    with ArchiveWriter(path, resolution=16, channels=1, classes=CLASSES, source=source) as writer:
        for split, count in (("train", 30), ("val", 20)):
            for i in range(count):
                copied = split == "train" and i < copies
                picture = library.picture(i) if copied else rng.integers(0, 256, (16, 16), dtype=np.uint8)
                writer.add_image(split, encode_png(picture), i % 2, {})
    return path


def test_a_picture_of_the_library_is_its_own_nearest_neighbour(library: Library) -> None:
    space = FeatureSpace(library, Seer())
    answers = Neighbours(library, space).ask(space.queries([library.picture(i) for i in (3, 8)]), 5)
    for place, answer in zip((3, 8), answers, strict=True):
        nearest = answer.nearest[0]
        assert (nearest.position, nearest.seed, nearest.class_name) == (place, place, CLASSES[place % 2])
        assert nearest.distance == pytest.approx(0, abs=1e-6) and nearest.percentile < 1 and not answer.outside
        assert [n.distance for n in answer.nearest] == sorted(n.distance for n in answer.nearest)
        assert sum(answer.votes.values()) == 5


def test_the_nearest_of_each_class_is_the_first_of_that_class_among_all(library: Library) -> None:
    space = FeatureSpace(library, Seer())
    rng = np.random.default_rng(1)
    queries = space.queries(list(rng.integers(0, 256, (4, 16, 16), dtype=np.uint8)))
    for answer in Neighbours(library, space).ask(queries, len(library)):
        for kind, name in enumerate(CLASSES):
            first = next(neighbour for neighbour in answer.nearest if neighbour.class_name == name)
            assert answer.by_class[kind].position == first.position
            assert answer.by_class[kind].distance == pytest.approx(first.distance)


def test_distances_are_one_minus_the_cosine_of_centred_features(library: Library) -> None:
    seer = Seer()
    features = look([library.picture(i) for i in range(40)], seer).features.double()
    moved = features - features.mean(dim=0)
    cosine = torch.nn.functional.cosine_similarity(moved[:1], moved)
    space = FeatureSpace(library, seer)
    answer = Neighbours(library, space).ask(space.queries([library.picture(0)]), 40)[0]
    for neighbour in answer.nearest:
        assert neighbour.distance == pytest.approx(1 - float(cosine[neighbour.position]), abs=2e-3)


def test_features_are_computed_once_and_anew_for_another_detector(library: Library) -> None:
    first, other = Seer(), Seer(seed=1)
    looks = archive_looks(library.archive, first)["synthetic"]
    seen = first.seen
    again = archive_looks(library.archive, first)["synthetic"]
    assert seen >= 40 and first.seen == seen + 1 and torch.equal(looks.features, again.features)
    assert looks_path(library.archive, first) != looks_path(library.archive, other)
    assert not torch.equal(archive_looks(library.archive, other)["synthetic"].features, looks.features)
    assert stat.S_IMODE(looks_path(library.archive, first).stat().st_mode) == 0o600


def test_features_are_computed_anew_when_what_comes_before_the_detector_changes(
        library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    seer = Seer()
    before = archive_looks(library.archive, seer)["synthetic"].features.clone()
    scaled = Seer()
    monkeypatch.setattr(scaled, "pool", lambda images: 1.1 * Seer.pool(scaled, images))  # of the same name and hash
    after = archive_looks(library.archive, scaled)["synthetic"].features
    torch.testing.assert_close(after, 1.1 * before, rtol=0.01, atol=0.01)
    monkeypatch.setattr("stylegan_oct.latent.looks.align", lambda picture: picture[::-1].copy())
    assert not torch.allclose(archive_looks(library.archive, scaled)["synthetic"].features, after, atol=0.1)


def test_features_of_a_grown_library_are_computed_anew(library: Library) -> None:
    archive_looks(library.archive, Seer())
    write_library(library.archive.path, make_generator(), count=60)
    assert len(archive_looks(Archive(library.archive.path), Seer())["synthetic"].features) == 60


def test_codes_find_the_picture_that_they_were_drawn_from(library: Library, tmp_path: Path) -> None:
    G = make_generator()
    w = library.w[7].float().expand(G.network.num_ws, -1)
    save_codes(tmp_path / "a.safetensors", Codes(w=w, class_name="DRUSEN", checkpoint_sha256=G.info.sha256))
    queries = load_queries([tmp_path / "a.safetensors"], G, space="w")
    found = search(queries, library, Seer(), k=3)
    nearest = found.answers[0].nearest[0]
    assert found.space == "w" and nearest.position == 7 and nearest.distance == pytest.approx(0, abs=1e-6)
    assert not queries[0].private
    space = LatentSpace(library)
    mean = library.w.float().mean(dim=0, keepdim=True)
    nearest = Neighbours(library, space).ask(mean, 1)[0].nearest[0]
    assert nearest.distance == pytest.approx(float((library.w.float() - mean).norm(dim=1).min()), abs=1e-3)


def test_copies_of_training_scans_are_found_and_others_are_not(library: Library, tmp_path: Path) -> None:
    training = TrainingScans(write_training(tmp_path / "t.zip", library, copies=5), Seer(), resolution=16)
    copies = training.copies(look([library.picture(i) for i in range(10)], Seer()))
    assert [copy.name for copy in copies[:5]] == training.names[:5]
    assert all(copy.distance < 1e-6 and copy.suspicious and copy.feature_distance < 1e-5 for copy in copies[:5])
    assert training.held_out == 20
    noise = look(list(np.random.default_rng(9).integers(0, 256, (50, 16, 16), dtype=np.uint8)), Seer())
    shares = [copy.percentile for copy in training.copies(noise)]
    assert 25 < np.mean([share for share in shares if share is not None]) < 75  # as held-out scans are


def test_without_held_out_scans_there_is_no_percentile(library: Library, tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "t.zip", resolution=16, channels=1, classes=CLASSES, source="scans") as writer:
        for i in range(4):
            writer.add_image("train", encode_png(library.picture(i)), i % 2, {})
    training = TrainingScans(tmp_path / "t.zip", Seer(), resolution=16)
    copy = training.copies(look([library.picture(2)], Seer()))[0]
    assert copy.distance < 1e-6 and copy.percentile is None and copy.feature_percentile is None and not copy.suspicious


def test_a_training_archive_that_does_not_fit_is_refused(library: Library, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="library of synthetic"):
        TrainingScans(library.archive.path, Seer(), resolution=16)
    with pytest.raises(DataError, match="16 px, the library pictures of 64"):
        TrainingScans(write_training(tmp_path / "t.zip", library, copies=0), Seer(), resolution=64)


def test_what_shows_a_patients_scan_is_private_and_says_so(library: Library, tmp_path: Path) -> None:
    queries = [Query(library.picture(0)), Query(library.picture(1), private=False, what="simulated")]
    found = search(queries, library, Seer(), k=3)
    files = save_report(tmp_path / "out", queries, found.answers, library, space=found.space)
    assert [path.name for path in files] == ["private-neighbours-0001.png", "synthetic-neighbours-0002.png",
                                             "private-neighbours.csv"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (files[0], files[2])] == [0o600, 0o600]
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700
    with Image.open(files[0]) as private, Image.open(files[1]) as simulated:
        assert private.text["derived_from_patient"] == "true" and "synthetic" not in private.text
        assert "which are no scans" in private.text["Description"]
        assert simulated.text["synthetic"] == "true"
    rows = list(csv.DictReader(files[2].read_text().splitlines()))
    assert len(rows) == 2 * (3 + 2) and rows[0]["class"] == "CNV" and float(rows[0]["distance"]) < 1e-6


def test_a_picture_beside_training_scans_of_patients_is_private_too(library: Library, tmp_path: Path) -> None:
    queries = [Query(library.picture(0), private=False)]
    for source, name in (("scans", "private"), ("phantom", "synthetic")):
        training = write_training(tmp_path / f"{source}.zip", library, copies=1, source=source)
        found = search(queries, library, Seer(), k=3, training=training)
        files = save_report(tmp_path / source, queries, found.answers, library, space="w", training=found.training)
        assert all(path.name.startswith(name) for path in files)


def test_a_library_too_small_or_a_k_too_large_is_refused(library: Library, tmp_path: Path) -> None:
    space = FeatureSpace(library, Seer())
    with pytest.raises(ConfigError, match="k is 41, but .* holds 40"):
        Neighbours(library, space).ask(space.vectors[:1], 41)


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command with the small generator, its library and a detector of random weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stylegan_oct.model.load_generator", lambda *_, **__: make_generator())
    load = detectors.load_detector
    monkeypatch.setattr(detectors, "load_detector",
                        lambda name, **options: Seer() if name == "lite0" else load(name, **options))
    write_library(tmp_path / "library.zip", make_generator(), count=40)

    def run(*args: object) -> Result:
        return CliRunner().invoke(main, ["neighbours", "--library", "library.zip", *map(str, args)])
    return run


def scan(path: Path, *, colour: bool = False) -> Path:
    rng = np.random.default_rng(0)
    grey = rng.integers(20, 60, (40, 40), dtype=np.uint8)
    grey[15:22] += 120
    picture = np.stack([grey, grey // 2, grey // 4], axis=2) * 1 if colour else grey
    Image.fromarray(picture).save(path)
    return path


def test_the_command_answers_scans_without_their_names(invoke, tmp_path: Path) -> None:
    result = invoke(scan(tmp_path / "CANARY-1.png"), scan(tmp_path / "CANARY-2.png"), "-k", 3)
    assert result.exit_code == 0, result.output
    assert "scan 2: nearest" in result.output and "all neighbours are synthetic" in result.output
    written = list((tmp_path / "out").rglob("*"))
    assert "CANARY" not in result.output + str(written)
    assert not any(b"CANARY" in path.read_bytes() for path in written if path.is_file())


def test_the_command_prints_json(invoke, tmp_path: Path) -> None:
    facts = json.loads(invoke(scan(tmp_path / "a.png"), "-k", 3, "--json").stdout)
    assert len(facts) == 1 and len(facts[0]["nearest"]) == 3 and len(facts[0]["by_class"]) == 2
    assert facts[0]["nearest"][0].keys() >= {"class", "seed", "distance", "percentile", "class_percentile"}


def test_without_a_scan_simulated_ones_are_asked_about(invoke, tmp_path: Path) -> None:
    result = invoke("-k", 2)
    assert result.exit_code == 0 and "simulated CNV 1" in result.output
    assert (tmp_path / "out" / "neighbours" / "synthetic-neighbours-0002.png").exists()


def test_a_colour_photograph_is_warned_about(invoke, tmp_path: Path) -> None:
    result = invoke(scan(tmp_path / "photo.png", colour=True))
    assert result.exit_code == 0 and "coloured; an OCT scan is grey" in result.output


def test_one_unusable_scan_does_not_stop_the_others(invoke, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    result = invoke(tmp_path / "empty.png", scan(tmp_path / "a.png"))
    assert result.exit_code == 0 and "left out" in result.stderr and "empty" in result.stderr


@pytest.mark.parametrize("args, words", [
    (["{scan}", "-k", 41], "holds 40"),
    (["{empty}"], "empty"),
    (["nowhere.png"], "nowhere.png"),
    (["{scan}", "--detector", "lite1"], "lite0"),
    (["{scan}", "--library", "nowhere.zip"], "nowhere.zip"),
    (["{scan}", "--library", "{other}"], "another generator"),
    (["{scan}", "--training", "library.zip"], "library of synthetic"),
    (["--space", "w"], "project"),
    (["{scan}", "--space", "w"], "holds no codes"),
    (["codes.safetensors"], "--space w"),
])
def test_what_cannot_work_is_refused_in_one_line_with_exit_code_2(
        invoke, tmp_path: Path, args: list[object], words: str) -> None:
    (tmp_path / "empty.png").touch()
    write_library(tmp_path / "other.zip", make_generator(seed=1), count=8)
    places = {"scan": scan(tmp_path / "a.png"), "empty": tmp_path / "empty.png", "other": tmp_path / "other.zip"}
    result = invoke(*(str(arg).format(**places) for arg in args))
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if "rror" in line]
    assert len(lines) == 1 and words in lines[0] and "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not SCANS.is_dir(), reason="the real scans are not here")
def test_real_scans_of_every_size_are_answered(library: Library) -> None:
    files = [sorted((SCANS / name).iterdir())[0] for name in ("CNV", "DME", "DRUSEN", "NORMAL")]
    queries = load_queries(files, make_generator())
    answers = search(queries, library, Seer(), k=5).answers
    assert len(answers) == 4 and all(query.private and query.picture.shape == (16, 16) for query in queries)


def test_brightness_and_contrast_do_not_hide_a_copy(library: Library, tmp_path: Path) -> None:
    training = TrainingScans(write_training(tmp_path / "t.zip", library, copies=5), Seer(), resolution=16)
    darker = [np.rint(40 + 0.6 * library.picture(i)).astype(np.uint8) for i in range(5)]
    copies = training.copies(look(darker, Seer()))
    assert [copy.name for copy in copies] == training.names[:5] and all(copy.suspicious for copy in copies)
