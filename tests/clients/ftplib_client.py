"""Python's ftplib: uploads, goes on with an upload, lists and downloads.

ftplib_client.py MODE HOST PORT USER PASSWORD CERTIFICATE FILE
"""

import ftplib, io, os, ssl, sys

mode, host, port, user, password, certificate, path = sys.argv[1:]


class Implicit(ftplib.FTP_TLS):
    """ftplib knows no TLS from the start: the socket is wrapped when it is set."""

    @property
    def sock(self):
        return self._sock

    @sock.setter
    def sock(self, plain):
        if plain is not None and not isinstance(plain, ssl.SSLSocket):
            plain = self.context.wrap_socket(plain, server_hostname=self.host)
        self._sock = plain

    _sock = None


if mode == "plain":
    ftp = ftplib.FTP(timeout=30)
else:
    context = ssl.create_default_context(cafile=certificate)
    ftp = (Implicit if mode == "implicit" else ftplib.FTP_TLS)(context=context, timeout=30)
ftp.connect(host, int(port))
ftp.login(user, password)
if mode != "plain":
    ftp.prot_p()

content = open(path, "rb").read()
# The directory is there with the upload that was cut.
ftp.cwd(mode)
with open(path, "rb") as file:
    assert ftp.storbinary("STOR whole.bin", file).startswith("226")
assert ftp.size("whole.bin") == len(content)

lines = b"one\r\ntwo\r\n"
assert ftp.storlines("STOR lines.txt", io.BytesIO(b"one\ntwo\n")).startswith("226")

# Temporary name, then the final one.
with open(path, "rb") as file:
    ftp.storbinary("STOR named.part", file)
ftp.rename("named.part", "named.bin")

# What a client before us has begun.
with open(path, "rb") as file:
    kept = ftp.size("cut.bin")
    assert 0 < kept < len(content), kept
    file.seek(kept)
    assert ftp.storbinary("STOR cut.bin", file, rest=kept).startswith("226")
assert ftp.size("cut.bin") == len(content)

back = io.BytesIO()
ftp.retrbinary("RETR whole.bin", back.write)
assert back.getvalue() == content
rest = io.BytesIO()
ftp.retrbinary("RETR whole.bin", rest.write, rest=1000)
assert rest.getvalue() == content[1000:]

names = ["cut.bin", "lines.txt", "named.bin", "whole.bin"]
assert sorted(ftp.nlst()) == names, ftp.nlst()
facts = {name: fact for name, fact in ftp.mlsd()}
assert int(facts["whole.bin"]["size"]) == len(content)
listed = []
ftp.dir(listed.append)
assert len(listed) == 4, listed
assert ftp.quit().startswith("221")
print("python", sys.version.split()[0], ssl.OPENSSL_VERSION)
