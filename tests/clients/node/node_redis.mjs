// node-redis's session: what an application does with the client's default settings, with the protocol that the client chooses,
// RESP2 and RESP3. Run by sessions.py, which names the port in SESSION_PORT.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, beforeEach, describe, it } from "node:test";
import { createClient, ErrorReply, RESP_TYPES, WatchError } from "redis";

const url = `redis://localhost:${process.env.SESSION_PORT}`;
const BINARY = Buffer.from([...Array(256).keys(), 13, 10, 36, 45, 49, 13, 10, 0]);
// Enough that a cache lets the read pass, fills, and answers.
const READS = 4;

for (const [name, options] of [["default", {}], ["RESP2", { RESP: 2 }], ["RESP3", { RESP: 3 }]]) {
  describe(`node-redis ${name}`, { timeout: 60_000 }, () => {
    const opened = [];
    const connect = async (more = {}) => {
      const client = createClient({ url, ...options, ...more });
      client.on("error", (error) => console.log("# client error:", error.message));
      opened.push(client);
      return client.connect();
    };
    const repeat = async (read, expected) => {
      for (let i = 0; i < READS; i++) assert.deepEqual(await read(), expected);
    };
    const untilBlocked = async (client) => {
      while (!/^blocked_clients:1\r$/m.test(await client.info("clients")));
    };

    let client, other;
    beforeEach(async () => {
      client ??= await connect();
      other ??= await connect();
      await client.flushAll();
    });
    after(() => opened.forEach((each) => each.isOpen && each.destroy()));

    it("answers every read the same however often it is sent", async () => {
      await client.set("string", "value");
      await client.hSet("hash", { a: "1", b: "2" });
      await client.rPush("list", ["x", "y"]);
      await client.sAdd("set", "m");
      await client.zAdd("zset", [{ score: 0.5, value: "half" }, { score: 1, value: "one" }]);
      await repeat(() => client.get("string"), "value");
      await repeat(() => client.get("absent"), null);
      await repeat(() => client.mGet(["string", "absent"]), ["value", null]);
      await repeat(() => client.exists(["string", "absent"]), 1);
      await repeat(async () => ({ ...(await client.hGetAll("hash")) }), { a: "1", b: "2" });
      await repeat(() => client.lRange("list", 0, -1), ["x", "y"]);
      await repeat(async () => [...(await client.sMembers("set"))], ["m"]);
      await repeat(() => client.zScore("zset", "half"), 0.5);
      await repeat(() => client.zScore("zset", "absent"), null);
      await repeat(() => client.zRangeWithScores("zset", 0, -1), [
        { score: 0.5, value: "half" },
        { score: 1, value: "one" },
      ]);
      await repeat(() => client.type("zset"), "zset");
    });

    it("sees a write of another client at the next read", async () => {
      for (let i = 0; i < 200; i++) {
        await other.set("shared", String(i));
        await repeat(() => client.get("shared"), String(i));
      }
      await other.del("shared");
      assert.equal(await client.get("shared"), null);
    });

    it("passes a big value and binary keys unchanged", async () => {
      const big = randomBytes(1 << 20);
      const raw = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
      await client.set(BINARY, big);
      for (let i = 0; i < READS; i++) assert.ok(big.equals(await raw.get(BINARY)));
      await client.hSet("binary", BINARY, BINARY);
      assert.deepEqual(await raw.hGet("binary", BINARY), BINARY);
    });

    it("answers what is sent in one turn in order", async () => {
      const sent = [];
      for (let i = 0; i < 300; i++) sent.push(client.set(`p${i % 7}`, String(i)), client.get(`p${i % 7}`));
      const replies = await Promise.all(sent);
      replies.forEach((reply, i) => assert.equal(reply, i % 2 ? String((i - 1) / 2) : "OK"));
    });

    it("runs a transaction and a pipeline", async () => {
      assert.deepEqual(await client.multi().set("k", "v").get("k").incr("n").exec(), ["OK", "v", 1]);
      assert.deepEqual(await client.multi().incr("n").incr("n").execAsPipeline(), [2, 3]);
      await client.set("text", "x");
      await assert.rejects(client.multi().incr("n").incr("text").exec());
      assert.equal(await client.get("n"), "4");
    });

    it("runs a watched transaction only if nobody wrote", async () => {
      const watcher = await connect();
      await watcher.set("balance", "10");
      await watcher.watch("balance");
      assert.equal(await watcher.get("balance"), "10");
      await other.set("balance", "20");
      await assert.rejects(watcher.multi().set("balance", "11").exec(), WatchError);
      assert.equal(await watcher.get("balance"), "20");
      await watcher.watch("balance");
      assert.deepEqual(await watcher.multi().incrBy("balance", 5).exec(), [25]);
    });

    it("gets the messages of its channels and patterns", async () => {
      const subscriber = await connect();
      const received = new Promise((resolve) => {
        const messages = [];
        const take = (message, channel) => {
          messages.push([channel, message]);
          if (messages.length === 2) resolve(messages);
        };
        Promise.all([subscriber.subscribe("news", take), subscriber.pSubscribe("w*", take)]).then(async () => {
          assert.equal(await other.publish("news", "it rains"), 1);
          assert.equal(await other.publish("weather", "still"), 1);
        });
      });
      assert.deepEqual(await received, [["news", "it rains"], ["weather", "still"]]);
      await subscriber.unsubscribe("news");
      await subscriber.pUnsubscribe("w*");
      // A Buffer in RESP2, where the client answers for a subscriber.
      assert.equal(String(await subscriber.ping()), "PONG");
    });

    it("is woken from a blocking pop by another client and then reads what that wrote", async () => {
      const popper = await connect();
      for (let i = 0; i < 20; i++) {
        await client.get("told");
        const popped = popper.blPop("queue", 10);
        await untilBlocked(other);
        await Promise.all([other.set("told", String(i)), other.rPush("queue", String(i))]);
        assert.deepEqual({ ...(await popped) }, { key: "queue", element: String(i) });
        assert.equal(await client.get("told"), String(i));
      }
      assert.equal(await popper.blPop("queue", 0.05), null);
    });

    it("runs scripts by text and by digest", async () => {
      const text = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
      assert.equal(await client.eval(text, { keys: ["n"], arguments: ["5"] }), 5);
      const digest = await client.scriptLoad(text);
      assert.equal(await client.evalSha(digest, { keys: ["n"], arguments: ["5"] }), 10);
      await repeat(() => client.get("n"), "10");
      await client.eval("return redis.call('SET', 'n', 'changed')");
      assert.equal(await client.get("n"), "changed");
      await assert.rejects(client.evalSha("0".repeat(40)), /^(?:Error|ErrorReply|SimpleError): NOSCRIPT/);
    });

    it("keeps databases apart and has Redis's errors", async () => {
      const one = await connect({ database: 1 });
      await client.set("k", "zero");
      await one.set("k", "one");
      await repeat(() => client.get("k"), "zero");
      await repeat(() => one.get("k"), "one");
      await client.set("text", "x");
      await assert.rejects(client.lPush("text", "y"), (error) => {
        assert.ok(error instanceof ErrorReply);
        return error.message.startsWith("WRONGTYPE Operation against a key");
      });
    });
  });
}
