"""aioftp: uploads, goes on with an upload, lists, renames and downloads.

aioftp_client.py MODE HOST PORT USER PASSWORD CERTIFICATE FILE
"""

import asyncio, ssl, sys

import aioftp

mode, host, port, user, password, certificate, path = sys.argv[1:]


async def logged_in():
    trusting = None if mode == "plain" else ssl.create_default_context(cafile=certificate)
    client = aioftp.Client(ssl=trusting if mode == "implicit" else None, socket_timeout=30)
    await client.connect(host, int(port))
    if mode == "explicit":
        await client.upgrade_to_tls(sslcontext=trusting)
    await client.login(user, password)
    return client


async def main():
    content = open(path, "rb").read()
    client = await logged_in()
    await client.change_directory(mode)
    await client.upload(path, "whole.bin", write_into=True)
    await client.upload(path, "named.part", write_into=True)
    await client.rename("named.part", "named.bin")
    _, lines = await client.command("SIZE cut.bin", "213")
    kept = int(lines[0])
    assert 0 < kept < len(content), kept
    async with client.upload_stream("cut.bin", offset=kept) as stream:
        await stream.write(content[kept:])
    await client.download("whole.bin", path + ".back", write_into=True)
    assert open(path + ".back", "rb").read() == content
    async with client.download_stream("whole.bin", offset=1000) as stream:
        assert await stream.read() == content[1000:]
    names = sorted(str(name) for name, _ in await client.list())
    assert names == ["cut.bin", "named.bin", "whole.bin"], names
    await asyncio.gather(*(alone(number, content) for number in range(8)))
    await client.quit()


async def alone(number, content):
    """One of several sessions at once."""
    client = await logged_in()
    if mode == "implicit":
        await client.command("PBSZ 0", "200")
        await client.command("PROT P", "200")
    async with client.upload_stream(f"/{mode}/parallel-{number}.bin") as stream:
        await stream.write(content[number:])
    await client.quit()


asyncio.run(main())
print("aioftp", aioftp.__version__)
