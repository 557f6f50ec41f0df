"use strict";
// Starts and ends a real server in a folder of its own.

const { spawn, execFileSync } = require("child_process");
const fs = require("fs");
const os = require("os");
const path = require("path");

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "lollmsd-js-"));
process.on("exit", () => execFileSync("rm", ["-rf", folder]));

/** The file of a test model, made at its first use. */
function model(kind) {
  const file = path.join(folder, kind + ".gguf");
  if (!fs.existsSync(file)) execFileSync(process.env.LOLLMSD_MAKE_MODEL, [kind, file]);
  return file;
}

/** What the chain model says. */
function chain() {
  const told = JSON.parse(execFileSync(process.env.LOLLMSD_MAKE_MODEL, ["chain", "--expect"]));
  return (after, tokens) => {
    const { tokens: all, loops } = told[after];
    const bytes = [];
    for (let n = 0; n < (loops ? tokens : Math.min(tokens, all.length)); n += 1) bytes.push(...all[n % all.length]);
    return Buffer.from(bytes).toString();
  };
}

/** Starts a server; resolves when it listens. */
function start(kind) {
  const root = fs.mkdtempSync(path.join(folder, "root-"));
  const args = ["serve", "--root", root, "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--model", model(kind)];
  const env = Object.assign({}, process.env);
  for (const name of Object.keys(env)) if (name.startsWith("LOLLMSD_")) delete env[name];
  const child = spawn(process.env.LOLLMSD_BIN, args, { stdio: ["ignore", "pipe", "pipe"], env });
  let out = "";
  let log = "";
  child.stderr.on("data", (data) => (log += data));
  return new Promise((resolve, reject) => {
    const ended = () => reject(new Error("the server ended at its start\n" + log));
    child.once("exit", ended);
    child.stdout.on("data", (data) => {
      out += data;
      const urls = (out.match(/^listening on (.*)$/gm) || []).map((line) => line.slice("listening on ".length));
      if (urls.length < 2) return;
      child.removeListener("exit", ended);
      resolve({ urls, stop: () => stop(child) });
    });
  });
}

function stop(child) {
  return new Promise((resolve) => {
    child.once("exit", resolve);
    child.kill("SIGTERM");
  });
}

/** Runs `body` with a server that is ended whatever happens. */
async function withServer(kind, body) {
  const server = await start(kind);
  try {
    await body(server);
  } finally {
    await server.stop();
  }
}

module.exports = { chain, withServer };
