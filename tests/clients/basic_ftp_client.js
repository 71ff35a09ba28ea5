// basic-ftp for Node.js: uploads, goes on with an upload, lists, renames, deletes and downloads.
// basic_ftp_client.js MODE HOST PORT USER PASSWORD CERTIFICATE FILE
const assert = require('node:assert');
const fs = require('node:fs');
const { createRequire } = require('node:module');
const { Readable } = require('node:stream');
const tools = createRequire(`${__dirname}/../../target/tools/node/package.json`);
const ftp = tools('basic-ftp');

const [mode, host, port, user, password, certificate, path] = process.argv.slice(2);
const content = fs.readFileSync(path);

async function used(client) {
  const secure = { plain: false, explicit: true, implicit: 'implicit' }[mode];
  const secureOptions = { ca: fs.readFileSync(certificate), host };
  await client.access({ host, port: Number(port), user, password, secure, secureOptions });
  await client.cd(mode);
  assert.strictEqual(await client.pwd(), `/${mode}`);
  const put = (name, bytes) => client.uploadFrom(Readable.from([bytes]), name);

  const { code } = await client.uploadFrom(path, 'whole.bin');
  assert.strictEqual(code, 226);
  assert.strictEqual(await client.size('whole.bin'), content.length);
  assert(Math.abs((await client.lastMod('whole.bin')) - Date.now()) < 300_000);
  await put('small.hl7', content.subarray(0, 1000));
  await client.uploadFrom(path, 'named.part');
  await client.rename('named.part', 'named.bin');

  // What a client before us has begun.
  const kept = await client.size('cut.bin');
  assert(kept > 0 && kept < content.length, `${kept}`);
  await client.appendFrom(path, 'cut.bin', { localStart: kept });
  assert.strictEqual(await client.size('cut.bin'), content.length);

  await put('twice.hl7', content.subarray(0, 2000));
  await put('twice.hl7', content.subarray(0, 3000));
  await put('gone.hl7', content.subarray(0, 4000));
  await client.remove('gone.hl7');
  await assert.rejects(client.remove('gone.hl7'), { code: 550 });

  await client.ensureDir('sub/below');
  await client.cd(`/${mode}`);
  await client.removeDir('sub');
  const listed = Object.fromEntries((await client.list()).map((file) => [file.name, file.size]));
  const sizes = { 'small.hl7': 1000, 'twice.hl7': 3000 };
  for (const name of ['cut.bin', 'named.bin', 'whole.bin']) sizes[name] = content.length;
  assert.deepStrictEqual(listed, sizes);

  await client.downloadTo(`${path}.back`, 'whole.bin');
  assert(fs.readFileSync(`${path}.back`).equals(content));
  fs.writeFileSync(`${path}.back`, content.subarray(0, 999));
  await client.downloadTo(fs.createWriteStream(`${path}.back`, { flags: 'r+', start: 999 }), 'whole.bin', 999);
  assert(fs.readFileSync(`${path}.back`).equals(content));
  await assert.rejects(client.size('none.bin'), { code: 550 });
}

const client = new ftp.Client(30_000);
used(client)
  .then(() => console.log('basic-ftp', tools('basic-ftp/package.json').version, 'node', process.version))
  .finally(() => client.close());
