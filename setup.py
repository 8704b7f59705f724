"""Builds the compiled core; everything else about the project stands in pyproject.toml."""

import gzip
import os
import re
import shlex
import shutil
import sys
import sysconfig
import tarfile
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
# A fault of the core that nobody knows of should be of no use to an attacker: copies are checked,
# return addresses guarded, and the table of functions cannot be written.
HARDENED = ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong"]
HARDENED_LINK = ["-Wl,-z,relro,-z,now,-z,noexecstack"] if sys.platform == "linux" else []
OLDEST_IN_A_ZIP = 315_532_800  # 1980, in seconds: a wheel can hold no earlier time

# What runs at the start, once in a while, or for somebody who looks. gcc makes functions small of
# which it knows that they are cold, and fast ones of all others. In Cython nothing says it of a
# method, so it is said in the C that Cython has written.
COLD_CLASSES = "TableDefinitions TableEpochs TableSharing _Memory"
COLD_METHODS = """
    __cinit__ __reduce__ __repr__ _made _replace adopt as_dict binding check check_node columns
    columns_of configure counters counters_of credit debt decided decided_by define describe
    digest_items encode_table is_ours iterated loaded_decision move_near name_node node_names
    read_definitions read_header redirect refuse_key relay release reset_all reset_keys reset_places
    reset_some restore set_disconnected set_node set_relayed settle_suspects shift silent_before
    slot_of spec_of stage started stats survey table_damage table_size touch unstage
"""
# Types that are not cold.
MADE_IN_CALLS = "BucketReplica Decision Reservation _Entries _Items _Scratch __aenter__ __aexit__"


def mark_cold(text):
    """Says in this C code of Cython which functions are cold; one that is marked stays as it is."""
    classes, methods, types = (
        "|".join(names.split()) for names in (COLD_CLASSES, COLD_METHODS, MADE_IN_CALLS)
    )
    names = "|".join(
        (
            rf"(?:pw|pf|gb|getprop)_\w*?\d(?:{classes})_\w+",
            rf"(?:pw|pf|gb|f)_\w*?_\d*(?:{methods})(?:_\w*genexpr\w*)?",
            rf"tp_\w*?core_(?!\w*(?:{types}))\w+",
            r"tp_init_\w+",
        )
    )
    cold = re.compile(rf"^static (?!__attr)(?=[^(;\n]*\b__pyx_(?:{names})\()", re.MULTILINE)
    return cold.sub("static __attribute__((cold)) ", text)


def show_calls(text):
    """A wrong call's error shows the right one, where Cython would name the method alone.

    Each method's docstring begins with its signature and is passed as the name; `call_shape` of
    core/binding/text.h reads it where such an error is raised.
    """
    named = (
        r"(__Pyx_RaiseArgtupleInvalid\(|__Pyx_ParseKeywords\([^;]*, |__Pyx_RaiseKeywordRequired\()"
    )
    methods = re.split(r"^(?=PyDoc_STRVAR)", text, flags=re.MULTILINE)
    for i, method in enumerate(methods):
        if doc := re.match(r'PyDoc_STRVAR\((\w+), "(\w+)\(', method):
            methods[i] = re.sub(rf'{named}"{doc[2]}"', rf"\1{doc[1]}", method)
    formats = r'(PyExc_TypeError,\s*)"%(?:\.200)?s\(\) ([^;]*?)\b(func(?:tion)?_name)\b'
    return re.sub(formats, r'\1"%s \2call_shape(\3)', "".join(methods))


def statements(path):
    """Of each line of a file of Cython, by its number, the one on which its statement begins."""
    literal = r'"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|#.*'
    text = re.sub(literal, lambda found: "\n" * found[0].count("\n"), path.read_text())
    first, depth, begins = 0, 0, [0]
    for number, line in enumerate(text.split("\n"), 1):
        first = first if depth else number
        begins.append(first)
        depth += len(re.findall(r"[(\[{]", line)) - len(re.findall(r"[)\]}]", line))
    return begins


def name_statements(text):
    """An error names the line on which its statement begins, as the interpreter's do.

    Cython names that of the argument or item, so each has code of its own that leaves the function:
    without this a call costs more bytes when it is written on more lines.
    """
    package = ROOT / "crdtbucket"
    own = {path.name: path for path in (package / "_core.pyx", *package.rglob("*.pxi"))}
    files = re.search(r"__pyx_f\[\] = \{(.*?)\};", text, re.DOTALL)[1]
    paths = [own.get(Path(name).name) for name in re.findall(r'"(.*?)"', files)]
    begins = [path and statements(path) for path in paths]

    def named(error):
        lines, number = begins[int(error[1])], int(error[2])
        return f"__PYX_ERR({error[1]}, {lines[number] if lines else number}, "

    return re.sub(r"__PYX_ERR\((\d+), (\d+), ", named, text)


def rewrite(path):
    """Applies all changes to this C file of Cython, and leaves one that has them as it is: a newer
    file would be compiled again."""
    text = path.read_text()
    changed = name_statements(show_calls(mark_cold(text)))
    if changed != text:
        path.write_text(changed)


class SameBytes(sdist):
    """Equal files make an equal archive: no time, owner or umask of a machine is in it."""

    def make_archive(self, base_name, kind, root_dir=None, base_dir=None, **_owner):
        """Writes the archive and returns its path; refuses another format than `gztar`."""
        if kind != "gztar":
            raise ValueError(f"an sdist is a .tar.gz here: --formats=gztar, not {kind}")
        epoch = int(os.environ.get("SOURCE_DATE_EPOCH", OLDEST_IN_A_ZIP))

        def plain(info):
            info.mtime, info.uid, info.gid, info.uname, info.gname = epoch, 0, 0, "", ""
            info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
            return info

        target, top = f"{base_name}.tar.gz", Path(root_dir or ".")
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        with (
            open(target, "wb") as raw,
            gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as packed,
            tarfile.open(mode="w", fileobj=packed, dereference=True) as archive,
        ):
            for path in sorted((top / base_dir).rglob("*")):
                if path.is_file():
                    archive.add(path, path.relative_to(top), filter=plain)
        return target


class NeedsACompiler(build_ext):
    """What is missing on a machine is said before pages of a compiler's output."""

    def run(self):
        """Exits with the package to install when there is no compiler, or Python has no headers."""
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "")
        if compiler and shutil.which(compiler[0]) is None:
            sys.exit(
                f"crdtbucket's core is compiled, and there is no C compiler {compiler[0]!r}: on "
                "Debian and Ubuntu apt-get install gcc, or name another one in CC"
            )
        if not Path(sysconfig.get_path("include"), "Python.h").exists():
            sys.exit(
                f"crdtbucket's core is compiled, and {sys.executable} has no C headers: on Debian "
                "and Ubuntu apt-get install python3-dev"
            )
        super().run()

    def build_extension(self, ext):
        """Compiles what Cython makes of the core, rewritten."""
        ext.sources = cythonize([ext], force=self.force)[0].sources
        for source in ext.sources:
            rewrite(Path(source))
        super().build_extension(ext)


core = Extension(
    "crdtbucket._core",
    ["crdtbucket/_core.pyx"],
    # Each edited header or included file rebuilds the core. In pyproject.toml every one of them
    # would have to be named.
    depends=sorted(glob("crdtbucket/core/**/*.*", recursive=True)),
    # The table is one block of memory that is read as several structs, so aliasing must not be
    # assumed away; counters that wrap must be defined behaviour. Debugging symbols stay out, and so
    # do the assertions of Python's headers, also where CFLAGS replace the interpreter's own flags.
    # Small functions become part of each caller, which makes a take fast. With the usual bound that
    # happens to Cython's reading of arguments, too, in all of 160 methods, and costs 49 KB. Targets
    # of jumps are not padded, which saves 20 KB; loops are: without that a take is 2 % slower.
    extra_compile_args=[
        "-O3",
        "--param=early-inlining-insns=11",
        "-fno-align-jumps",
        "-g0",
        "-DNDEBUG",
        "-fno-strict-aliasing",
        "-fwrapv",
        "-std=gnu11",
        "-Werror=implicit-function-declaration",
        *HARDENED,
    ],
    extra_link_args=HARDENED_LINK,
)

setup(ext_modules=[core], cmdclass={"build_ext": NeedsACompiler, "sdist": SameBytes})
