"""pysftp: uploads, goes on with an upload, lists, renames, deletes and downloads.

pysftp_client.py HOST PORT USER PASSWORD FILE
"""

import io, sys, warnings

# It warns that no host is known.
warnings.simplefilter("ignore")
import paramiko, pysftp

host, port, user, password, path = sys.argv[1:]
content = open(path, "rb").read()
options = pysftp.CnOpts()
options.hostkeys = None

with pysftp.Connection(host, username=user, password=password, port=int(port), cnopts=options) as sftp:
    sftp.timeout = 30
    with sftp.cd("in"):
        assert sftp.pwd == "/in", sftp.pwd
        assert sftp.put(path, "whole.bin", preserve_mtime=True).st_size == len(content)
        assert sftp.putfo(io.BytesIO(content[:1000]), "small.hl7").st_size == 1000
        sftp.put(path, "named.part", confirm=False)
        sftp.rename("named.part", "named.bin")

        # What a client before us has begun.
        kept = sftp.stat("cut.bin").st_size
        assert 0 < kept < len(content), kept
        with sftp.open("cut.bin", "ab") as file:
            file.write(content[kept:])
        assert sftp.stat("cut.bin").st_size == len(content)

        sftp.putfo(io.BytesIO(content[:2000]), "twice.hl7")
        sftp.putfo(io.BytesIO(content[:3000]), "twice.hl7")
        sftp.putfo(io.BytesIO(content[:4000]), "gone.hl7")
        sftp.remove("gone.hl7")
        assert not sftp.exists("gone.hl7")
        sftp.makedirs("sub/below")
        assert sftp.isdir("sub/below") and sftp.isfile("small.hl7")
        sftp.rmdir("sub/below")
        sftp.rmdir("sub")

        names = ["cut.bin", "named.bin", "small.hl7", "twice.hl7", "whole.bin"]
        assert sftp.listdir() == names, sftp.listdir()
        sizes = {entry.filename: entry.st_size for entry in sftp.listdir_attr()}
        assert sizes["twice.hl7"] == 3000, sizes
        back = io.BytesIO()
        assert sftp.getfo("whole.bin", back) == len(content) and back.getvalue() == content
        sftp.get("whole.bin", path + ".back", preserve_mtime=True)
        assert open(path + ".back", "rb").read() == content
        for refused in (lambda: sftp.stat("none"), lambda: sftp.get("none", path + ".none")):
            try:
                refused()
            except FileNotFoundError:
                continue
            raise AssertionError("was not refused")
print("pysftp", pysftp.__version__, "paramiko", paramiko.__version__)
