"""Whether a function can be called with some arguments, found without a call."""

from __future__ import annotations

from crdtbucket.base.signatures import misfit


def of_one(key: str) -> str:
    raise AssertionError("nobody calls it")


def test_a_function_fits_the_arguments_that_it_takes() -> None:
    assert misfit(of_one, "key") is None
    assert misfit(of_one, key="key") is None


def test_of_one_that_does_not_fit_its_signature_and_the_reason_are_known() -> None:
    found = misfit(of_one)
    assert found is not None
    signature, error = found
    assert list(signature.parameters) == ["key"]
    assert "missing a required argument" in str(error)


def test_a_builtin_without_a_signature_is_not_judged() -> None:
    assert misfit(getattr) is None
