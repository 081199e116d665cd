// Signs or verifies messages with the JavaScript library. Reads a JSON list of
// {"do":"sign"|"verify","secret","id","timestamp","body","signature"} on
// standard input and writes one answer for each: the signature, or true or
// false.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The folder that holds node_modules is the working directory.
const require = createRequire(process.cwd() + "/");
const { Webhook } = require("standardwebhooks");

const answers = JSON.parse(readFileSync(0, "utf8")).map((m) => {
  const webhook = new Webhook(m.secret);
  if (m.do === "sign") {
    return webhook.sign(m.id, new Date(m.timestamp * 1000), m.body);
  }
  try {
    webhook.verify(m.body, {
      "webhook-id": m.id,
      "webhook-timestamp": String(m.timestamp),
      "webhook-signature": m.signature,
    });
    return true;
  } catch (err) {
    if (err instanceof SyntaxError) {
      return true; // verified; the library then parses the body as JSON
    }
    return false;
  }
});
process.stdout.write(JSON.stringify(answers));
