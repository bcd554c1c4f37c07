import ssl
from pathlib import Path

import pytest

from worker.tls import check_url, explain


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A file that exists."""
    file = tmp_path / "ca.crt"
    file.write_text("")
    return file


def test_urls_with_and_without_certificates_pass(authority: Path) -> None:
    """Plain ones, TLS with the machine's authorities, and TLS with an authority of one's own."""
    for url in (
        "amqp://guest:guest@127.0.0.1/",
        "amqps://u:p@host/?heartbeat=10",
        f"amqps://u:p@host/?cafile={authority}&no_verify_ssl=0",
        f"rediss://u:p@host/0?ssl_ca_certs={authority}&ssl_check_hostname=True&ssl_cert_reqs=required",
        f"rediss://u:p@host/0?ssl_ca_path={authority.parent}",
        "unix:///run/redis.sock",
    ):
        assert check_url(url) == url


@pytest.mark.parametrize(
    "query", ["no_verify_ssl=1", "no_verify_ssl=false", "ssl_cert_reqs=none", "ssl_check_hostname=false"]
)
def test_switching_the_check_off_is_refused(query: str) -> None:
    """TLS to whoever answers protects nothing; `no_verify_ssl=false` too switches the library's check off."""
    with pytest.raises(ValueError, match=f"^{query.partition('=')[0]} would trust any server"):
        check_url(f"amqps://u:p@host/?{query}")


@pytest.mark.parametrize(("scheme", "name"), [("amqp", "cafile"), ("redis", "ssl_ca_certs")])
def test_certificates_without_tls_are_refused(scheme: str, name: str, authority: Path) -> None:
    """A forgotten s in the scheme would send the password in the clear."""
    with pytest.raises(ValueError, match=f"^{name} has no effect without TLS"):
        check_url(f"{scheme}://u:p@host/?{name}={authority}")


def test_a_missing_file_is_named() -> None:
    """The library's own message would not say which."""
    with pytest.raises(ValueError, match=r"^cafile: /nowhere/ca\.crt does not exist"):
        check_url("amqps://u:p@host/?cafile=/nowhere/ca.crt")


def test_a_broken_url_is_refused_without_its_password() -> None:
    """A slash in a password makes a part of it look like a port."""
    with pytest.raises(ValueError, match="percent-encode") as caught:
        check_url("amqp://user:canary/rest@host/")
    assert "canary" not in str(caught.value)


def certificate_error(message: str) -> ssl.SSLCertVerificationError:
    """As OpenSSL raises it, inside what a library makes of it."""
    error = ssl.SSLCertVerificationError(1, f"certificate verify failed: {message}")
    error.verify_message = message
    return error


@pytest.mark.parametrize(
    ("cause", "encrypted", "meaning"),
    [
        (certificate_error("self-signed certificate"), True, "no authority that is trusted signed its certificate"),
        (certificate_error("certificate is not valid for 'a'"), True, "its certificate names another host"),
        (ssl.SSLError(1, "wrong version number"), True, "does this port speak TLS?"),
        (TimeoutError(), True, "does this port speak TLS?"),
        (ConnectionResetError(104, "reset"), False, "does this port want TLS?"),
    ],
)
def test_what_a_failure_means_is_said_after_it(*, cause: Exception, encrypted: bool, meaning: str) -> None:
    """Also where a library has wrapped it."""
    wrapped = ConnectionError("connecting failed")
    wrapped.__cause__ = cause
    assert explain(wrapped, encrypted=encrypted) == f"connecting failed - {meaning}"


@pytest.mark.parametrize(
    ("error", "encrypted"), [(ConnectionRefusedError("nobody"), True), (TimeoutError("late"), False)]
)
def test_what_has_nothing_to_do_with_tls_is_left_alone(*, error: Exception, encrypted: bool) -> None:
    """No guess is added."""
    assert explain(error, encrypted=encrypted) == str(error)
