"""The certificates with which a deployed connection verifies its database."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from include.warehouse import connections

FILE = Path(connections.__file__).parent / "rds-ca.crt"


def test_libpq_can_read_the_certificates() -> None:
    context = ssl.create_default_context(cafile=FILE)

    assert len(context.get_ca_certs()) == FILE.read_text().count("BEGIN CERTIFICATE")


def test_the_certificates_are_roots_of_rds_and_stay_valid_for_a_year() -> None:
    for certificate in x509.load_pem_x509_certificates(FILE.read_bytes()):
        (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        assert str(name.value).startswith("Amazon RDS ")
        certificate.verify_directly_issued_by(certificate)
        assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=365)


def test_the_authority_that_terraform_names_is_among_them() -> None:
    assert "Amazon RDS eu-west-1 Root CA RSA2048 G1" in FILE.read_text()  # ca_cert_identifier rds-ca-rsa2048-g1
