"""Small files of every kind that the project writes and reads back, each with what reads it, for `mutations`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dnnlib.config import to_json
from dnnlib.logs import append_jsonl, count_of, keep_rows
from dnnlib.pictures import encode_png
from dnnlib.rundir import RunDir
from stylegan_oct.config import DataConfig, DiscriminatorConfig, GeneratorConfig, SaveConfig, TrainConfig
from stylegan_oct.data.archive import Archive, ArchiveWriter
from stylegan_oct.data.cache import cache_path, decoded_pixels
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.data.preprocess import Preprocess
from stylegan_oct.data.privacy import Key
from stylegan_oct.data.sources import FolderFiles, Scan
from stylegan_oct.data.work import WorkFolder, preprocess_all, thumbnails_of
from stylegan_oct.describe import describe
from stylegan_oct.export.export import export
from stylegan_oct.export.folder import folder as exported
from stylegan_oct.export.folder.verify import verify
from stylegan_oct.export.layouts import read_parts
from stylegan_oct.export.prepare import Settings
from stylegan_oct.features.copies import CopyInfo, CopyNetwork, save_copies
from stylegan_oct.features.detector import Detector, load_detector
from stylegan_oct.features.oct import OctInfo, OctNetwork, save_oct
from stylegan_oct.latent.atlas.atlas import build_atlas, load_atlas, save_atlas
from stylegan_oct.latent.atlas.page import page_data
from stylegan_oct.latent.classspace import fit_class_space
from stylegan_oct.latent.codes import Codes, check_codes, load_codes, save_codes
from stylegan_oct.latent.directions.file import Direction, Readout, load_directions, save_directions
from stylegan_oct.latent.intake import Target
from stylegan_oct.latent.library import Library, write_library
from stylegan_oct.latent.looks import archive_looks, looks_path
from stylegan_oct.latent.projection import report as projected
from stylegan_oct.latent.projection.calibration import Calibration, read_calibration
from stylegan_oct.latent.projection.encoder import Encoder, load_encoder, save_encoder
from stylegan_oct.latent.projection.engine import Engine, draw_codes
from stylegan_oct.latent.projection.projector import ProjectConfig
from stylegan_oct.latent.projection.run import summary_lines
from stylegan_oct.metrics.observers.observe import observe
from stylegan_oct.metrics.observers.pictures import ArchivePictures
from stylegan_oct.metrics.report.compare import compare
from stylegan_oct.metrics.report.page import part_plots
from stylegan_oct.metrics.report.report import (
    Part,
    Reference,
    Report,
    Seer,
    Split,
    Subject,
    encode,
    read_report,
    write_report,
)
from stylegan_oct.metrics.statistics.values import Value
from stylegan_oct.model import OctGenerator, find_generator, load_generator, run_config, training_archive
from stylegan_oct.presets import PRESETS, adapted_to
from stylegan_oct.training import launch
from stylegan_oct.training.quality import Quality
from stylegan_oct.training.state import State, create_state
from stylegan_oct.training.transfer import start_from

CLASSES = ("CNV", "DRUSEN")
SIDE = 16


@dataclass(frozen=True)
class Victim:
    """A kind of file."""

    kind: str
    files: Sequence[Path]                 # any of which is damaged
    read: Callable[[], object]            # reads it, and uses what was read
    command: Sequence[str] = ()           # that reads it too
    restore: Callable[[], object] = lambda: None  # undoes what reading may have mended


def make_victims(folder: Path) -> list[Victim]:
    """Write all kinds of files; takes some ten seconds."""
    torch.manual_seed(0)
    archive = _archive(folder / "scans.zip")
    config = _config(archive)
    run, G = _run(folder / "runs" / "00000-tiny", config)
    detectors = _detectors(folder)
    return [*_archives(folder, archive), *_runs(run, config, G), *_weights(folder, G, detectors),
            *_latents(folder, G, detectors), *_evaluations(folder, archive, G), *_exports(folder, run, G)]


def _archive(path: Path) -> Path:
    rng = np.random.default_rng(0)
    with ArchiveWriter(path, resolution=SIDE, channels=1, classes=CLASSES, source="scans",
                       extra={"preprocess": asdict(Preprocess(resolution=SIDE))}) as writer:
        for i in range(16):
            picture = rng.integers(0, 255, (SIDE, SIDE), dtype=np.uint8)
            writer.add_image("train" if i < 12 else "val", encode_png(picture), i % 2, {"patient": f"{i:032x}"})
    return path


def _archives(folder: Path, path: Path) -> list[Victim]:
    def read() -> None:
        dataset = ArchiveDataset(path)
        for i in range(len(dataset)):
            dataset[i]
        _ = ArchivePictures(path).groups, dataset.archive.rows(), dataset.fingerprint

    pixels = cache_path(Archive(path), "train")
    decoded_pixels(Archive(path), "train")
    work, rows = _work(folder / "work")
    key = folder / "key"
    Key(key)
    return [Victim("archive", [path], read, ["info", str(path)]),
            Victim("decoded pictures", [pixels], lambda: decoded_pixels(Archive(path), "train")),
            Victim("pieces of a conversion", work, rows), Victim("key", [key], lambda: Key(key).hash("a", "b"))]


def _work(folder: Path) -> tuple[list[Path], Callable[[], object]]:
    source = folder / "source"
    source.mkdir(parents=True)
    settings = Preprocess(resolution=SIDE, border=False)
    scans = []
    for i in range(3):
        (source / f"{i}.png").write_bytes(encode_png(np.full((SIDE, SIDE), 40 * i, np.uint8)))
        scans.append(Scan(path=f"{i}.png", stamp=str(i), label=None, patient="", known_patient=False, official=None))
    with WorkFolder(folder / "pieces", settings) as made:
        preprocess_all(scans, FolderFiles(source), settings, made, workers=1)

    def read() -> None:
        with WorkFolder(folder / "pieces", settings) as found:
            rows = found.rows()
            _ = found.next_number(), [found.read_png({**row, "path": path}) for (path, _), row in rows.items()]
            thumbnails_of([row for row in rows.values() if "refused" not in row])
    return sorted((folder / "pieces").glob("*.jsonl")), read


def _config(archive: Path) -> TrainConfig:
    data = Archive(archive)
    return TrainConfig(
        preset="tiny", batch=4, batch_gpu=4, total_kimg=0.1,
        data=DataConfig(path=str(archive), fingerprint=data.fingerprint, resolution=SIDE, classes=CLASSES),
        G=GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=2, channel_base=64, channel_max=8),
        D=DiscriminatorConfig(mapping_layers=1, channel_base=64, channel_max=8),
        save=SaveConfig(metrics=("kd_lite0",), patience=3))


def _run(path: Path, config: TrainConfig) -> tuple[RunDir, OctGenerator]:
    state = create_state(config, torch.device("cpu"), "phantom")
    for optimizer, network in ((state.opt_G, state.G), (state.opt_D, state.D)):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    run = RunDir(path)
    checkpoint = state.save(run.checkpoints, {})
    run.config.write_text(to_json(config))
    for nimg in (0, 4, 8):
        append_jsonl(run.stats, {"nimg": nimg, "loss": 1.0})
        append_jsonl(run.metrics, {"nimg": nimg, "by": "training", "metric": "kd_lite0", "value": 0.1})
    run.best.write_text(json.dumps({"nimg": 0, "checkpoint": checkpoint.name, "metric": "kd_lite0", "value": 0.1,
                                    "floor": None, "loss": 0.1}))
    return run, load_generator(checkpoint)


def _runs(run: RunDir, config: TrainConfig, G: OctGenerator) -> list[Victim]:
    checkpoint = G.info.path.parent
    grown = replace(config, data=replace(config.data, resolution=2 * SIDE, classes=("CNV", "DME")))
    state: State = create_state(config, torch.device("cpu"), "phantom")

    def configured() -> None:
        training_archive(G.info)
        adapted_to(PRESETS["adapt"](config.data, 1), run_config(G.info.path), G.info.options)
        find_generator(run.path)
        launch._nearly(replace(config, seed=1), run.path.parent)
        launch.find_run(run.path.parent, lambda stored: launch.from_dict(TrainConfig, stored) == config)

    def measured() -> None:
        quality = Quality(config, run, G, 8)
        _ = quality.best_nimg, quality.exhausted, quality.knows(4)
        keep_rows(run.stats, lambda row: count_of(row, "nimg") <= 8)

    def drawn() -> None:
        found = load_generator(G.info.path)
        found(found.z([0]), found.info.classes[0] if found.info.classes else None, psi=0.5)

    parts = [checkpoint / f"{name}.safetensors" for name in ("G", "D", "G_opt", "D_opt", "training")]
    return [Victim("generator", [G.info.path], drawn, ["info", str(G.info.path)]),
            Victim("meta.json", [checkpoint / "meta.json"], lambda: (describe(checkpoint), state.load(checkpoint)),
                   ["info", str(checkpoint)]),
            Victim("networks and optimizers", parts, lambda: state.load(checkpoint)),
            Victim("weights to start from", [G.info.path, checkpoint / "D.safetensors"],
                   lambda: start_from(create_state(grown, torch.device("cpu"), "phantom"), checkpoint)),
            Victim("config.json", [run.config], configured, ["info", str(run.path)]),
            Victim("best.json and rows", [run.best, run.metrics, run.stats], measured)]


def _detectors(folder: Path) -> dict[str, Detector]:
    counts = {"val": {name: 4 for name in CLASSES}}
    info = OctInfo(classes=CLASSES, resolution=SIDE, channels=1, archive="0" * 64, source="phantom", nimg=10,
                   right=counts, count=counts)
    save_oct(OctNetwork(SIDE, 1, 2), info, folder / "detector.safetensors")
    save_copies(CopyNetwork(SIDE), CopyInfo(resolution=SIDE, archive="0" * 64, source="phantom", nimg=10, seed=0),
                folder / "copies.safetensors")
    return {"oct": load_detector("oct", weights=folder / "detector.safetensors"),
            "copies": load_detector("copies", weights=folder / "copies.safetensors")}


def _weights(folder: Path, G: OctGenerator, detectors: dict[str, Detector]) -> list[Victim]:
    pixels = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.uint8)
    encoder = folder / "encoder.safetensors"
    save_encoder(encoder, Encoder(detectors["oct"], fit_class_space(G, samples=64), channels=1,
                                  resolution=G.info.resolution), G)

    def oracle() -> None:
        found = load_detector("oct", weights=folder / "detector.safetensors")
        found.classify(pixels)  # type: ignore[operator]
        found.info.accuracy("val") if "val" in found.info.count else None  # type: ignore[operator, union-attr]

    return [Victim("class oracle", [folder / "detector.safetensors"], oracle),
            Victim("copy detector", [folder / "copies.safetensors"],
                   lambda: load_detector("copies", weights=folder / "copies.safetensors").embed(pixels)),
            Victim("encoder", [encoder], lambda: load_encoder(encoder, G, detectors["oct"])(pixels, torch.zeros(
                2, dtype=torch.int64)))]


def _latents(folder: Path, G: OctGenerator, detectors: dict[str, Detector]) -> list[Victim]:
    library, atlas, directions = folder / "library.zip", folder / "atlas.safetensors", folder / "directions.safetensors"
    write_library(library, G, count=40)
    save_atlas(atlas, build_atlas(Library(library), detectors["oct"], samples=32, method="pca"))
    step = torch.ones(8)
    save_directions(directions, [
        Direction(name="pca1", kind="pca", class_name="", layers=(0, 3), unit="sd", step=step),
        Direction(name="to_CNV", kind="boundary", class_name="CNV", layers=(1, 2), unit="sd", step=step,
                  readout=Readout(weight=step, constant=0.5), orthogonal_to=("pca1",))],
        checkpoint_sha256=G.info.sha256)

    def mapped() -> None:
        found = load_atlas(atlas)
        page_data(found)
        for map_ in found.maps.values():
            map_.reducer.place(map_.vectors)

    def searched() -> None:
        found = Library(library)
        _ = found.w, [found.picture(i) for i in range(len(found))], [found.class_name(i) for i in range(len(found))]
        _ = found.archive.rows(), found.seed(0)

    looks = looks_path(Library(library).archive, detectors["oct"])
    return [Victim("library", [library], searched, ["info", str(library)]), Victim("atlas", [atlas], mapped),
            Victim("directions", [directions], lambda: [
                (one.move(torch.zeros(1, G.network.num_ws, 8), 1.0), one.amount, one.target)
                for one in load_directions(directions, G)]),
            Victim("looks", [looks], lambda: archive_looks(Library(library).archive, detectors["oct"])),
            *_projections(folder, G, detectors)]


def _projections(folder: Path, G: OctGenerator, detectors: dict[str, Detector]) -> list[Victim]:
    engine = Engine(G, detectors["oct"], ProjectConfig(steps=2))
    target = Target(pixels=np.zeros((SIDE, SIDE), np.uint8), valid=np.ones((SIDE, SIDE), bool),
                    um_per_px=(100.0, 100.0), scale_assumed=False, laterality=None, number=1, coloured=0.0)
    task = projected.Task(target, "CNV", patient=False)
    result = engine.run(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8), None, ["CNV"], patient=False)[0]
    calibration = Calibration([0.1, 0.2], 0.5, [0.3])
    projected.save(folder / "project", task, result, engine, calibration)
    facts = folder / "project" / f"simulated-projection-{task.key}.json"
    known = folder / "calibration-x.json"
    known.write_text(json.dumps({"manner": {}, "calibration": asdict(calibration)}))
    convolutions = {name: weight for name, weight in G.network.synthesis.named_parameters()
                    if name.endswith("weight") and weight.ndim == 4}
    delta = {f"{name}.{part}": torch.zeros(size) for name, weight in convolutions.items()
             for part, size in (("a", (len(weight), 1)), ("b", (1, weight[0].numel())))}
    files = [folder / "codes.safetensors", folder / "tuned.safetensors"]
    for file, changes in zip(files, ({}, delta), strict=True):
        save_codes(file, Codes(w=torch.zeros(G.network.num_ws, 8), class_name="CNV", distance=0.5,
                               checkpoint_sha256=G.info.sha256, delta=changes))

    def drawn() -> None:
        for file in files:
            codes = load_codes(file)
            check_codes(codes, G, file)
            draw_codes(G, codes)

    def told() -> None:
        found = projected.known_facts(facts)
        if found is not None:
            summary_lines(1, found)
            projected.write_table(folder / "table.csv", [found])
    return [Victim("codes", files, drawn), Victim("projection", [facts], told),
            Victim("calibration", [known], lambda: (found := read_calibration(known)) and found.percentiles(0.1))]


def _evaluations(folder: Path, archive: Path, G: OctGenerator) -> list[Victim]:
    file = folder / "report.json"
    report = _report(G)
    write_report(file, report)
    pictures, seer = ArchivePictures(archive), _Grey()
    observe(pictures, [seer], folder / "seen")

    def told() -> None:
        found = read_report(file)
        compare(found, report)
        _ = [part_plots(part) for part in found.parts if part.name != "consistency"], encode(found)
    return [Victim("report of an evaluation", [file], told, ["evaluate", "--compare", str(file), str(file)]),
            Victim("what was seen", sorted((folder / "seen").glob("*.npy")),
                   lambda: observe(pictures, [seer], folder / "seen"))]


class _Grey:
    identity, dim = "grey", 4

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().flatten(1)[:, :4]


def _report(G: OctGenerator) -> Report:
    values = (Value(metric="recall_lite0", value=0.4, interval=(0.3, 0.5), floor=0.7, floor_interval=(0.6, 0.8), n=8,
                    n_real=8, better="higher", detector="lite0-57934424"),
              Value(metric="ppl_w_lite0", value=float("nan"), note="too few pictures"))
    confusion = {"asked": list(CLASSES), "seen": list(CLASSES), "fake": [[1, 0], [0, 1]], "real": [[1, 0], [0, 1]]}
    data = encode({"confusion": confusion, "distributions": []})
    subject = Subject(file="G_ema.safetensors", sha256=G.info.sha256, nimg=0, preset="tiny", classes=CLASSES, psi=1.0,
                      resolution=SIDE, channels=1, data_source="phantom", training_archive="0" * 64)
    split = Split(name="train", scans={name: 6 for name in CLASSES}, patients=None)
    return Report(made="2026-01-01T00:00:00+00:00", subject=subject,
                  reference=Reference(file="scans.zip", fingerprint="0" * 64, source="phantom", splits=(split,)),
                  detectors=(Seer(name="lite0", identity="lite0-57934424", sha256="0" * 64, dim=4, resize="none"),),
                  settings={"count": 8, "seed": 0}, versions={"torch": "2"}, warnings=("a warning",), complete=True,
                  parts=(Part(name="fidelity", values=values), Part(name="consistency", data=data)))


def _exports(folder: Path, run: RunDir, G: OctGenerator) -> list[Victim]:
    victims = []
    for layout in ("imagefolder", "stylegan", "medmnist", "webdataset"):
        out = folder / layout
        export(Settings(out=out, checkpoint=str(G.info.path), classes="CNV=3,DRUSEN=2", biomarkers=False, batch=4,
                        layout=layout, oracle="none", allow_unreviewed=True))
        files = sorted(path for path in out.rglob("*") if path.suffix in (".zip", ".npz", ".tar"))
        if layout == "imagefolder":
            files = [out / "manifest.csv", out / "SHA256SUMS", next(out.rglob("*.png"))]
        victims.append(Victim(f"export, {layout}", files, lambda out=out: verify(out, count=0),  # type: ignore[misc]
                              ["export", "--verify", str(out), "--count", "0"]))
    out = folder / "imagefolder"
    record = exported.read_record(out)
    parts = folder / "begun"
    exported.write_record(parts, record)
    exported.write_tally(parts, 0, {"CNV": {"kept": 3}, "DRUSEN": {"kept": 2}})
    rows = exported.part_file(parts, 0, ".jsonl")
    rows.write_text(_row(G) * 2)
    return [*victims,
            Victim("export.json", [parts / "export.json"], lambda: exported.earlier(parts, record.plan)),
            Victim("rows and tallies", [rows, exported.part_file(parts, 0, exported.TALLY)],
                   lambda: (exported.read_tallies(parts), [one.key for one in read_parts(parts)]))]


def _row(G: OctGenerator) -> str:
    from stylegan_oct.export.description.manifest import Item

    item = Item(class_name="CNV", label_id=0, split="train", seed=0, psi=1.0, noise="const", nimg=0, resolution=SIDE,
                checkpoint_sha256=G.info.sha256, um_per_px_x=1.0, um_per_px_z=None, oracle_probabilities={"CNV": 1.0},
                biomarkers={"central_thickness_um": float("nan")})
    return item.to_json() + "\n"
