"""fsspec, behind pandas, dask and Airflow: uploads, lists, renames, deletes and downloads, over FTP and SFTP.

fsspec_client.py MODE HOST PORT USER PASSWORD CERTIFICATE FILE, where MODE is also the directory. It knows no way to go on
with an upload.
"""

import sys

import fsspec
from fsspec.implementations.ftp import FTPFileSystem
from fsspec.implementations.sftp import SFTPFileSystem

mode, host, port, user, password, _, path = sys.argv[1:]
content = open(path, "rb").read()
login = {"port": int(port), "username": user, "password": password, "skip_instance_cache": True}
if mode == "sftp":
    # Both of its own, so that a login needs nothing of this machine.
    files = SFTPFileSystem(host, look_for_keys=False, allow_agent=False, **login)
else:
    files = FTPFileSystem(host, tls=mode == "explicit", **login)

files.makedirs(f"/{mode}/sub/below", exist_ok=True)
files.put_file(path, f"/{mode}/whole.bin")
assert files.info(f"/{mode}/whole.bin")["size"] == len(content), files.info(f"/{mode}/whole.bin")
with files.open(f"/{mode}/small.hl7", "wb") as file:
    file.write(content[:1000])
with files.open(f"/{mode}/named.part", "wb") as file:
    file.write(content)
files.mv(f"/{mode}/named.part", f"/{mode}/named.bin")
for length in (2000, 3000):
    with files.open(f"/{mode}/twice.hl7", "wb") as file:
        file.write(content[:length])
files.pipe_file(f"/{mode}/gone.hl7", content[:4000])
files.rm(f"/{mode}/gone.hl7")
files.invalidate_cache()
assert not files.exists(f"/{mode}/gone.hl7")
files.rmdir(f"/{mode}/sub/below")
files.rmdir(f"/{mode}/sub")
files.invalidate_cache()

sizes = {entry["name"].rsplit("/", 1)[1]: entry["size"] for entry in files.ls(f"/{mode}", detail=True)}
assert sizes == {
    "named.bin": len(content),
    "small.hl7": 1000,
    "twice.hl7": 3000,
    "whole.bin": len(content),
}, sizes
assert files.cat_file(f"/{mode}/whole.bin") == content
files.get_file(f"/{mode}/whole.bin", path + ".back")
assert open(path + ".back", "rb").read() == content
with files.open(f"/{mode}/whole.bin", "rb", block_size=65536) as file:
    file.seek(1000)
    assert file.read(500) == content[1000:1500]
    file.seek(2_000_000)
    assert file.read(500) == content[2_000_000:2_000_500]
print("fsspec", fsspec.__version__)
