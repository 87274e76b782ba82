"""Files of a run are whole or not there, and a folder that cannot be made is said in one sentence."""

from __future__ import annotations

import pytest

from slmkit.errors import StorageError
from slmkit.train.files import write_whole


def test_the_folders_of_a_file_are_made(tmp_path):
    write_whole(tmp_path / "run" / "tokens" / "a.npz", b"abc")
    write_whole(tmp_path / "run" / "tokens" / "a.npz", b"de")
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [b"de"]


@pytest.mark.parametrize("folder", ["taken", "taken/below"])
def test_a_file_in_the_place_of_the_folder_is_a_storage_error(tmp_path, folder):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(StorageError, match="choose another one with --out"):
        write_whole(tmp_path / folder / "measured.json", b"{}")
