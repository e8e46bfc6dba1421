"""<split>/000000.tar, 000001.tar, ...: for each picture key.png, key.json (its row) and key.cls (number of its class).

A part is a shard of each split. The bytes of a shard depend on its pictures alone.
"""

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path

from stylegan_oct.export.description.manifest import Collection, Item, Manifest, Rows, Samples
from stylegan_oct.export.description.marks import Marker
from stylegan_oct.export.layouts.tars import Tar


class WebDataset:
    """See `Layout`."""

    name = "webdataset"
    own_files = False

    def __init__(self, out: Path, collection: Collection, marker: Marker) -> None:
        self._out, self._marker = out, marker

    def write(self, part: int, samples: Samples) -> list[Item]:
        """As in `Layout`."""
        items, manifest = [], None
        with contextlib.ExitStack() as stack:
            shards: dict[str, Tar] = {}
            for stamped in self._marker.stamp_all(samples):
                split, key = stamped.item.split, stamped.item.key
                shard = f"{split}/{part:06d}.tar"
                if split not in shards:
                    shards[split] = stack.enter_context(Tar(self._out / shard))
                item = replace(stamped.item, file_name=f"{shard}/{key}.png",
                               sha256=hashlib.sha256(stamped.png).hexdigest())
                manifest = manifest or Manifest(item)
                shards[split].add(f"{key}.png", stamped.png)
                shards[split].add(f"{key}.json", json.dumps(manifest.typed_row(item)).encode())
                shards[split].add(f"{key}.cls", str(item.label_id).encode())
                items.append(item)
        return items

    def finish(self, rows: Rows) -> Rows:
        """As in `Layout`: the shards are all there is."""
        return rows
