// ssh2-sftp-client for Node.js: uploads, goes on with an upload, lists, renames, deletes and downloads.
// ssh2_sftp_client.js HOST PORT USER PASSWORD FILE
const assert = require('node:assert');
const fs = require('node:fs');
const { createRequire } = require('node:module');
const tools = createRequire(`${__dirname}/../../target/tools/node/package.json`);
const Client = tools('ssh2-sftp-client');

const [host, port, username, password, path] = process.argv.slice(2);
const content = fs.readFileSync(path);

async function used(client) {
  await client.connect({ host, port: Number(port), username, password });
  assert.strictEqual(await client.cwd(), '/');
  await client.put(path, '/in/whole.bin');
  assert.strictEqual((await client.stat('/in/whole.bin')).size, content.length);
  await client.put(content.subarray(0, 1000), '/in/small.hl7');
  await client.fastPut(path, '/in/named.part');
  await client.posixRename('/in/named.part', '/in/named.bin');

  // What a client before us has begun.
  const kept = (await client.stat('/in/cut.bin')).size;
  assert(kept > 0 && kept < content.length, `${kept}`);
  await client.append(content.subarray(kept), '/in/cut.bin');
  assert.strictEqual((await client.stat('/in/cut.bin')).size, content.length);

  await client.put(content.subarray(0, 2000), '/in/twice.hl7');
  await client.put(content.subarray(0, 3000), '/in/twice.hl7');
  await client.put(content.subarray(0, 4000), '/in/gone.hl7');
  await client.delete('/in/gone.hl7');
  assert.strictEqual(await client.exists('/in/gone.hl7'), false);
  await assert.rejects(client.delete('/in/gone.hl7'), /no such file/i);

  await client.mkdir('/in/sub/below', true);
  assert.strictEqual(await client.exists('/in/sub/below'), 'd');
  await client.rmdir('/in/sub', true);
  const listed = Object.fromEntries((await client.list('/in')).map((file) => [file.name, file.size]));
  const sizes = { 'small.hl7': 1000, 'twice.hl7': 3000 };
  for (const name of ['cut.bin', 'named.bin', 'whole.bin']) sizes[name] = content.length;
  assert.deepStrictEqual(listed, sizes);

  assert((await client.get('/in/whole.bin')).equals(content));
  await client.fastGet('/in/whole.bin', `${path}.back`);
  assert(fs.readFileSync(`${path}.back`).equals(content));
  const part = await client.get('/in/whole.bin', undefined, { readStreamOptions: { start: 1000, end: 1499 } });
  assert(part.equals(content.subarray(1000, 1500)));
}

const client = new Client();
used(client)
  .then(() => console.log('ssh2-sftp-client', tools('ssh2-sftp-client/package.json').version, 'node', process.version))
  .finally(() => client.end());
