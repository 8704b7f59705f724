"""Builds the compiled core; everything else about the project stands in pyproject.toml."""

from glob import glob

from setuptools import Extension, setup

core = Extension(
    "crdtbucket._core",
    ["crdtbucket/_core.pyx"],
    # Each edited header or included file rebuilds the core. In pyproject.toml every one of them
    # would have to be named.
    depends=sorted(glob("crdtbucket/core/**/*.*", recursive=True)),
    # The table is one block of memory that is read as several structs, so aliasing must not be
    # assumed away; counters that wrap must be defined behaviour. Debugging symbols stay out.
    extra_compile_args=[
        "-O3",
        "-g0",
        "-fno-strict-aliasing",
        "-fwrapv",
        "-std=gnu11",
        "-Werror=implicit-function-declaration",
    ],
)

setup(ext_modules=[core])
