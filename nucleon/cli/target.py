"""From `MODULE:APP`, a folder or nothing to the application object."""

import importlib
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from nucleon.errors import SetupError

HOUSE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Target:
    """Where the application is. name: the attribute, dotted; project: the folder that holds config/ and the embedded data."""

    module: str
    name: str
    path: Path
    project: Path

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


def target_from(text: str | None, here: Path | None = None) -> Target:
    """Find what `text` means: nothing (app.py here), a folder, a package, `MODULE` or `MODULE:NAME`. Raises `SetupError`."""
    here = (here or Path.cwd()).resolve()
    if text is None:
        return _in_folder(here, "this folder")
    module, colon, name = text.partition(":")
    if colon and not (module and name):
        raise SetupError(f"{text!r} is not MODULE:APP: write for example `nucleon serve shop:app`")
    folder = here / module
    if not colon and folder.is_dir():
        folder = folder.resolve()
        if not (folder / "__init__.py").exists():
            return _in_folder(folder, str(text))
        project = folder if (folder / "config").is_dir() else folder.parent
        return Target(folder.name, "app", folder.parent, project)
    module = module.removesuffix(".py")
    if not all(part.isidentifier() for part in module.split(".")):
        raise SetupError(f"there is no folder {text!r}, and it is no MODULE:APP either: write for example `nucleon serve shop:app`")
    return Target(module, name or "app", here, here)


def _in_folder(folder: Path, shown: str) -> Target:
    if (folder / "app.py").is_file() or (folder / "app" / "__init__.py").is_file():
        return Target("app", "app", folder, folder)
    raise SetupError(
        f"there is no app.py in {shown}: name the application, `nucleon serve MODULE:APP`, or start one with `nucleon new NAME`"
    )


def application_from(target: Target) -> Any:
    """Import the target and return the application object. Raises `SetupError` that says which line failed."""
    if str(target.path) not in sys.path:
        sys.path.insert(0, str(target.path))
    found: Any = _imported(target.module, target.path)
    for name in target.name.split("."):
        if not hasattr(found, name) and isinstance(found, ModuleType) and hasattr(found, "__path__"):
            _imported(f"{found.__name__}.{name}", target.path)
        if not hasattr(found, name):
            raise SetupError(f"{target.module} has no {target.name!r}: name the application as {target.module}:NAME")
        found = getattr(found, name)
    if isinstance(found, ModuleType) and hasattr(found, "app"):  # a package with an app.py
        found = found.app
    if not callable(found):
        raise SetupError(f"{target} is a {type(found).__name__}, not an application: expected an App or a WSGI callable")
    return found


def _imported(module: str, path: Path) -> ModuleType:
    try:
        return importlib.import_module(module)
    except SetupError as error:
        raise SetupError(f"{error}{_place_of(error)}") from error  # one of a tool: it knows what is wrong, and not where it was written
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise SetupError(f"there is no module {module!r} in {path}: name the application as MODULE:APP") from error
        raise SetupError(_said(module, error)) from error
    except Exception as error:  # whatever the user's module raises, the answer is one line that names the place
        raise SetupError(_said(module, error)) from error


def _said(module: str, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"cannot import {module}: {error.msg} ({error.filename}, line {error.lineno})"
    return f"cannot import {module}: {type(error).__name__}: {error}{_place_of(error)}"


def _place_of(error: Exception) -> str:
    """Return where the user's module called what failed, in brackets; nothing when it did not."""
    frames = traceback.extract_tb(error.__traceback__)
    frames = traceback.StackSummary.from_list([one for one in frames if "importlib" not in one.filename and one.filename != __file__])
    files = [(one, Path(one.filename)) for one in frames]  # what is compiled or made has no absolute name
    theirs = [one for one, file in files if file.is_absolute() and not file.is_relative_to(HOUSE)] or frames  # where they called us
    return f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""
