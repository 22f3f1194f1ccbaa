// Drives the vendor's own client against the local server, one check after the other.
//
//   node run.js PORT v1|v4 path|virtual|address DIRECTORY
//
// Prints "ok NAME" for each check and ends with 0, or with the first failure and 1. DIRECTORY is scratch room.
// It speaks to 127.0.0.1 only: the bucket's host names are resolved here.

'use strict';

const assert = require('assert');
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const path = require('path');
const { Readable } = require('stream');
const OSS = require('ali-oss');

const [port, version, style, directory] = process.argv.slice(2);
const BUCKET = 'test-bucket';

const lookup = (host, options, done) =>
  options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4);

function client(more) {
  const host = { path: 'localhost', virtual: 'oss-cn-test.aliyuncs.com', address: '127.0.0.1' }[style];
  return new OSS(
    Object.assign(
      {
        accessKeyId: 'test',
        accessKeySecret: 'secret',
        bucket: BUCKET,
        region: 'oss-cn-test',
        endpoint: `http://${host}:${port}`,
        sldEnable: style === 'path',
        authorizationV4: version === 'v4',
        agent: new http.Agent({ keepAlive: true, lookup }),
        timeout: 20000,
        retryMax: 0
      },
      more
    )
  );
}

const oss = client();
const data = crypto.createHash('sha256').update('ali-oss').digest();
const big = Buffer.alloc(350000);
for (let i = 0; i < big.length; i++) big[i] = (i * 31 + (i >> 8) * 17) & 255;

const md5 = b => crypto.createHash('md5').update(b).digest('hex').toUpperCase();

async function fails(promise, status, code) {
  try {
    await promise;
  } catch (e) {
    assert.strictEqual(e.status, status, `${e.code} ${e.message}`);
    if (code) assert.strictEqual(e.code, code);
    return e;
  }
  throw new Error(`no error, but ${code} was expected`);
}

async function text(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

// Fetches a presigned URL, with the same address for every host.
function fetchUrl(url, method, body, headers) {
  return new Promise((resolve, reject) => {
    const rq = http.request(url, { method, headers, lookup }, rs => {
      text(rs).then(found => resolve({ status: rs.statusCode, headers: rs.headers, body: found }), reject);
    });
    rq.on('error', reject);
    rq.end(body);
  });
}

const NAMES = ['plain.txt', 'dir/a b+c.txt', '目录/文件 名.txt', "odd/(1)'!*@=,;$[]%20.x", 'a//b'];

const checks = {
  async 'put and get'() {
    for (const name of NAMES) {
      const r = await oss.put(name, data, { meta: { uid: 1, 'mixed-case': 'x' }, mime: 'text/x', headers: { 'Cache-Control': 'no-cache' } });
      assert.strictEqual(r.res.status, 200);
      assert.strictEqual(r.res.headers.etag, `"${md5(data)}"`);
      const g = await oss.get(name);
      assert.ok(g.content.equals(data));
      assert.strictEqual(g.res.headers['content-type'], 'text/x');
    }
  },
  async 'put and get of files and streams'() {
    const file = path.join(directory, 'up.bin');
    fs.writeFileSync(file, big);
    await oss.put('file.bin', file);
    await oss.get('file.bin', path.join(directory, 'down.bin'));
    assert.ok(fs.readFileSync(path.join(directory, 'down.bin')).equals(big));
    await oss.putStream('stream.bin', Readable.from([big.subarray(0, 1000), big.subarray(1000)]));
    const { stream } = await oss.getStream('stream.bin');
    assert.ok((await text(stream)).equals(big));
  },
  async 'ranges and conditions'() {
    await oss.put('range.bin', big);
    const r = await oss.get('range.bin', { headers: { Range: 'bytes=10-19' } });
    assert.strictEqual(r.res.status, 206);
    assert.ok(r.content.equals(big.subarray(10, 20)));
    const etag = r.res.headers.etag;
    assert.strictEqual((await oss.head('range.bin', { headers: { 'If-None-Match': etag } })).status, 304);
    await fails(oss.head('range.bin', { headers: { 'If-Match': '"other"' } }), 412, 'PreconditionFailed');
  },
  async 'head and metadata'() {
    const h = await oss.head('plain.txt');
    assert.strictEqual(h.status, 200);
    assert.deepStrictEqual(h.meta, { uid: '1', 'mixed-case': 'x' });
    const m = await oss.getObjectMeta('plain.txt');
    assert.strictEqual(m.res.headers['content-length'], String(data.length));
    await oss.putMeta('plain.txt', { uid: 7 });
    assert.deepStrictEqual((await oss.head('plain.txt')).meta, { uid: '7' });
  },
  async errors() {
    const e = await fails(oss.get('absent'), 404, 'NoSuchKey');
    assert.ok(/^[0-9A-F]{24}$/.test(e.requestId));
    await fails(oss.head('absent'), 404, 'NoSuchKey');
    await fails(client({ bucket: 'absent-bucket' }).get('k'), 404, 'NoSuchBucket');
    await fails(client({ accessKeySecret: 'wrong' }).get('plain.txt'), 403, 'SignatureDoesNotMatch');
    await fails(client({ accessKeyId: 'nobody' }).get('plain.txt'), 403, 'InvalidAccessKeyId');
    await fails(oss.put('plain.txt', data, { headers: { 'x-oss-forbid-overwrite': 'true' } }), 409, 'FileAlreadyExists');
    await fails(oss.put('plain.txt', data, { headers: { 'Content-MD5': md5('other') } }), 400, 'InvalidDigest');
  },
  async append() {
    const a = await oss.append('log', Buffer.from('one,'), { meta: { n: 1 } });
    assert.strictEqual(a.nextAppendPosition, '4');
    const b = await oss.append('log', Buffer.from('two'), { position: a.nextAppendPosition });
    assert.strictEqual(b.nextAppendPosition, '7');
    assert.strictEqual((await oss.get('log')).content.toString(), 'one,two');
    await fails(oss.append('log', data, { position: 3 }), 409, 'PositionNotEqualToLength');
    await fails(oss.append('plain.txt', data, { position: 32 }), 409, 'ObjectNotAppendable');
  },
  async 'multipart by hand'() {
    const { uploadId } = await oss.initMultipartUpload('multi', { mime: 'text/y', headers: { 'x-oss-meta-k': 'v' } });
    const file = path.join(directory, 'up.bin');
    const ends = [0, 102400, 204800, big.length];
    const done = [];
    for (let n = 1; n <= 3; n++) {
      const p = await oss.uploadPart('multi', uploadId, n, file, ends[n - 1], ends[n]);
      done.push({ number: n, etag: p.etag });
    }
    const parts = await oss.listParts('multi', uploadId);
    assert.deepStrictEqual(parts.parts.map(p => p.Size), ['102400', '102400', '145200']);
    const ups = await oss.listUploads({ prefix: 'mul', 'max-uploads': 10 });
    assert.deepStrictEqual(ups.uploads.map(u => u.uploadId), [uploadId]);
    const c = await oss.completeMultipartUpload('multi', uploadId, done);
    assert.ok(/^"[0-9A-F]{32}-3"$/.test(c.etag));
    assert.ok((await oss.get('multi')).content.equals(big));
    assert.strictEqual((await oss.head('multi')).res.headers['x-oss-object-type'], 'Multipart');
    await fails(oss.listParts('multi', uploadId), 404, 'NoSuchUpload');
  },
  async 'multipart as a whole, resumed, aborted'() {
    const file = path.join(directory, 'up.bin');
    await oss.multipartUpload('whole', file, { partSize: 102400, parallel: 3, meta: { a: 'b' } });
    assert.ok((await oss.get('whole')).content.equals(big));
    let checkpoint = null;
    const stop = new Error('stop');
    await assert.rejects(
      oss.multipartUpload('resumed', file, {
        partSize: 102400,
        parallel: 1,
        progress: (p, c) => {
          checkpoint = c;
          if (p > 0.3) throw stop;
        }
      })
    );
    await oss.multipartUpload('resumed', file, { checkpoint });
    assert.ok((await oss.get('resumed')).content.equals(big));
    const { uploadId } = await oss.initMultipartUpload('aborted');
    await oss.abortMultipartUpload('aborted', uploadId);
    await fails(oss.abortMultipartUpload('aborted', uploadId), 404, 'NoSuchUpload');
    assert.deepStrictEqual((await oss.listUploads({})).uploads, []);
  },
  async 'multipart copy'() {
    await oss.multipartUploadCopy('copied-parts', { sourceKey: 'whole', sourceBucketName: BUCKET }, { partSize: 102400 });
    assert.ok((await oss.get('copied-parts')).content.equals(big));
  },
  async copy() {
    const r = await oss.copy('copy of 文件', NAMES[2]);
    assert.strictEqual(r.data.etag, `"${md5(data)}"`);
    assert.ok((await oss.get('copy of 文件')).content.equals(data));
    assert.deepStrictEqual((await oss.head('copy of 文件')).meta, { uid: '1', 'mixed-case': 'x' });
    await oss.copy('copy2', NAMES[2], { meta: { new: 'y' } });
    assert.deepStrictEqual((await oss.head('copy2')).meta, { new: 'y' });
    await fails(oss.copy('copy3', 'absent'), 404, 'NoSuchKey');
  },
  async 'list, both versions, page by page'() {
    for (let i = 0; i < 12; i++) await oss.put(`list/${i % 3}/k ${i}`, Buffer.from('x'));
    await oss.put('list/top', Buffer.from('xyz'));
    const seen = [];
    let token = null;
    do {
      const query = { prefix: 'list/', 'max-keys': 5 };
      if (token) query['continuation-token'] = token;
      const r = await oss.listV2(query);
      seen.push(...r.objects.map(o => o.name));
      token = r.nextContinuationToken;
    } while (token);
    assert.strictEqual(seen.length, 13);
    assert.deepStrictEqual(seen, [...seen].sort());
    const v2 = await oss.listV2({ prefix: 'list/', delimiter: '/', 'fetch-owner': 'true' });
    assert.deepStrictEqual(v2.prefixes, ['list/0/', 'list/1/', 'list/2/']);
    assert.deepStrictEqual(v2.objects.map(o => [o.name, o.size, o.type]), [['list/top', 3, 'Normal']]);
    assert.strictEqual(Number(v2.keyCount), 4);
    const v1 = await oss.list({ prefix: 'list/', delimiter: '/', 'max-keys': 2 });
    assert.deepStrictEqual(v1.prefixes, ['list/0/', 'list/1/']);
    const next = await oss.list({ prefix: 'list/', delimiter: '/', marker: v1.nextMarker });
    assert.deepStrictEqual([next.prefixes, next.objects.map(o => o.name)], [['list/2/'], ['list/top']]);
    assert.deepStrictEqual((await oss.listV2({ prefix: 'no such' })).objects || [], []);
    const chinese = await oss.listV2({ prefix: '目录/' });
    assert.deepStrictEqual(chinese.objects.map(o => o.name), [NAMES[2]]);
  },
  async symlink() {
    await oss.putSymlink('links/ln', NAMES[2], { meta: { l: '1' } });
    assert.strictEqual((await oss.getSymlink('links/ln')).targetName, NAMES[2]);
    assert.ok((await oss.get('links/ln')).content.equals(data));
    const [entry] = (await oss.listV2({ prefix: 'links/' })).objects;
    assert.deepStrictEqual([entry.type, entry.size], ['Symlink', Buffer.byteLength(NAMES[2])]);
    await fails(oss.getSymlink('plain.txt'), 400, 'NotSymlink');
  },
  async 'tags and ACL'() {
    await oss.putObjectTagging('plain.txt', { a: '1', 'b c': 'x y' });
    assert.deepStrictEqual((await oss.getObjectTagging('plain.txt')).tag, { a: '1', 'b c': 'x y' });
    await oss.deleteObjectTagging('plain.txt');
    assert.deepStrictEqual((await oss.getObjectTagging('plain.txt')).tag, {});
    await oss.putACL('plain.txt', 'public-read');
    assert.strictEqual((await oss.getACL('plain.txt')).acl, 'public-read');
    await oss.put('plain.txt', data);
    assert.strictEqual((await oss.getACL('plain.txt')).acl, 'default');
  },
  async 'presigned URLs'() {
    // It refuses to make URLs with an address in them.
    const signer = style === 'address' ? client({ endpoint: `http://localhost:${port}`, sldEnable: true }) : oss;
    const name = NAMES[1];
    const sign = method =>
      version === 'v4' ? signer.signatureUrlV4(method, 60, {}, name) : signer.signatureUrl(name, { method, expires: 60 });
    await oss.put(name, data);
    const got = await fetchUrl(await sign('GET'), 'GET');
    assert.strictEqual(got.status, 200, got.body.toString());
    assert.ok(got.body.equals(data));
    assert.strictEqual((await fetchUrl(await sign('PUT'), 'PUT', 'replaced')).status, 200);
    assert.strictEqual((await oss.get(name)).content.toString(), 'replaced');
    assert.strictEqual((await fetchUrl(await sign('GET'), 'PUT', 'no')).status, 403);
  },
  async delete() {
    const names = ['gone/1', 'gone/&<>"\'', 'gone/ 文'];
    for (const name of names) await oss.put(name, data);
    const r = await oss.deleteMulti(names.concat(['gone/absent']));
    assert.deepStrictEqual(r.deleted.map(d => d.Key || d).sort(), names.concat(['gone/absent']).sort());
    assert.deepStrictEqual((await oss.listV2({ prefix: 'gone/' })).objects || [], []);
    assert.strictEqual((await oss.delete('plain.txt')).res.status, 204);
    assert.strictEqual((await oss.delete('plain.txt')).res.status, 204);
    await fails(oss.head('plain.txt'), 404, 'NoSuchKey');
  },
  async buckets() {
    await oss.putBucket('made-by-ali-oss', { acl: 'public-read' });
    // With an address for an endpoint this client sends "undefined." and the region's host as Host.
    const service = style === 'address' ? client({ endpoint: `http://localhost:${port}`, sldEnable: true }) : oss;
    const all = (await service.listBuckets()).buckets.map(b => b.name);
    assert.ok(all.includes('made-by-ali-oss') && all.includes(BUCKET));
    const info = (await oss.getBucketInfo('made-by-ali-oss')).bucket;
    assert.deepStrictEqual([info.Location, info.AccessControlList.Grant], ['oss-cn-test', 'public-read']);
    assert.strictEqual((await oss.getBucketLocation(BUCKET)).location, 'oss-cn-test');
    assert.ok(Number((await oss.getBucketStat(BUCKET)).stat.ObjectCount) > 10);
    await oss.deleteBucket('made-by-ali-oss');
    await fails(oss.deleteBucket(BUCKET), 409, 'BucketNotEmpty');
  }
};

(async () => {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
    } catch (e) {
      console.log(`FAILED ${name}: ${e.stack}`);
      process.exit(1);
    }
    console.log(`ok ${name}`);
  }
  process.exit(0);
})();
