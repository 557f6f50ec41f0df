"use strict";
// A recording client over socket.io-client 4 (Engine.IO 4) or 2 (Engine.IO 3).

const versions = { 4: require("socket.io-client"), 2: require("socket.io-client-2") };

const ENDS = ["text_generated", "generation_canceled", "generation_error", "buzzy"];

/** Every way to connect that the tests go through. */
const WAYS = [];
for (const version of [4, 2]) {
  for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) WAYS.push({ version, transports });
}

class Client {
  constructor(socket) {
    this.socket = socket;
    this.heard = [];
    this.read = 0;
    this.waiting = null;
    // Works in both versions: every event of the server passes here.
    const before = socket.onevent;
    socket.onevent = (packet) => {
      this.heard.push(packet.data);
      if (this.waiting) this.waiting();
      before.call(socket, packet);
    };
  }

  static connect(url, way) {
    const io = versions[way.version];
    const socket = io(url, { transports: way.transports, reconnection: false, forceNew: true });
    return new Promise((resolve, reject) => {
      const failed = (error) => reject(error instanceof Error ? error : new Error(String(error)));
      socket.on("connect", () => resolve(client));
      socket.on("connect_error", failed);
      socket.on("error", failed);
      const client = new Client(socket);
    });
  }

  emit(name, ...args) {
    this.socket.emit(name, ...args);
  }

  /** Sends an event and resolves with its acknowledgement's arguments. */
  ask(name, ...args) {
    return within(10, "an acknowledgement of " + name, (done) => this.socket.emit(name, ...args, (...got) => done(got)));
  }

  /** The next unread event with one of these names, as [name, data]. */
  async wait(...names) {
    const end = Date.now() + 30000;
    for (;;) {
      while (this.read < this.heard.length) {
        const event = this.heard[this.read++];
        if (names.includes(event[0])) return event;
      }
      const left = end - Date.now();
      const last = this.heard.slice(-6).map((event) => event[0]);
      if (left <= 0) throw new Error("no " + names + "; the last events were " + last);
      await new Promise((resolve) => {
        this.waiting = resolve;
        setTimeout(resolve, left);
      });
    }
  }

  async request(name, args, replies) {
    this.read = this.heard.length;
    this.emit(name, ...args);
    return this.wait(...replies);
  }

  /** Starts a completion; `finish` reads it. */
  begin(prompt, fields) {
    this.read = this.heard.length;
    const start = this.read;
    this.emit("generate_text", Object.assign({ prompt, personality: -1 }, fields));
    return start;
  }

  async finish(start) {
    const [end, data] = await this.wait(...ENDS);
    const chunks = this.heard.slice(start, this.read).filter(([name]) => name === "text_chunk");
    return { end, data, text: data.text, joined: chunks.map(([, chunk]) => chunk.chunk).join("") };
  }

  generate(prompt, fields) {
    return this.finish(this.begin(prompt, fields));
  }

  close() {
    this.socket.close();
  }
}

function within(seconds, what, begin) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no " + what)), seconds * 1000);
    begin((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}

module.exports = { Client, WAYS };
