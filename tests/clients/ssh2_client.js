// ssh2 for Node.js: uploads, goes on with an upload, lists, renames and downloads.
// ssh2_client.js HOST PORT USER PASSWORD FILE
const assert = require('node:assert');
const fs = require('node:fs');
const { createRequire } = require('node:module');
const { promisify } = require('node:util');
const tools = createRequire(`${__dirname}/../../target/tools/node/package.json`);
const { Client } = tools('ssh2');

const [host, port, username, password, path] = process.argv.slice(2);
const content = fs.readFileSync(path);
const client = new Client();

async function used(sftp) {
  const call = (name, ...given) => promisify(sftp[name]).call(sftp, ...given);
  // The directory is there with the upload that was cut.
  await call('fastPut', path, 'in/whole.bin');
  await call('writeFile', 'in/named.part', content);
  await call('rename', 'in/named.part', 'in/named.bin');

  const { size } = await call('stat', 'in/cut.bin');
  assert(size > 0 && size < content.length, `${size}`);
  await new Promise((done, failed) => {
    const rest = sftp.createWriteStream('in/cut.bin', { flags: 'r+', start: size });
    rest.on('close', done).on('error', failed);
    rest.end(content.subarray(size));
  });
  assert.strictEqual((await call('stat', 'in/cut.bin')).size, content.length);

  await call('fastGet', 'in/whole.bin', `${path}.back`);
  assert(fs.readFileSync(`${path}.back`).equals(content));
  assert((await call('readFile', 'in/named.bin')).equals(content));
  const names = (await call('readdir', 'in')).map((entry) => entry.filename).sort();
  assert.deepStrictEqual(names, ['cut.bin', 'named.bin', 'whole.bin']);
  // Several files of one channel at once.
  const numbers = Array.from({ length: 8 }, (_, number) => number);
  await Promise.all(numbers.map((number) => call('writeFile', `in/parallel-${number}.bin`, content.subarray(number))));
}

client
  .on('ready', () => {
    client.sftp((error, sftp) => {
      if (error) throw error;
      used(sftp).then(() => {
        console.log('ssh2', tools('ssh2/package.json').version, 'node', process.version);
        client.end();
      });
    });
  })
  .connect({ host, port: Number(port), username, password });
