"""Samples to hand on. The package can be called: `stylegan_oct.export(G, out)` is `stylegan_oct.api.work.export`.

Importing a module of this package binds its name in `stylegan_oct`, where a function of that name is offered too; both
are one object, so that neither hides the other.
"""

import sys
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from stylegan_oct.api.work import export

        return export(*args, **options)


sys.modules[__name__].__class__ = _Package
