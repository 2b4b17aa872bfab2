"""Rules that no reviewer has to remember."""

import ast
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from nucleon.testing import LiveServer

HOUSE = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HOUSE)}


def run(*words: str, folder: Path = HOUSE, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, env=environment or ENVIRONMENT, capture_output=True, text=True, check=False)


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, *words)


def tracked_files() -> list[Path]:
    listed = run("git", "ls-files", "-z")
    assert listed.returncode == 0, listed.stderr
    return [HOUSE / name for name in listed.stdout.split("\0") if name and (HOUSE / name).is_file()]


def test_imports_fall_downhill() -> None:
    checked = python("-c", "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_types_are_strict() -> None:
    checked = python("-m", "mypy")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_ruff_has_nothing_to_say() -> None:
    checked = python("-m", "ruff", "check", "--no-cache", ".")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_importing_nucleon_loads_neither_gevent_nor_a_driver() -> None:
    heavy = "{'gevent', 'greenlet', 'psycopg2', 'redis', 'click', 'ssl', 'asyncio'}"
    asked = python("-c", f"import nucleon, sys; print(sorted({heavy} & set(sys.modules)))")
    assert (asked.stdout, asked.stderr) == ("[]\n", "")


def test_every_public_name_of_nucleon_can_be_imported() -> None:
    asked = python("-c", "import nucleon; print([name for name in nucleon.__all__ if not hasattr(nucleon, name)])")
    assert (asked.stdout, asked.stderr) == ("[]\n", "")


def test_the_pytest_plugin_costs_other_projects_nothing() -> None:
    asked = python("-c", "import nucleon.testing.plugin, sys; print('gevent' in sys.modules)")
    assert (asked.stdout, asked.stderr) == ("False\n", "")


def test_files_and_functions_stay_readable() -> None:
    long = [
        f"{file.relative_to(HOUSE)}: {lines} lines"
        for file in tracked_files()
        if file.suffix in (".py", ".pyx") and (lines := file.read_text().count("\n")) > 500
    ]
    assert not long


DOCUMENTS = [file for file in tracked_files() if file.suffix == ".md"]
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(HOUSE)))
def test_examples_in_documents_compile(document: Path) -> None:
    for number, example in enumerate(FENCED.findall(document.read_text()), start=1):
        compile(example, f"{document.name}, example {number}", "exec", dont_inherit=True)


TYPED_CLASS = re.compile(r"^cdef class (\w+)[^\n]*:\n((?:(?:[ ]{4}[^\n]*)?\n)*)", re.MULTILINE)
TYPED_SLOT = re.compile(r"(\w+)\s*(?:,|$)")


def typed_slots(body: str) -> set[str]:
    """Return the slots that the types of a class declare, several on a line or not."""
    declared = [line for line in body.splitlines() if line.startswith("    cdef ") and "(" not in line]
    return {name for line in declared for name in TYPED_SLOT.findall(line)}


def slots_of(source: Path) -> dict[str, set[str]]:
    """Return the slots of every class, as the source declares them."""
    found: dict[str, set[str]] = {}
    for one in ast.parse(source.read_text()).body:
        if isinstance(one, ast.ClassDef):
            for statement in one.body:
                if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__slots__":
                    given = ast.literal_eval(statement.value)
                    found[one.name] = {given} if isinstance(given, str) else set(given)
    return found


TYPES = [file for file in tracked_files() if file.suffix == ".pxd"]


@pytest.mark.parametrize("types", TYPES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_a_class_has_the_same_slots_in_its_source_and_in_its_types(types: Path) -> None:
    source = types.with_suffix(".py")
    slots = slots_of(source) if not types.with_suffix(".pyx").exists() else {}
    wrong = [
        f"{source.name}: {name} has {sorted(slots[name])}, its types say {sorted(typed_slots(body))}"
        for name, body in TYPED_CLASS.findall(types.read_text())
        if name in slots and slots[name] != typed_slots(body)
    ]
    assert not wrong, "\n".join(wrong)


MACHINE_PATHS = re.compile(r"/(?:home|Users)/[a-z]\w*/|/work/(?:main|venv|shared)|[/]root/[.\w]")
REGISTRIES = re.compile(r"https?://[^\s/]*(?:pypi|pythonhosted|npmjs|proxy\.golang|crates|artifactory|nexus|devpi)[^\s/]*", re.IGNORECASE)


def test_no_file_names_a_machine_or_a_package_registry() -> None:
    found = []
    for file in tracked_files():
        if file == Path(__file__):
            continue
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1):
            if MACHINE_PATHS.search(line) or REGISTRIES.search(line):
                found.append(f"{file.relative_to(HOUSE)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


MINIATURE = """
from nucleon import App

app = App("wheel")


@app.get("/")
def greet() -> dict[str, str]:
    return {"message": "from the wheel"}
"""


@pytest.mark.timeout(400)
def test_the_wheel_serves_from_an_empty_environment(tmp_path: Path) -> None:
    wheels, source = tmp_path / "wheels", tmp_path / "source"
    for file in tracked_files():  # a copy: a build leaves folders behind
        copy = source / file.relative_to(HOUSE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    pure = {**os.environ, "NUCLEON_BUILD": "pure"}  # tests/run compiles; here it would take longer than all other rules
    built = run(sys.executable, "-m", "build", "--wheel", "--outdir", str(wheels), folder=source, environment=pure)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = wheels.glob("*.whl")
    home = tmp_path / "empty"
    venv.create(home, with_pip=True, symlinks=True)
    alone = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    install = (str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", str(wheel))
    installed = run(*install, folder=tmp_path, environment=alone)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    (tmp_path / "app.py").write_text(MINIATURE)
    command = (str(home / "bin" / "nucleon"), "serve", "--workers", "1", "--bind", "127.0.0.1:{port}")
    with LiveServer(command=command, folder=tmp_path, environment={"PYTHONPATH": ""}) as server:
        assert server.get("/").json() == {"message": "from the wheel"}
        assert server.stop() == 0
