"use strict";
// Runs the JavaScript client tests: node tests/clients/js/run.js [PART OF A NAME]
// The last line says how many passed and failed. Needs nothing newer than Node 12.

const fs = require("fs");
const path = require("path");

const tests = [];
global.test = (name, body) => tests.push({ name, body });

async function main() {
  for (const variable of ["LOLLMSD_BIN", "LOLLMSD_MAKE_MODEL"]) {
    if (!process.env[variable]) throw new Error(variable + " is not set; run tools/test js");
  }
  for (const file of fs.readdirSync(__dirname).sort()) {
    if (/^test_.*\.js$/.test(file)) require(path.join(__dirname, file));
  }
  const wanted = process.argv[2] || "";
  let passed = 0;
  let failed = 0;
  for (const { name, body } of tests.filter((one) => one.name.includes(wanted))) {
    const began = Date.now();
    try {
      await body();
      passed += 1;
      console.log("ok      %s (%d ms)", name, Date.now() - began);
    } catch (error) {
      failed += 1;
      console.log("FAILED  %s\n%s", name, error.stack);
    }
  }
  console.log("%d passed, %d failed", passed, failed);
  process.exit(failed || !passed ? 1 : 0);
}

main().catch((error) => {
  console.log(error.stack);
  process.exit(1);
});
