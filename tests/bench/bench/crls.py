"""CRLs of any length, signed by the CAs of the bench's PKI. An entry has a serial number of 16 bytes, a date and a reason, 49
bytes, as public CAs have them; 1,000,000 of them are 49 MB."""

import base64
import os
import time

from harness.revocation import Authority, Certificate, extension, integer, moment, tlv

REASON_CODE = bytes.fromhex("0603551d15")
CESSATION = tlv(0x30, extension(REASON_CODE, bytes.fromhex("0a0105")))
SERIAL_BYTES = 16


def entries(count, also, when):
    """`count` revokedCertificates entries; the last ones are those of the serial numbers `also`."""
    date = moment(when)
    tail = date + CESSATION
    numbers = os.urandom(SERIAL_BYTES * max(0, count - len(also)))
    # Serial numbers begin with 0x40 here, and with something else in certificates: none is hit by chance.
    head = bytes([0x30, 2 + SERIAL_BYTES + len(tail), 2, SERIAL_BYTES, 0x40])
    parts = [head + numbers[at + 1: at + SERIAL_BYTES] + tail for at in range(0, len(numbers), SERIAL_BYTES)]
    parts += [tlv(0x30, integer(serial), tail) for serial in also][:count]
    return b"".join(parts)


def crl(authority, count, also=()):
    """DER, valid for a month from a minute ago."""
    now = time.time()
    listed = entries(count, also, now - 3600)
    content = tlv(0x30, integer(1), authority.algorithm, authority.certificate.subject, moment(now - 60),
                  moment(now + 30 * 86400), tlv(0x30, listed) if listed else b"", authority.extensions(1, None, False))
    return tlv(0x30, content, authority.algorithm, tlv(3, b"\0", authority.sign(content)))


def pem(der):
    return b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(der) + b"-----END X509 CRL-----\n"


def both_lists(site, count):
    """A PEM file with the CRLs of root (empty) and intermediate (`count` entries, the last of them the client "revoked").
    Made once for each run of scripts/bench."""
    path = site.folder / f"crl-{count}.pem"
    if not path.exists():
        revoked = Certificate(site.pki / "revoked-cert.pem").serial
        half = path.with_suffix(".new")
        half.write_bytes(pem(crl(Authority(site.pki, "intermediate"), count, (revoked,))) +
                         pem(crl(Authority(site.pki, "root"), 0)))
        half.rename(path)
    return path
