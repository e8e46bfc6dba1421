"""Which share of generated images shows the class that was asked for, judged by a classifier trained on the phantom.

    python -m benchmarks.class_agreement runs/00000-demo-64px-b16          # every snapshot of a run
    python -m benchmarks.class_agreement stylegan_oct/demo --samples 500

The classifier is trained once on fresh phantom images (another seed than any training set) and kept under data/. Its
accuracy on held-out phantom images bounds what can be expected of a perfect generator. Expected before measuring:
classifier 90 to 97 %, a run of ten minutes 70 %, a run of an hour and more 90 %.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from stylegan_oct.classes import CLASSES
from stylegan_oct.data.dataset import ArchiveDataset
from stylegan_oct.data.phantom_archive import write_phantom_archive
from stylegan_oct.model import GENERATOR_FILE, load_generator
from torch_utils.images import to_uint8, to_unit

SEED = 7_000_000


def build_classifier() -> nn.Module:
    """Return a small convolutional classifier of 64 px images: logits [N, 4]."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 24), (24, 48), (48, 96), (96, 128)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                   nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                   nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, len(CLASSES)))


def load_split(archive: Path, split: str) -> tuple[Tensor, Tensor]:
    """Return all images [N, 1, 64, 64] in [-1, 1] and labels [N] of a split."""
    dataset = ArchiveDataset(archive, split=split)
    return to_unit(torch.stack([dataset[i][0] for i in range(len(dataset))])), torch.from_numpy(dataset.labels)


def augment(images: Tensor) -> Tensor:
    """Return images flipped, shifted by up to 4 px, and brightened or darkened a little."""
    dy, dx = (int(shift) for shift in torch.randint(-4, 5, (2,)))
    images = torch.roll(images, (dy, dx), dims=(2, 3))
    images = images.flip(3) if torch.rand(()) < 0.5 else images
    return images * (1 + 0.1 * torch.randn(len(images), 1, 1, 1)) + 0.05 * torch.randn(len(images), 1, 1, 1)


def train_classifier(archive: Path, epochs: int) -> nn.Module:
    """Return a classifier trained on the train split."""
    torch.manual_seed(0)
    model = build_classifier().to(memory_format=torch.channels_last)
    images, labels = load_split(archive, "train")
    steps = epochs * (len(images) // 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for epoch in range(epochs):
        order = torch.randperm(len(images))
        for i in range(len(images) // 64):
            index = order[64 * i:64 * (i + 1)]
            loss = cross_entropy(model(augment(images[index])), labels[index], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"classifier: pass {epoch + 1}/{epochs}, loss {loss.item():.3f}", flush=True)
    return model.eval()


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Return the class index of each image, [N]."""
    return torch.cat([model(part).argmax(dim=1) for part in images.split(100)])


def load_classifier(count: int, epochs: int) -> nn.Module:
    """Return the classifier, trained now or before, after printing its accuracy on held-out phantom images."""
    archive = Path(f"data/classifier-phantom-64-{count}.zip")
    weights = Path(f"data/classifier-64-{count}.safetensors")
    if not archive.exists():
        write_phantom_archive(archive, count=count, resolution=64, seed=SEED)
    if weights.exists():
        model = build_classifier()
        model.load_state_dict(load_file(weights))
        model.eval()
    else:
        model = train_classifier(archive, epochs)
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    images, labels = zip(*(load_split(archive, split) for split in ("val", "test")), strict=True)
    report("phantom, held out", predict(model, torch.cat(images)), torch.cat(labels))
    return model


def report(name: str, predicted: Tensor, asked: Tensor) -> None:
    """Print the share of agreement with its 95 % interval, and by class."""
    hits = (predicted == asked).double()
    share, n = float(hits.mean()), len(hits)
    half = 1.96 * math.sqrt(share * (1 - share) / n)
    by_class = "  ".join(f"{label} {float(hits[asked == i].mean()):.0%}" for i, label in enumerate(CLASSES))
    print(f"{name}: {share:.1%} +- {half:.1%} of {n}   {by_class}", flush=True)


def judge(model: nn.Module, file: Path, samples: int, psi: float) -> None:
    """Print the agreement of one generator."""
    G = load_generator(file)
    images, asked = [], []
    for name in CLASSES:
        for seeds in np.array_split(np.arange(samples) + 500_000, math.ceil(samples / 50)):
            with torch.inference_mode():
                images.append(to_unit(to_uint8(G(G.z(seeds.tolist()), name, psi=psi))))
            asked += [CLASSES.index(name)] * len(seeds)
    report(f"{G.info.nimg / 1000:g} kimg, psi {psi:g}", predict(model, torch.cat(images)), torch.tensor(asked))


def main() -> None:
    """Judge every generator below the given paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="*", help="runs or checkpoints; none only trains the classifier")
    parser.add_argument("--samples", type=int, default=250, help="of each class")
    parser.add_argument("--psi", type=float, default=1.0)
    parser.add_argument("--count", type=int, default=4000, help="phantom images for the classifier")
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    model = load_classifier(args.count, args.epochs)
    for path in args.paths:
        for file in sorted(path.rglob(GENERATOR_FILE)):
            judge(model, file, args.samples, args.psi)


if __name__ == "__main__":
    main()
