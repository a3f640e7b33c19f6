"""The folder is the registry: a part is a file in a folder, its name is the file's name.

A user's own part is named as `path.py:Name`, or lies in `./luthier_parts/<kind>/`, where
`<kind>` is the folder's own name (`graders`, `formats`, ...). Nothing is registered at import.
"""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from typing import Any, cast

from luthier.core.errors import SettingsError, nearest
from luthier.core.hashing import text_hash

OWN_PARTS = Path("luthier_parts")


def names(package: str) -> list[str]:
    """List the parts of a package such as `luthier.graders`, then the user's own, each by file name."""
    folder = importlib.import_module(package).__path__
    shipped = sorted(module.name for module in pkgutil.iter_modules(folder) if not module.ispkg)
    own = sorted(path.stem for path in _own_folder(package).glob("*.py") if not path.stem.startswith("_"))
    return shipped + [name for name in own if name not in shipped]


def load(package: str, name: str, symbol: str) -> Any:
    """Return `symbol` of the part called `name`; raise SettingsError with the nearest right name."""
    if ".py:" in name:
        path, _, own_symbol = name.rpartition(":")
        return _symbol(_module_from_file(Path(path)), own_symbol, path)
    known = names(package)
    if name not in known:
        kind = package.rpartition(".")[2]
        raise SettingsError(f"there is no {name!r} in {kind}.{nearest(name, known)} There are: {', '.join(known)}.")
    own = _own_folder(package) / f"{name}.py"
    if own.exists() and importlib.util.find_spec(f"{package}.{name}") is None:
        return _symbol(_module_from_file(own), symbol, str(own))
    return _symbol(importlib.import_module(f"{package}.{name}"), symbol, name)


def _own_folder(package: str) -> Path:
    return OWN_PARTS / package.rpartition(".")[2]


def _module_from_file(path: Path) -> Any:
    if not path.is_file():
        raise SettingsError(f"there is no file {path} to take a part from.")
    module_name = f"luthier_part_{text_hash(str(path.resolve()))[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _symbol(module: Any, symbol: str, where: str) -> Any:
    if symbol not in vars(module):
        raise SettingsError(f"{where} does not define {symbol!r}, which a part of its kind must.")
    return cast(Any, vars(module)[symbol])
