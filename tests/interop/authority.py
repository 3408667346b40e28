"""A certificate authority of our own, by openssl: certificates good and bad, all below one check's folder."""

import datetime
import subprocess

CONFIG = """
[ca]
default_ca = own
[own]
new_certs_dir = {folder}
database = {folder}/index
serial = {folder}/serial
default_md = sha256
policy = any
unique_subject = no
x509_extensions = leaf
[any]
commonName = supplied
[req]
distinguished_name = name
prompt = no
[name]
commonName = test
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[leaf]
basicConstraints = CA:FALSE
subjectAltName = {san}
"""


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


class Authority:
    """`certificate` is its own one, in PEM."""

    def __init__(self, world, name="authority"):
        self.folder = world.folder_for(name)
        (self.folder / "index").write_text("")
        (self.folder / "serial").write_text("1000\n")
        self.certificate, self.key = self.folder / "authority.pem", self.folder / "authority.key"
        openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            self.key,
            "-out",
            self.certificate,
            "-days",
            3650,
            "-subj",
            f"/CN={name}",
            "-config",
            self.config("DNS:unused"),
            "-extensions",
            "root",
        )

    def config(self, san):
        path = self.folder / "openssl.cnf"
        path.write_text(CONFIG.format(folder=self.folder, san=san))
        return path

    def issue(self, name, san="DNS:localhost, IP:127.0.0.1", first_day=-30, last_day=365, key="ec"):
        """(certificate, key) in PEM for `san`, valid from `first_day` to `last_day` counted from today."""
        pem, key_path, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        config = self.config(san)
        kind = ["rsa:2048"] if key == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        openssl(
            "req",
            "-new",
            "-newkey",
            *kind,
            "-nodes",
            "-keyout",
            key_path,
            "-out",
            request,
            "-subj",
            f"/CN={name}",
            "-config",
            config,
        )
        openssl(
            "ca",
            "-batch",
            "-config",
            config,
            "-cert",
            self.certificate,
            "-keyfile",
            self.key,
            "-in",
            request,
            "-out",
            pem,
            "-startdate",
            day(first_day),
            "-enddate",
            day(last_day),
            "-notext",
        )
        return pem, key_path


def self_signed(world, name="self-signed", san="DNS:localhost, IP:127.0.0.1", is_authority=True):
    """(certificate, key) as devices and small servers make them: by openssl's defaults, or without CA:TRUE."""
    folder = world.folder_for(name)
    pem, key = folder / "own.pem", folder / "own.key"
    extra = [] if is_authority else ["-addext", "basicConstraints=critical,CA:FALSE"]
    openssl(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        pem,
        "-days",
        100,
        "-subj",
        "/CN=own",
        "-addext",
        f"subjectAltName={san}",
        *extra,
    )
    return pem, key


def pin(certificate):
    """The SHA-256 of the public key, in base64, as an administrator would make it."""
    command = (
        f"openssl x509 -in {certificate} -pubkey -noout | openssl pkey -pubin -outform der "
        "| openssl dgst -sha256 -binary | base64"
    )
    return subprocess.run(
        ["sh", "-c", command], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


def day(offset):
    return (datetime.datetime.utcnow() + datetime.timedelta(days=offset)).strftime("%Y%m%d%H%M%SZ")
