"""What an export is closed with: manifest, latents, and the list of hashes, which marks it complete."""

import json
from collections.abc import Iterator

import safetensors.torch
import torch

from dnnlib.files import atomic_write, sha256_of
from stylegan_oct.export.folder import LOCK, SUMS
from stylegan_oct.export.layouts import Layout, finish_parts
from stylegan_oct.export.layouts.base import PARTS, disk_errors
from stylegan_oct.export.manifest import Item, Rows, manifest_of
from stylegan_oct.export.prepare import Job

LATENTS = "latents.safetensors"
BATCH = 512


def seal(job: Job, layout: Layout) -> None:
    """Write what tells of all pictures of an export whose parts are complete.

    Raises:
        DataError: a file cannot be written.
    """
    out = job.settings.out
    rows = finish_parts(layout, out)
    manifest_of(rows).write(out, rows())
    with disk_errors(out):
        if job.plan.latents:
            _write_latents(job, rows)
        known = {item.file_name: item.sha256 for item in rows()} if layout.own_files else {}
        names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
        with atomic_write(out / SUMS) as file:
            for name in names:
                if name not in (SUMS, LOCK) and not name.startswith(f"{PARTS}/") and "/.tmp-" not in f"/{name}":
                    file.write(f"{known.get(name) or sha256_of(out / name)}  {name}\n")


def _write_latents(job: Job, rows: Rows) -> None:
    """Write w [N, w_dim] (float32) with seed and label [N] in the order of the manifest."""
    w, seeds, labels = [], [], []
    for items in _batches(rows()):
        seeds += [item.seed for item in items]
        labels += [item.label_id for item in items]
        with torch.inference_mode():
            ws = job.G.ws(job.G.z([item.seed for item in items]),
                          [item.label_id for item in items] if job.plan.classes else None, psi=job.plan.psi)
        w.append(ws[:, 0].float().cpu())
    tensors = {"w": torch.cat(w), "seed": torch.tensor(seeds), "label": torch.tensor(labels)}
    facts = {"kind": "stylegan_oct export latents", "psi": json.dumps(job.plan.psi), "center": "class",
             "checkpoint_sha256": job.plan.checkpoint_sha256, "classes": json.dumps(job.plan.classes)}
    with atomic_write(job.settings.out / LATENTS, "wb") as file:
        file.write(safetensors.torch.save(tensors, metadata=facts))


def _batches(rows: Iterator[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in rows:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
