"""The public names: all there, documented, and quick to import."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import slmkit


def test_every_public_name_is_there_and_no_other():
    assert dir(slmkit) == sorted(slmkit.__all__)
    assert {"load", "Model", "Message", "Options", "errors"} <= set(slmkit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        slmkit.lode  # noqa: B018


@pytest.mark.parametrize("name", [n for n in slmkit.__all__ if n != "__version__"])
def test_every_public_name_and_method_has_a_docstring(name):
    thing = getattr(slmkit, name)
    assert inspect.getdoc(thing)
    for attribute, member in vars(thing).items() if inspect.isclass(thing) else ():
        if not attribute.startswith("_") and callable(member):
            assert inspect.getdoc(member), f"{name}.{attribute}"


def test_load_takes_the_load_options():
    from slmkit.options import LoadOptions

    parameters = inspect.signature(slmkit.load).parameters
    assert set(LoadOptions.__dataclass_fields__) < set(parameters)


def test_every_error_is_one_of_the_tree_with_a_status_and_an_exit_code():
    errors = [e for e in vars(slmkit.errors).values() if inspect.isclass(e)]
    for error in errors:
        assert issubclass(error, slmkit.errors.SlmError)
        assert 400 <= error.http_status < 600
        assert 1 <= error.exit_code <= 5
        assert error.__name__ in slmkit.errors.__doc__


def test_importing_the_package_imports_nothing_heavy():
    program = (
        "import slmkit, sys; slmkit.Message; slmkit.Options; "
        "print([m for m in ('numpy', 'tokenizers', 'jinja2', 'rich', 'asyncio') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
