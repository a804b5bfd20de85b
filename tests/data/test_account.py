import pickle
import warnings

import pytest

from bengelib.data.account import Account, shown
from bengelib.errors import DataWarning


@pytest.fixture
def account():
    """Two images used, one left out, one in another split."""
    account = Account("images", "folder")
    account.used = 2
    account.leave_out("are broken", "River/b.jpg", "no end of image")
    account.put_aside("are not in split 'train'")
    account.put_aside("are of nobody", 0)
    return account


def test_everything_met_is_used_left_out_or_set_aside(account):
    assert account.met == 4
    assert str(account).splitlines() == [
        "folder: 2 of 4 images used",
        "1 of 3 images are broken, the first being River/b.jpg (no end of image); left out",
        "1 are not in split 'train'",
    ]
    assert str(pickle.loads(pickle.dumps(account))) == str(account)


def test_it_is_shown_once_as_a_warning_if_something_is_odd(account, capsys):
    with pytest.warns(DataWarning, match=r"2 of 4 images used\n1 of 3 images are broken") as said:
        account.tell(progress=True)
    assert len(said) == 1 and said[0].filename == __file__
    assert capsys.readouterr() == ("", "")


def test_what_is_harmless_is_printed_only_where_progress_is_shown(capsys):
    account = Account("images", "folder")
    account.used = 2
    account.note("are turned", "a.jpg", harmless=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        account.tell()
        assert capsys.readouterr().err == ""
        account.tell(progress=True)
    assert capsys.readouterr().err == "folder: 2 of 2 images used\n1 of 2 images are turned, the first being a.jpg\n"


def test_names_that_cannot_be_printed_are_shown_all_the_same():
    assert shown("Forêt/a\nb.jpg") == "Forêt/a\\nb.jpg"
    assert shown(b"Rivi\xe8re".decode(errors="surrogateescape")) == "Rivi\\udce8re"
