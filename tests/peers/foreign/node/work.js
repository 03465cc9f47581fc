// SPDX-License-Identifier: Apache-2.0
// What a Node service does with node-postgres, in the same order every time; prints what it got. `masked` reads one hidden row.
"use strict";
const fs = require("fs");
const { once } = require("events");
const { Client, Pool, types } = require("pg");
const Cursor = require("pg-cursor");
const QueryStream = require("pg-query-stream");
const copy = require("pg-copy-streams");

const ca = process.env.PGSSLROOTCERT;
const settings = ca ? { ssl: { ca: fs.readFileSync(ca), rejectUnauthorized: true } } : { ssl: false };
const say = (...words) => console.log(JSON.stringify(words));

async function failed(promise) {
  try {
    await promise;
    return "passed";
  } catch (error) {
    return [error.code, error.message, error.constraint || null];
  }
}

async function values(client) {
  say("types", (await client.query(`select 1::int2 a, 2::int8 b, 1.5::float8 c, 12.50::numeric d, true e, 'x'::text f, '\\x0102'::bytea g,
    '2026-01-02'::date h, timestamptz '2026-01-02 03:04:05+00' i, '{"a":[1]}'::jsonb j, array[1,2] k, null l, 'happy'::app.mood m`)).rows);
  say("parameters", (await client.query("select $1::int + 1 a, $2::text b, $3::jsonb c, $4::int[] d", [1, "t'x", { k: 1 }, [1, 2]])).rows);
  say("binary", (await client.query({ text: "select 7::int4 a, 'y'::text b", binary: true })).rows);
  say("rows as arrays", (await client.query({ text: "select id, title from app.items order by id", rowMode: "array" })).rows);
  say("many statements", (await client.query("select 1 a; select 2 b")).map((result) => result.rows));
  for (let number = 1; number <= 4; number++) {
    say("named", (await client.query({ name: "by-id", text: "select name from app.people where id = $1", values: [number] })).rows);
  }
}

async function transactions(client) {
  await client.query("begin");
  say((await client.query("insert into app.items (title, price) values ($1, $2) returning title, stock", ["lamp", "7.50"])).rows);
  await client.query("savepoint s");
  say("fault", await failed(client.query("select 1 / $1::int", [0])));
  await client.query("rollback to s");
  say("still", (await client.query("update app.items set stock = stock - 1 where title = 'lamp'")).rowCount);
  await client.query("rollback");
  say("unknown", await failed(client.query("select * from nowhere")), await failed(client.query("selec 1")));
}

async function streams(client) {
  const cursor = client.query(new Cursor("select n from generate_series(1, 25) n"));
  say("cursor", (await cursor.read(10)).length, (await cursor.read(10)).length, (await cursor.read(10)).length);
  await cursor.close();
  let sum = 0;
  for await (const row of client.query(new QueryStream("select n from generate_series(1, 1000) n", [], { batchSize: 64 }))) sum += row.n;
  say("stream", sum);
  await client.query("begin");
  const into = client.query(copy.from("copy public.plain (id, label) from stdin"));
  into.write("71\tone\n72\ttwo\n");
  into.end();
  await once(into, "finish");
  let out = "";
  for await (const chunk of client.query(copy.to("copy (select id, label from public.plain where id > 70 order by id) to stdout"))) out += chunk;
  say("copy", out);
  await client.query("rollback");
}

async function notices(client) {
  const heard = once(client, "notification");
  await client.query("listen lamp");
  await client.query("notify lamp, 'on'");
  const [message] = await heard;
  say("notification", message.channel, message.payload);
  await client.query("unlisten *");
}

async function pooled() {
  const pool = new Pool({ ...settings, max: 3 });
  const answers = await Promise.all([1, 2, 3, 4, 5, 6].map((number) => pool.query("select $1::int * 2 as twice", [number])));
  say("pool", answers.map((answer) => answer.rows[0].twice));
  await pool.end();
}

async function main() {
  types.setTypeParser(1700, (text) => `numeric ${text}`);
  const client = new Client(settings);
  await client.connect();
  if (process.argv[2] === "masked") {
    const text = "select name, ssn, card, email from customers where id = $1";
    say((await client.query(text, [1])).rows, (await client.query({ text, values: [1], binary: true, rowMode: "array" })).rows.length);
    say("refused", await failed(client.query("drop database orders")));
  } else {
    await values(client);
    await transactions(client);
    await streams(client);
    await notices(client);
    await pooled();
  }
  await client.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
