"use strict";
// The core events through socket.io-client 4 and 2: Engine.IO 4 and 3, WebSocket, polling, upgrade.

const assert = require("assert");
const { Client, WAYS } = require("./client.js");
const { chain, withServer } = require("./server.js");

// Event, good payload, reply, keys of its success, name of its failure.
const EVENTS = [
  ["list_available_bindings", {}, "bindings_list", ["success", "bindings"]],
  ["list_available_personalities", {}, "personalities_list", ["personalities"]],
  ["list_available_models", {}, "available_models_list", ["success", "available_models"]],
  ["list_available_personalities_categories", {}, "available_personalities_categories_list", ["success"]],
  ["list_available_personalities_names", { category: "generic" }, "list_available_personalities_names_list", ["success"]],
  ["select_binding", { binding_name: "llama_cpp" }, "select_binding", ["success", "binding_name"]],
  ["add_personality", { path: "generic/lollms" }, "personality_added", ["success", "name", "id"], "personality_add_failed"],
  ["activate_personality", { id: 0 }, "activate_personality", ["success", "name", "id"], "personality_add_failed"],
  ["list_active_personalities", {}, "active_personalities_list", ["success", "personalities"]],
  ["tokenize", { prompt: "hi" }, "tokenized", ["tokens"]],
  ["detokenize", { prompt: [300, 301] }, "detokenized", ["text"]],
  ["generate_text", { prompt: "A", n_predicts: 30 }, "text_generated", ["text"], "generation_error"],
  ["cancel_generation", {}, "generation_canceled", ["message"]],
  ["cancel_text_generation", {}, "generation_canceled", ["message"]],
];

/** Runs `body` with a client of every kind on both ports. */
async function everyWay(server, body) {
  for (const url of server.urls) {
    for (const way of WAYS) {
      const client = await Client.connect(url, way);
      try {
        await body(client, way);
      } catch (error) {
        error.message += " [" + url + " " + JSON.stringify(way) + "]";
        error.stack = error.message + "\n" + error.stack;
        throw error;
      } finally {
        client.close();
      }
    }
  }
}

test("every event answers with no argument, null, {} and two arguments", () =>
  withServer("chain", (server) =>
    everyWay(server, async (client) => {
      for (const [name, payload, reply, keys, failure] of EVENTS) {
        const [got, data] = await client.request(name, [payload], [reply, failure]);
        assert.strictEqual(got, reply, name + " " + JSON.stringify(data));
        for (const key of keys) assert.ok(key in data, name + ": no " + key);
        for (const args of [[], [null], [{}], [payload, "another"], [7], [[]], ["text"]]) {
          const [, said] = await client.request(name, args, [reply, failure]);
          assert.strictEqual(typeof said, "object", name);
        }
      }
    })
  ));

test("an acknowledgement is empty and comes besides the reply", () =>
  withServer("chain", (server) =>
    everyWay(server, async (client) => {
      for (const [name, payload, reply] of EVENTS) {
        client.read = client.heard.length;
        assert.deepStrictEqual(await client.ask(name, payload), [], name);
        await client.wait(reply);
      }
    })
  ));

test("pieces joined equal the final text byte for byte", () =>
  withServer("chain", async (server) => {
    const says = chain();
    await everyWay(server, async (client) => {
      for (const [after, tokens] of [["A", 100], ["U", 61], ["L", 200], ["N", 400], ["E", 5]]) {
        const made = await client.generate("say " + after, { n_predicts: tokens });
        assert.strictEqual(made.end, "text_generated", JSON.stringify(made.data));
        assert.strictEqual(made.text, says(after, tokens));
        assert.strictEqual(made.joined, made.text);
      }
    });
  }));

test("two clients interleaved hear only their own", () =>
  withServer("chain", async (server) => {
    const says = chain();
    const clients = [];
    for (const way of WAYS) clients.push(await Client.connect(server.urls[0], way));
    const starts = clients.map((client, n) => client.begin(n % 2 ? "L" : "Z", { n_predicts: 200 + n }));
    for (let n = 0; n < clients.length; n += 1) {
      const made = await clients[n].finish(starts[n]);
      assert.strictEqual(made.text, says(n % 2 ? "L" : "Z", 200 + n));
      assert.strictEqual(made.joined, made.text);
    }
    clients.forEach((client) => client.close());
  }));

test("a cancel with either name ends a generation once", () =>
  withServer("chain", (server) =>
    everyWay(server, async (client) => {
      for (const [name, ...args] of [["cancel_generation"], ["cancel_generation", {}], ["cancel_text_generation", {}]]) {
        const start = client.begin("L", { n_predicts: 3900 });
        await client.wait("text_chunk");
        client.emit(name, ...args);
        await client.wait("generation_canceled");
        const made = await client.generate("A", { n_predicts: 30 });
        assert.strictEqual(made.end, "text_generated");
        const ends = client.heard.slice(start).map(([event]) => event);
        assert.strictEqual(ends.filter((event) => event === "text_generated").length, 1);
        assert.strictEqual(ends.filter((event) => event === "generation_canceled").length, 1);
      }
    })
  ));

test("a failure is told and the next request works", () =>
  withServer("chain", (server) =>
    everyWay(server, async (client) => {
      const long = await client.generate("x".repeat(20000), { n_predicts: 5 });
      assert.strictEqual(long.end, "generation_error");
      assert.ok(/tokens/.test(long.data.error), long.data.error);
      const made = await client.generate("A", { n_predicts: 30 });
      assert.strictEqual(made.end, "text_generated");
    })
  ));
