"""What `make mutants` tries is there, and a module that gets another name is not forgotten."""

from __future__ import annotations

from tests.equivalent_mutants import EQUIVALENT
from tests.mutants import ROOT, TESTS


def test_each_module_and_its_tests_are_files() -> None:
    files = [f"crdtbucket/{module}.py" for module in TESTS]
    files += [f"tests/{name}.py" for tests in TESTS.values() for name in tests.split()]
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert EQUIVALENT.keys() <= TESTS.keys()
