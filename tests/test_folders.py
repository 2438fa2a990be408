"""Folders and files to write are tried before the work whose results go there."""

from __future__ import annotations

import pytest

from mlp_dense.errors import UserError
from mlp_dense.folders import check_file_place, make_folder


def test_a_folder_is_made_and_left_empty(tmp_path):
    assert make_folder(tmp_path / 'a/b', '--out') == tmp_path / 'a/b'
    make_folder(tmp_path / 'a/b', '--out')
    assert check_file_place(tmp_path / 'c/x.json', '--out') == tmp_path / 'c/x.json'
    assert not list((tmp_path / 'a/b').iterdir()) and not list((tmp_path / 'c').iterdir())


@pytest.mark.parametrize('place', ['file', 'file/below', 'file/far/below', '/proc/x', '/sys/x', 'x' * 300, 'a\0b'])
@pytest.mark.parametrize('function', [make_folder, lambda path, option: check_file_place(path / 'x.json', option)])
def test_an_impossible_folder_is_told_in_one_line(place, function, tmp_path):
    (tmp_path / 'file').write_text('kept')
    with pytest.raises(UserError, match=r'^--out .* cannot be written to') as error:
        function(tmp_path / place, '--out')
    assert '\n' not in str(error.value)
    assert (tmp_path / 'file').read_text() == 'kept'


def test_a_file_that_is_there_is_kept_and_a_name_too_long_is_told(tmp_path):
    (tmp_path / 'x.json').write_text('kept')
    check_file_place(tmp_path / 'x.json', '--out')
    assert (tmp_path / 'x.json').read_text() == 'kept'
    with pytest.raises(UserError, match=r'cannot be written to \(File name too long\)'):
        check_file_place(tmp_path / ('x' * 300), '--out')


def test_a_folder_in_the_place_of_a_file(tmp_path):
    with pytest.raises(UserError, match=r'--out .* is a folder; name a file'):
        check_file_place(tmp_path, '--out')
