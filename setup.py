"""Compiles the hot modules when Cython and a C compiler are there, and goes on without when not.

`NUCLEON_BUILD=pure` skips compiling. Both ways give the same answers; `nucleon --version` tells which is in use.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HOT = (
    "nucleon.http.malformed", "nucleon.http.fields", "nucleon.http.head", "nucleon.http.chunks", "nucleon.http.reply",
    "nucleon.message.request", "nucleon.message.response", "nucleon.wsgi",
    "nucleon.routing.router", "nucleon.binding.call", "nucleon.binding.filling", "nucleon.binding.readers", "nucleon.binding.answers",
    "nucleon.app.answering", "nucleon.app.front", "nucleon.app.inside", "nucleon.app.storing",
    "nucleon.server.core", "nucleon.server.connection", "nucleon.server.body", "nucleon.server.exchange", "nucleon.server.worker",
    "nucleon.server.door", "nucleon.server.poller",
    "nucleon.green.threads",
    "nucleon.redis.answers", "nucleon.redis.calls", "nucleon.redis.copies", "nucleon.redis.link", "nucleon.redis.multiplexer",
    "nucleon.redis.shared",
)  # fmt: skip
"""What every request runs through: typed Python, compiled, or run as it is."""
DRIVERS = (
    "nucleon.amqp.codec.frames", "nucleon.amqp.codec.properties", "nucleon.amqp.acks", "nucleon.amqp.channel", "nucleon.amqp.confirms",
    "nucleon.amqp.consumer", "nucleon.amqp.message",
    "nucleon.pool.lending", "nucleon.pool.slot", "nucleon.green.waits",
    "nucleon.postgres.connection", "nucleon.postgres.session", "nucleon.postgres.rows",
    "nucleon.postgres.statements", "nucleon.postgres.client",
)  # fmt: skip
"""The same for what waits for servers: the kernel takes most of its time."""
TWINS = (
    "nucleon.http.native", "nucleon.server.wire", "nucleon.binding.scanning",
    "nucleon.postgres.direct", "nucleon.redis.packing", "nucleon.redis.replies", "nucleon.green.thread_numbers",
)  # fmt: skip
"""What calls the C library (.pyx), each with an interpreted twin (.py) beside it."""
FLAGS = ["-O2", "-g0", "-w"] if os.name == "posix" else []
"""Half the time to install, and as fast, as with -O3 -g; warnings about generated code help nobody."""
QUICK_FLAGS = ["-O1", "-g0", "-w"] if os.name == "posix" else []
"""Six tenths of the time of -O2, for 3 % more instructions (callgrind)."""


class OptionalBuild(build_ext):
    """Builds what can be built: a missing compiler is no reason not to install."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:  # noqa: BLE001 - compilers fail in ways of their own; the modules run interpreted then
            for built in self.get_outputs():  # all or none: compiled modules use each other's types
                Path(built).unlink(missing_ok=True)
            self.extensions = []
            say(f"the hot modules run interpreted: {error}")


def say(what: str) -> None:
    """Tell the person who installs, in one line."""
    sys.stderr.write(f"nucleon: {what}\n")


def extensions() -> list[Extension]:
    """Return what to compile: nothing when that is not wanted or Cython is not there."""
    if os.environ.get("NUCLEON_BUILD") == "pure":
        say("NUCLEON_BUILD=pure: the hot modules run interpreted")
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        say("Cython is not installed: the hot modules run interpreted")
        return []
    try:
        found: list[Extension] = cythonize(
            [
                Extension(name, [name.replace(".", "/") + ending], extra_compile_args=flags)
                for names, ending, flags in ((TWINS, ".pyx", FLAGS), (HOT, ".py", FLAGS), (DRIVERS, ".py", QUICK_FLAGS))
                for name in names
            ],
            build_dir="build/cython",
            language_level=3,
            quiet=True,
            compiler_directives={"annotation_typing": False, "binding": False},
        )
    except Exception as error:  # noqa: BLE001 - another Cython than ours was tried with; the modules run interpreted then
        say(f"Cython cannot compile the hot modules, they run interpreted: {error}")
        return []
    return found


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuild})
