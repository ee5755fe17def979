// ioredis's session: what an application does with the client's default settings, with the protocol that the client chooses,
// RESP2 and RESP3. Run by sessions.py, which names the port in SESSION_PORT.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { after, beforeEach, describe, it } from "node:test";
import { Redis } from "ioredis";

const port = Number(process.env.SESSION_PORT);
const BINARY = Buffer.from([...Array(256).keys(), 13, 10, 36, 45, 49, 13, 10, 0]);
// Enough that a cache lets the read pass, fills, and answers.
const READS = 4;

for (const [name, options] of [["default", {}], ["RESP2", { protocol: 2 }], ["RESP3", { protocol: 3 }]]) {
  describe(`ioredis ${name}`, { timeout: 60_000 }, () => {
    const opened = [];
    const connect = (more = {}) => {
      const client = new Redis(port, { ...options, ...more });
      client.on("error", (error) => console.log("# client error:", error.message));
      opened.push(client);
      return client;
    };
    const repeat = async (read, expected) => {
      for (let i = 0; i < READS; i++) assert.deepEqual(await read(), expected);
    };
    const untilBlocked = async (client) => {
      while (!/^blocked_clients:1\r$/m.test(await client.info("clients")));
    };

    let client, other;
    beforeEach(async () => {
      client ??= connect();
      other ??= connect();
      await client.flushall();
    });
    after(() => opened.forEach((each) => each.disconnect()));

    it("answers every read the same however often it is sent", async () => {
      await client.set("string", "value");
      await client.hset("hash", { a: "1", b: "2" });
      await client.rpush("list", "x", "y");
      await client.sadd("set", "m");
      await client.zadd("zset", 0.5, "half", 1, "one");
      await repeat(() => client.get("string"), "value");
      await repeat(() => client.get("absent"), null);
      await repeat(() => client.mget("string", "absent"), ["value", null]);
      await repeat(() => client.exists("string", "absent"), 1);
      await repeat(() => client.hgetall("hash"), { a: "1", b: "2" });
      await repeat(() => client.lrange("list", 0, -1), ["x", "y"]);
      await repeat(() => client.smembers("set"), ["m"]);
      await repeat(() => client.zscore("zset", "half"), "0.5");
      await repeat(() => client.zscore("zset", "absent"), null);
      await repeat(() => client.zrange("zset", 0, -1, "WITHSCORES"), ["half", "0.5", "one", "1"]);
      await repeat(() => client.type("zset"), "zset");
    });

    it("sees a write of another client at the next read", async () => {
      for (let i = 0; i < 200; i++) {
        await other.set("shared", i);
        await repeat(() => client.get("shared"), String(i));
      }
      await other.del("shared");
      assert.equal(await client.get("shared"), null);
    });

    it("passes a big value and binary keys unchanged", async () => {
      const big = randomBytes(1 << 20);
      await client.set(BINARY, big);
      for (let i = 0; i < READS; i++) assert.ok(big.equals(await client.getBuffer(BINARY)));
      await client.hset("binary", BINARY, BINARY);
      assert.deepEqual(await client.hgetBuffer("binary", BINARY), BINARY);
    });

    it("answers a pipeline in order, errors in their places", async () => {
      const pipeline = client.pipeline();
      for (let i = 0; i < 300; i++) pipeline.set(`p${i % 7}`, i).get(`p${i % 7}`);
      const replies = await pipeline.exec();
      replies.forEach(([error, reply], i) => {
        assert.equal(error, null);
        assert.equal(reply, i % 2 ? String((i - 1) / 2) : "OK");
      });
      const [, [error], [, last]] = await client.pipeline().set("s", 1).lpush("s", 1).get("s").exec();
      assert.match(error.message, /^WRONGTYPE Operation against a key/);
      assert.equal(last, "1");
    });

    it("runs transactions, in one write and command by command", async () => {
      assert.deepEqual(await client.multi().set("k", "v").get("k").incr("n").exec(), [
        [null, "OK"],
        [null, "v"],
        [null, 1],
      ]);
      const single = connect();
      assert.equal(await single.multi({ pipeline: false }), "OK");
      assert.equal(await single.incr("n"), "QUEUED");
      assert.deepEqual(await single.exec(), [[null, 2]]);
    });

    it("runs a watched transaction only if nobody wrote", async () => {
      const watcher = connect();
      await watcher.set("balance", 10);
      await watcher.watch("balance");
      assert.equal(await watcher.get("balance"), "10");
      await other.set("balance", 20);
      assert.equal(await watcher.multi().set("balance", 11).exec(), null);
      assert.equal(await watcher.get("balance"), "20");
      await watcher.watch("balance");
      assert.deepEqual(await watcher.multi().incrby("balance", 5).exec(), [[null, 25]]);
    });

    it("gets the messages of its channels and patterns", async () => {
      const subscriber = connect();
      assert.equal(await subscriber.subscribe("news"), 1);
      assert.equal(await subscriber.psubscribe("w*"), 2);
      const message = once(subscriber, "messageBuffer");
      assert.equal(await other.publish("news", BINARY), 1);
      assert.deepEqual(await message, [Buffer.from("news"), BINARY]);
      const matched = once(subscriber, "pmessage");
      assert.equal(await other.publish("weather", "still"), 1);
      assert.deepEqual(await matched, ["w*", "weather", "still"]);
      assert.equal(await subscriber.unsubscribe("news"), 1);
      assert.equal(await subscriber.punsubscribe("w*"), 0);
      assert.equal(await subscriber.get("absent"), null);
    });

    it("is woken from a blocking pop by another client and then reads what that wrote", async () => {
      const popper = connect();
      for (let i = 0; i < 20; i++) {
        await client.get("told");
        const popped = popper.blpop("queue", 10);
        await untilBlocked(other);
        await other.pipeline().set("told", i).rpush("queue", i).exec();
        assert.deepEqual(await popped, ["queue", String(i)]);
        assert.equal(await client.get("told"), String(i));
      }
      assert.equal(await popper.blpop("queue", 0.05), null);
    });

    it("runs scripts by text, by digest and as a command of its own", async () => {
      client.defineCommand("addTo", { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
      await client.script("FLUSH");
      assert.equal(await client.addTo("n", 5), 5);
      assert.equal(await client.addTo("n", 5), 10);
      await repeat(() => client.get("n"), "10");
      await client.eval("return redis.call('SET', 'n', 'changed')", 0);
      assert.equal(await client.get("n"), "changed");
      await assert.rejects(client.evalsha("0".repeat(40), 0), /NOSCRIPT/);
    });

    it("keeps databases apart and scans the keys of its own", async () => {
      const one = connect({ db: 1 });
      await client.set("k", "zero");
      await one.set("k", "one");
      await repeat(() => client.get("k"), "zero");
      await repeat(() => one.get("k"), "one");
      const found = [];
      for await (const keys of one.scanStream()) found.push(...keys);
      assert.deepEqual(found, ["k"]);
    });
  });
}
