"""What an export is closed with: manifest, latents, card, and the list of hashes, which marks it complete."""

import json

import numpy as np
import torch
from numpy.typing import NDArray

from stylegan_oct.export.description.card import write_card
from stylegan_oct.export.description.croissant import write_croissant
from stylegan_oct.export.description.hashes import write_sums
from stylegan_oct.export.description.latents import write_latents
from stylegan_oct.export.description.manifest import Item, manifest_of
from stylegan_oct.export.folder.folder import Record
from stylegan_oct.export.layouts import Layout, finish_parts
from stylegan_oct.export.layouts.base import disk_errors
from stylegan_oct.export.prepare import Job


def seal(job: Job, layout: Layout, record: Record) -> None:
    """Write what tells of all pictures of an export whose parts are complete.

    Raises:
        DataError: a file cannot be written.
    """
    out, facts = job.settings.out, job.facts(record)
    rows = finish_parts(layout, out)
    manifest_of(rows).write(out, rows())
    with disk_errors(out):
        if job.plan.latents:
            write_latents(out, rows, lambda items: _latents(job, items), facts={
                "kind": "stylegan_oct export latents", "psi": json.dumps(job.plan.psi),
                "checkpoint_sha256": job.plan.checkpoint_sha256, "classes": json.dumps(job.plan.classes)})
        write_card(out, facts, rows)
        write_croissant(out, facts, rows)
        write_sums(out, rows, own_files=layout.own_files)


def _latents(job: Job, items: list[Item]) -> NDArray[np.float32]:
    """Return w [n, w_dim]."""
    labels = [item.label_id for item in items] if job.plan.classes else None
    with torch.inference_mode():
        ws = job.G.ws(job.G.z([item.seed for item in items]), labels, psi=job.plan.psi)
    w: NDArray[np.float32] = ws[:, 0].float().cpu().numpy()
    return w
