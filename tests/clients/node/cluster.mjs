// What an application does with the cluster clients of node-redis and ioredis: a daemon before a Redis Cluster shows itself as
// the one node that serves every slot. Run by sessions.py, which names the port in SESSION_PORT.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { Cluster } from "ioredis";
import { createCluster } from "redis";

const port = Number(process.env.SESSION_PORT);
// Enough that a cache lets the read pass, fills, and answers.
const READS = 4;
const KEYS = Array.from({ length: 30 }, (_, number) => `key:${number}`);

describe("ioredis Cluster", { timeout: 60_000 }, () => {
  let client;
  before(() => {
    client = new Cluster([{ host: "127.0.0.1", port }]);
    client.on("error", (error) => console.log("# client error:", error.message));
  });
  after(async () => {
    await Promise.all(client.nodes("master").map((node) => node.flushall()));
    client.disconnect();
  });

  it("finds a node for every slot", async () => {
    const slots = await client.cluster("SLOTS");
    assert.equal(slots.reduce((sum, [first, last]) => sum + last - first + 1, 0), 16384);
    assert.match(await client.cluster("INFO"), /^cluster_state:ok\r$/m);
    assert.equal(await client.cluster("KEYSLOT", "123456789"), 0x31c3);
  });

  it("writes and reads keys of all slots", async () => {
    for (const key of KEYS) {
      assert.equal(await client.set(key, key), "OK");
      for (let i = 0; i < READS; i++) assert.equal(await client.get(key), key);
    }
  });

  it("answers a pipeline and a transaction in one slot", async () => {
    const pipeline = client.pipeline();
    for (let i = 0; i < 50; i++) pipeline.set(`{p}${i % 7}`, i).get(`{p}${i % 7}`);
    const replies = await pipeline.exec();
    replies.forEach(([error, reply], i) => {
      assert.equal(error, null);
      assert.equal(reply, i % 2 ? String((i - 1) / 2) : "OK");
    });
    assert.deepEqual(await client.multi().set("{t}k", "v").get("{t}k").incr("{t}n").exec(), [
      [null, "OK"],
      [null, "v"],
      [null, 1],
    ]);
  });

  it("gets the messages of its channels", async () => {
    const subscriber = new Cluster([{ host: "127.0.0.1", port }]);
    await subscriber.subscribe("news");
    const message = once(subscriber, "message");
    await client.publish("news", "it rains");
    assert.deepEqual(await message, ["news", "it rains"]);
    subscriber.disconnect();
  });
});

for (const [name, options] of [["RESP2", { RESP: 2 }], ["RESP3", { RESP: 3 }]]) {
  describe(`node-redis createCluster ${name}`, { timeout: 60_000 }, () => {
    let client;
    before(async () => {
      client = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }], defaults: {}, ...options });
      client.on("error", (error) => console.log("# client error:", error.message));
      await client.connect();
    });
    after(async () => {
      await Promise.all(client.masters.map(async (master) => (await client.nodeClient(master)).flushAll()));
      client.destroy();
    });

    it("writes and reads keys of all slots", async () => {
      for (const key of KEYS) {
        assert.equal(await client.set(key, key), "OK");
        for (let i = 0; i < READS; i++) assert.equal(await client.get(key), key);
      }
    });

    it("answers what is sent in one turn, and a transaction in one slot", async () => {
      const replies = await Promise.all(KEYS.flatMap((key, i) => [client.set(key, String(i)), client.get(key)]));
      replies.forEach((reply, i) => assert.equal(reply, i % 2 ? String((i - 1) / 2) : "OK"));
      assert.deepEqual(await client.multi().set("{t}k", "v").get("{t}k").incr("{t}n").exec(), ["OK", "v", 1]);
    });

    it("gets the messages of its channels and shard channels", async () => {
      const told = new Promise((tell) => client.subscribe("news", tell).then(() => client.publish("news", "it rains")));
      assert.equal(await told, "it rains");
      await client.unsubscribe("news");
      for (const channel of KEYS.slice(0, 4)) {
        const heard = new Promise((tell) =>
          client.sSubscribe(channel, tell).then(() => client.sPublish(channel, "hello")),
        );
        assert.equal(await heard, "hello");
        await client.sUnsubscribe(channel);
      }
    });
  });
}
