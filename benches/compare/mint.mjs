// Access tokens of an issuer of our own, as many as are asked for: node mint.mjs FOLDER ISSUER AUDIENCE COUNT
// Writes jwks.json and, one token a line, rs256.txt and es256.txt. They are good for a day.
import * as crypto from 'node:crypto';
import * as fs from 'node:fs';

const [folder, issuer, audience, count] = process.argv.slice(2);
const kinds = [
  { alg: 'RS256', pair: crypto.generateKeyPairSync('rsa', { modulusLength: 2048 }), options: {} },
  { alg: 'ES256', pair: crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }), options: { dsaEncoding: 'ieee-p1363' } },
];
const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const now = Math.floor(Date.now() / 1000);
const sign = (key, text) => new Promise((done, failed) => {
  crypto.sign('sha256', Buffer.from(text), key, (error, signature) => {
    if (error) failed(error);
    else done(`${text}.${signature.toString('base64url')}`);
  });
});

const keys = kinds.map(({ alg, pair }) => ({ ...pair.publicKey.export({ format: 'jwk' }), alg, use: 'sig', kid: alg }));
fs.writeFileSync(`${folder}/jwks.json`, JSON.stringify({ keys }));
for (const { alg, pair, options } of kinds) {
  const head = encoded({ alg, typ: 'at+jwt', kid: alg });
  const key = { key: pair.privateKey, ...options };
  const file = fs.openSync(`${folder}/${alg.toLowerCase()}.txt`, 'w');
  for (let made = 0; made < Number(count);) {
    const batch = [];
    for (; batch.length < 1000 && made < Number(count); made += 1) {
      const claims = {
        iss: issuer, aud: audience, sub: `program-${made % 100}`, client_id: 'bench', scope: 'orders:read', jti: crypto.randomUUID(),
        iat: now, exp: now + 86400,
      };
      batch.push(sign(key, `${head}.${encoded(claims)}`));
    }
    fs.writeSync(file, `${(await Promise.all(batch)).join('\n')}\n`);
  }
  fs.closeSync(file);
}
