"""Decides whether to build ``fastws._speedups``, nothing else.

``FASTWS_BUILD_EXTENSION`` is ``auto`` (default), ``yes`` or ``no``. ``auto`` compiles
one line that includes ``Python.h``: if that fails, fastws is installed without its
compiled twin, with one warning; if it works, any later error fails the build.

For developers: ``FASTWS_TRACE=1`` builds a twin that coverage tools can follow line by
line, ``FASTWS_SANITIZE=1`` one with the address and undefined-behaviour sanitizers.
"""

import os
import sys
import sysconfig
import tempfile
import warnings
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, PlatformError

# setuptools provides distutils; it must be imported first.
from distutils.ccompiler import new_compiler  # isort: skip
from distutils.sysconfig import customize_compiler  # isort: skip

PROBE = "#include <Python.h>\n"
BUILDING = {"bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}


def is_set(name: str) -> bool:
    """Whether a switch of the environment is on: set, and not ``0``."""
    return os.environ.get(name, "0") not in ("", "0")


def can_compile() -> bool:
    """Whether the C compiler of this Python works and finds ``Python.h``."""
    try:
        compiler = new_compiler()
        customize_compiler(compiler)
        for name in ("include", "platinclude"):
            compiler.add_include_dir(sysconfig.get_path(name))
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(PROBE)
            compiler.compile([str(source)], output_dir=folder)
    except (CompileError, PlatformError, OSError):
        return False
    return True


def wants_extension() -> bool:
    """What ``FASTWS_BUILD_EXTENSION`` and this machine ask for."""
    mode = os.environ.get("FASTWS_BUILD_EXTENSION", "auto")
    if mode not in ("auto", "yes", "no"):
        sys.exit(f"FASTWS_BUILD_EXTENSION={mode}: use auto, yes or no")
    if mode != "auto":
        return mode == "yes"
    if not BUILDING.intersection(sys.argv) or can_compile():
        return True
    warnings.warn(
        "fastws is built without its compiled twin: the C compiler did not work "
        "or did not find Python.h",
        stacklevel=1,
    )
    return False


class CythonBuild(build_ext):
    """``build_ext`` that translates the ``.pyx`` first; the C stays in ``build/``."""

    def finalize_options(self) -> None:
        """Replace the Cython sources by the C made from them."""
        from Cython.Build import cythonize  # only a build needs Cython

        trace = is_set("FASTWS_TRACE")
        self.distribution.ext_modules[:] = cythonize(
            self.distribution.ext_modules,
            build_dir="build/trace" if trace else "build/cython",
            compiler_directives={"linetrace": trace, "binding": True},
            force=bool(self.force),
        )
        super().finalize_options()


def extension() -> Extension:
    """The compiled twin with the flags of this platform and these switches."""
    compile_args = ["-O3", "-Wsign-compare"] if os.name != "nt" else ["/O2"]
    link_args: list[str] = []
    macros: list[tuple[str, str | None]] = []
    if is_set("FASTWS_TRACE"):
        macros += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]
        compile_args += ["-O0", "-g"]
    if is_set("FASTWS_SANITIZE"):
        sanitize = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
        compile_args += [*sanitize, "-O1", "-g"]
        link_args += sanitize
    return Extension(
        "fastws._speedups",
        ["fastws/_speedups.pyx"],
        define_macros=macros,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )


if wants_extension():
    setup(ext_modules=[extension()], cmdclass={"build_ext": CythonBuild})
else:
    setup()
