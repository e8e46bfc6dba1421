"""How exported pictures lie in a folder: one file a layout, for the tools that will read them.

An export is written part by part. A part is complete when its rows, `.parts/000012.jsonl`, are there, which are renamed
into place last; a killed export begins anew with its first incomplete part, which gives the same bytes. When all parts
are complete, `finish` writes the files that tell of all pictures.

    layout = LAYOUTS["imagefolder"](out, collection, encoder)
    if 0 not in complete_parts(out):
        write_part(layout, out, 0, samples)                  # any process of several
    layout.finish(lambda: read_parts(out))                 # one process, when all parts are there
"""

from stylegan_oct.export.layouts.base import Layout, Samples, complete_parts, read_parts, write_part

__all__ = ["Layout", "Samples", "complete_parts", "read_parts", "write_part"]
