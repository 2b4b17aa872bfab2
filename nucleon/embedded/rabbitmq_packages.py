"""RabbitMQ's programs: an installation that is there already, or Debian's packages unpacked into a folder of the user, not installed.

Unpacking needs no root and changes nothing outside that folder: no service, no user, no port.
"""

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nucleon.embedded.servers import lock_at_once, wait_for
from nucleon.errors import SetupError

UPDATE_SECONDS = 180.0
DOWNLOAD_SECONDS = 600.0
UNPACK_SECONDS = 180.0
INSTALLED = ("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin", "/opt/rabbitmq/sbin", "/usr/local/lib/rabbitmq/lib/rabbitmq_server-*/sbin")
PATIENT = ("-q", "-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20")
BY_HAND = "install rabbitmq-server (it need not run as a service), or set AMQP_URL to a broker that runs"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Programs:
    """Where RabbitMQ's scripts and Erlang are. libraries: a folder for the dynamic linker, when Erlang's were unpacked too."""

    scripts: Path
    erlang: Path
    epmd: Path
    libraries: Path | None = None


def rabbitmq_programs(say: Say, cache: Path | None = None) -> Programs:
    """Return RabbitMQ's programs, from the system or from the cache; the first time they are fetched, which takes some seconds.

    say: told in one line what takes long. cache: a folder for the unpacked packages, by default below `~/.cache/nucleon`.
    Raises SetupError with what to do where there is no apt or it cannot fetch.
    """
    installed = _installed()
    if installed is not None:
        return installed
    place = cache or _cache_home()
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("a") as lock:
        # somebody else may be fetching: then it is there when we are let in
        wait_for(lambda: lock_at_once(lock), DOWNLOAD_SECONDS, f"somebody is fetching RabbitMQ into {place} for too long")
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            _fetch(place, say)
    return _unpacked(place)


def _cache_home() -> Path:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    system = f"{release.get('ID', 'linux')}-{release.get('VERSION_ID', '0')}-{platform.machine()}"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "nucleon" / f"rabbitmq-{system}"


def _installed() -> Programs | None:
    folders = [found for pattern in INSTALLED for found in sorted(Path("/").glob(pattern.lstrip("/")))]
    scripts = [folder for folder in folders if (folder / "rabbitmq-server").exists()]
    erl = shutil.which("erl") or shutil.which("/usr/lib/erlang/bin/erl")
    if not scripts or erl is None:
        return None
    root = Path(erl).resolve().parent.parent
    epmd = sorted(root.glob("erts-*/bin/epmd")) or [Path(found) for found in [shutil.which("epmd")] if found]
    return Programs(scripts[-1], root, epmd[-1]) if epmd else None


def _unpacked(place: Path) -> Programs:
    root = place / "usr/lib/erlang"
    scripts = sorted(place.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"))
    epmd = sorted(root.glob("erts-*/bin/epmd"))
    if not scripts or not epmd:
        raise SetupError(f"the RabbitMQ in {place} is not whole: delete that folder, it is fetched again")
    libraries = sorted(place.glob("usr/lib/*-linux-gnu*"))
    return Programs(scripts[-1], root, epmd[-1], libraries[-1] if libraries else None)


def _fetch(place: Path, say: Say) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise SetupError(f"embedded RabbitMQ is unpacked from Debian's packages, and there is no apt-get here: {BY_HAND}")
    say(f"fetching RabbitMQ from the packages of this system into {place} (once, about 35 MB)")
    unfinished = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=place.parent))
    try:
        archives = unfinished / "archives"
        archives.mkdir()
        if not _download(archives, ()):
            _download_afresh(archives, unfinished / "apt")
        tree = unfinished / "tree"
        for archive in sorted(archives.glob("*.deb")):
            _done(["dpkg-deb", "-x", str(archive), str(tree)], UNPACK_SECONDS)
        _relocate(tree, place)
        (tree / "complete").touch()
        tree.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _download_afresh(archives: Path, home: Path) -> None:
    """Download with package lists of our own: those of the system are missing or old, and only root may renew them."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True)
    own = ("-o", f"Dir::State::lists={home / 'lists'}", "-o", f"Dir::Cache={home / 'cache'}", "-o", "APT::Sandbox::User=")
    updated = _tried(["apt-get", *PATIENT, *own, "update"], home, UPDATE_SECONDS)
    if not _download(archives, own):
        last = _tried(["apt-get", *PATIENT, *own, "download", "rabbitmq-server"], archives, DOWNLOAD_SECONDS)
        said = (last.stderr or updated.stderr or "").strip()[-800:]
        raise SetupError(f"apt-get cannot fetch RabbitMQ ({said or 'it said nothing'}): {BY_HAND}")


def _download(archives: Path, options: Sequence[str]) -> bool:
    """Download what RabbitMQ needs and this system lacks; tell whether that worked."""
    only = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    needed = _tried(["apt-cache", *options, "depends", "--recurse", *only, "rabbitmq-server"], archives, UPDATE_SECONDS)
    erlang = set(re.findall(r"^erlang-[a-z0-9-]+$", needed.stdout, re.MULTILINE))
    install = ["apt-get", "-qq", *options, "--print-uris", "--no-install-recommends", "install", "rabbitmq-server"]
    lacking = _tried(install, archives, UPDATE_SECONDS)
    libraries = set(re.findall(r"' (lib[^_]+)_\S+\.deb", lacking.stdout))
    if needed.returncode or lacking.returncode or not erlang:
        return False
    wanted = ["rabbitmq-server", *sorted(erlang), *sorted(libraries)]
    return _tried(["apt-get", *PATIENT, *options, "download", *wanted], archives, DOWNLOAD_SECONDS).returncode == 0


def _relocate(tree: Path, place: Path) -> None:
    """Write the folder into Erlang's start scripts, where Debian has written its own."""
    erlang = tree / "usr/lib/erlang"
    for script in (*erlang.glob("bin/erl"), *erlang.glob("bin/start"), *erlang.glob("erts-*/bin/erl"), *erlang.glob("erts-*/bin/start")):
        script.write_text(script.read_text().replace("ROOTDIR=/usr/lib/erlang", f'ROOTDIR="{place}/usr/lib/erlang"'))


def _tried(words: Sequence[str], folder: Path, patience_seconds: float) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(
            list(words), cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience_seconds
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"`{words[0]}` did not end within {patience_seconds:g} s: {BY_HAND}") from None


def _done(words: Sequence[str], patience_seconds: float) -> None:
    result = _tried(words, Path("/"), patience_seconds)
    if result.returncode:
        raise SetupError(f"`{' '.join(words[:2])}` failed while RabbitMQ was unpacked: {result.stderr.strip()[-500:]}")
