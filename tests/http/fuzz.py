"""Coverage-guided fuzzing of the reader with atheris, as a program: `python tests/http/fuzz.py --seconds 600`.

The law: any bytes give requests or one `MalformedInput` with a status, never another exception, and the same requests however they are
cut. Inputs that reached new code are added to `corpus.txt` beside this file, one Python bytes literal per line; the suite reads them all.
Needs `pip install atheris` and the interpreted build (coverage is taken from Python code).
"""

import argparse
import ast
import random
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus.txt")
LONGEST_BYTES = 600  # longer ones add time, not code


def corpus() -> list[bytes]:
    """Return the kept inputs."""
    return [ast.literal_eval(line) for line in CORPUS.read_text("ascii").splitlines()] if CORPUS.exists() else []


def keep(folder: Path) -> None:
    """Write them, shortest first."""
    found = {path.read_bytes() for path in folder.iterdir()}
    kept = sorted((data for data in found if len(data) <= LONGEST_BYTES), key=lambda data: (len(data), data))
    CORPUS.write_text("".join(f"{data!r}\n" for data in kept), "ascii")
    print(f"{len(kept)} inputs in {CORPUS.name}")


def check(data: bytes) -> None:
    """Raise `AssertionError` when the law does not hold for these bytes."""
    from reading import decided, pieces, readings

    requests, refused = readings([data])
    assert refused is None or 400 <= refused <= 599, refused
    whole = decided([data])
    assert whole[0][: len(requests)] == requests
    places = random.Random(len(data)).choices(range(2000), k=4)
    assert decided(list(pieces(data, places))) == whole, places
    assert decided([data[at : at + 1] for at in range(len(data))]) == whole


def fuzz(words: list[str]) -> None:
    """Run libFuzzer with these words, its own name first. It ends the process: not with 0, and with the input, when the law is broken."""
    import atheris

    with atheris.instrument_imports(include=["nucleon.http", "reading"]):
        import reading

        from nucleon import http
    if http.COMPILED or not reading.Reader:
        sys.exit("the compiled reader cannot be watched: NUCLEON_BUILD=pure pip install -e . and remove nucleon/http/*.so")
    atheris.Setup(words, check)
    atheris.Fuzz()


def main() -> int:
    """Fuzz for so many seconds from the kept inputs and the case table, then keep the smallest set that reaches the same code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=600)
    seconds = options.parse_args().seconds
    with tempfile.TemporaryDirectory() as found, tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as folder:
        me = Path(folder, "fuzz")
        me.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} fuzz "$0" "$@"\n')
        me.chmod(0o700)
        for number, data in enumerate(corpus() + table()):
            Path(found, str(number)).write_bytes(data)
        words = [f"-max_total_time={seconds}", "-max_len=700", "-print_final_stats=1", "-verbosity=0", found]
        ended = subprocess.run([me, *words], check=False)
        if ended.returncode == 0:
            subprocess.run([me, "-merge=1", "-verbosity=0", kept, found], check=True, stderr=subprocess.DEVNULL)
            keep(Path(kept))
        return ended.returncode


def table() -> list[bytes]:
    """Return the raw requests of the case table, the seed of a first run."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "server"))
    from http_cases import CASES

    return [case.sent for case in CASES if len(case.sent) <= LONGEST_BYTES]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    if sys.argv[1:2] == ["fuzz"]:
        fuzz(sys.argv[2:])
    sys.exit(main())
