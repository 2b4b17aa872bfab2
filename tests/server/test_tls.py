"""TLS: certificates that change while the server runs, handshakes that never end, clients of every kind."""

import logging
import ssl
from pathlib import Path

import pytest
import trustme

from nucleon.errors import SetupError
from nucleon.server.tls import Certificate


def written(folder: Path, authority: trustme.CA, name: str = "localhost") -> tuple[str, str]:
    """Write a chain and a key for this name, as a renewal would: new files moved over the old ones."""
    leaf = authority.issue_cert(name)
    chain, key = folder / "chain.pem", folder / "key.pem"
    new_chain, new_key = folder / "chain.new", folder / "key.new"
    new_key.write_bytes(leaf.private_key_pem.bytes())
    new_chain.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    new_key.replace(key)
    new_chain.replace(chain)
    return str(chain), str(key)


def test_files_that_are_no_certificate_are_a_setup_error_that_names_them(tmp_path: Path) -> None:
    chain, key = written(tmp_path, trustme.CA())
    with pytest.raises(SetupError, match=r"nowhere\.pem.*no such file"):
        Certificate(str(tmp_path / "nowhere.pem"), key)
    Path(key).write_text("no key\n")
    with pytest.raises(SetupError, match=r"key\.pem"):
        Certificate(chain, key)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = trustme.CA()
    (tmp_path / "other").mkdir()
    chain, _ = written(tmp_path, authority)
    _, key = written(tmp_path / "other", authority)
    with pytest.raises(SetupError, match="key values mismatch"):
        Certificate(chain, key)


def test_new_files_are_used_and_broken_ones_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = trustme.CA()
    certificate = Certificate(*written(tmp_path, authority))
    first = certificate.context
    assert not certificate.renew()
    written(tmp_path, authority)
    with caplog.at_level(logging.INFO, "nucleon.server"):
        assert certificate.renew()
        second = certificate.context
        assert second is not first
        (tmp_path / "chain.pem").write_text("half a file")
        assert not certificate.renew()
        assert not certificate.renew()
    assert certificate.context is second
    assert caplog.text.count("the old one stays") == 1


def test_only_tls_1_2_and_later_is_spoken(tmp_path: Path) -> None:
    certificate = Certificate(*written(tmp_path, trustme.CA()))
    assert certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2
