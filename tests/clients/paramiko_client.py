"""paramiko: uploads, goes on with an upload, lists, renames and downloads.

paramiko_client.py HOST PORT USER PASSWORD FILE
"""

import io, sys, threading

import paramiko

host, port, user, password, path = sys.argv[1:]
content = open(path, "rb").read()


def connected():
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(host, int(port), user, password, look_for_keys=False, allow_agent=False, timeout=30)
    return client


client = connected()
assert client.get_transport().agreed_on_strict_kex
sftp = client.open_sftp()
# The directory is there with the upload that was cut.
sftp.chdir("in")
assert sftp.put(path, "whole.bin").st_size == len(content)
sftp.put(path, "named.part")
sftp.posix_rename("named.part", "named.bin")

kept = sftp.stat("cut.bin").st_size
assert 0 < kept < len(content), kept
with sftp.open("cut.bin", "r+b") as file:
    file.set_pipelined(True)
    file.seek(kept)
    file.write(content[kept:])
assert sftp.stat("cut.bin").st_size == len(content)

back = io.BytesIO()
sftp.getfo("whole.bin", back)
assert back.getvalue() == content
with sftp.open("whole.bin", "rb") as file:
    file.seek(1000)
    assert file.read(500) == content[1000:1500]
assert sorted(sftp.listdir()) == ["cut.bin", "named.bin", "whole.bin"], sftp.listdir()
assert sftp.normalize("..") == "/"
for refused in (lambda: sftp.symlink("/etc", "link"), lambda: sftp.open("../../x", "wb"), lambda: sftp.stat("none")):
    try:
        refused()
    except IOError:
        continue
    raise AssertionError("was not refused")


def alone(number):
    """One of several channels at once."""
    sftp = client.open_sftp()
    sftp.putfo(io.BytesIO(content[number:]), f"/in/parallel-{number}.bin")
    sftp.close()


threads = [threading.Thread(target=alone, args=[number]) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
client.close()
print("paramiko", paramiko.__version__)
