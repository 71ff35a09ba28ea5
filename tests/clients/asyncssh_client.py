"""asyncssh: uploads, goes on with an upload, lists, renames and downloads.

asyncssh_client.py HOST PORT USER PASSWORD FILE
"""

import asyncio, sys

import asyncssh

host, port, user, password, path = sys.argv[1:]
content = open(path, "rb").read()


async def main():
    async with asyncssh.connect(
        host, int(port), username=user, password=password, known_hosts=None, client_keys=None, config=None
    ) as connection:
        async with connection.start_sftp_client() as sftp:
            await used(sftp)


async def used(sftp):
    # The directory is there with the upload that was cut.
    await sftp.chdir("/in")
    await sftp.put(path, "whole.bin")
    await sftp.put(path, "named.part", block_size=100_000, max_requests=200)
    await sftp.posix_rename("named.part", "named.bin")

    kept = await sftp.getsize("cut.bin")
    assert 0 < kept < len(content), kept
    async with sftp.open("cut.bin", "ab") as file:
        await file.write(content[kept:])
    assert await sftp.getsize("cut.bin") == len(content)

    await sftp.get("whole.bin", path + ".back")
    assert open(path + ".back", "rb").read() == content
    async with sftp.open("whole.bin", "rb") as file:
        assert await file.read(500, 1000) == content[1000:1500]
    names = sorted(name for name in await sftp.listdir() if not name.startswith("."))
    assert names == ["cut.bin", "named.bin", "whole.bin"], names
    assert (await sftp.statvfs("/")).bavail > 0
    # Several files of one channel at once.
    await asyncio.gather(*(alone(sftp, number) for number in range(8)))


async def alone(sftp, number):
    async with sftp.open(f"parallel-{number}.bin", "wb") as file:
        await file.write(content[number:])
        if number % 2:
            await file.fsync()


asyncio.run(main())
print("asyncssh", asyncssh.__version__)
