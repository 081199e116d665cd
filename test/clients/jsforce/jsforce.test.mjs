// Drives the simulated Salesforce org through jsforce. JSFORCE_ORG is what the Go
// test tells of it: url, accessToken, refreshToken, clientId, clientSecret.
import assert from "node:assert/strict";
import { test } from "node:test";
import jsforce from "jsforce";

const org = JSON.parse(process.env.JSFORCE_ORG);
const field = "Callbridge_Id__c";

function connect(tokens = {}) {
  return new jsforce.Connection({
    oauth2: { loginUrl: org.url, clientId: org.clientId, clientSecret: org.clientSecret, redirectUri: org.url },
    instanceUrl: org.url,
    accessToken: org.accessToken,
    version: "67.0",
    ...tokens,
  });
}

test("finds records, with quotes in what it looks for", async () => {
  const conn = connect();
  const made = await conn.sobject("Account").create({ Name: "O'Neill & Sons", Website: "https://oneill.example" });
  assert.equal(made.success, true);
  const found = await conn.sobject("Account").find({ Name: "O'Neill & Sons" }, "Id, Name, Website");
  assert.deepEqual(found.map((r) => r.Id), [made.id]);
  const contact = await conn.sobject("Contact").create({ LastName: "Shah", Email: "priya@oneill.example", AccountId: made.id });
  const res = await conn.query("SELECT Id, Account.Name FROM Contact WHERE Email IN ('PRIYA@oneill.example')");
  assert.equal(res.totalSize, 1);
  assert.equal(res.done, true);
  assert.equal(res.records[0].Id, contact.id);
  assert.equal(res.records[0].Account.Name, "O'Neill & Sons");
});

test("tells what is wrong with a query", async () => {
  await assert.rejects(connect().query("SELECT Nothing FROM Account"), { errorCode: "INVALID_FIELD" });
  await assert.rejects(connect().query("SELECT Id FORM Account"), { errorCode: "MALFORMED_QUERY" });
});

test("pages through a long result", async () => {
  const rows = await connect().query("SELECT Id FROM Lead", { autoFetch: true, maxFetch: 5000 });
  assert.equal(rows.totalSize, 2500);
  assert.equal(rows.records.length, 2500);
});

test("upserts many by external id, and reads each result", async () => {
  const conn = connect();
  const tasks = Array.from({ length: 200 }, (_, i) => ({ [field]: `many-${i}`, Subject: `Call ${i}`, Status: "Completed" }));
  const first = await conn.sobject("Task").upsert(tasks, field, { allOrNone: false });
  assert.equal(first.length, 200);
  assert.ok(first.every((r) => r.success && r.created && r.id));
  tasks[7].Subject = "x".repeat(256);
  const again = await conn.sobject("Task").upsert(tasks, field, { allOrNone: false });
  assert.equal(again[7].success, false);
  assert.equal(again[7].errors[0].errorCode ?? again[7].errors[0].statusCode, "STRING_TOO_LONG");
  assert.deepEqual(again[7].errors[0].fields, ["Subject"]);
  assert.ok(again.every((r, i) => i === 7 || (r.success && r.created === false && r.id === first[i].id)));
});

test("upserts one by external id", async () => {
  const conn = connect();
  const first = await conn.sobject("Task").upsert({ [field]: "one", Subject: "Call" }, field);
  assert.equal(first.success, true);
  assert.equal(first.created, true);
  const again = await conn.sobject("Task").upsert({ [field]: "one", Subject: "Corrected" }, field);
  assert.equal(again.id, first.id);
  assert.equal(again.created, false);
  const task = await conn.sobject("Task").retrieve(first.id);
  assert.equal(task.Subject, "Corrected");
});

test("is told of several records with one external id", async () => {
  const conn = connect();
  await conn.sobject("Task").create([{ Loose__c: "twin", Subject: "a" }, { Loose__c: "twin", Subject: "b" }]);
  await assert.rejects(conn.sobject("Task").upsert({ Loose__c: "twin", Subject: "c" }, "Loose__c"), (err) => {
    assert.match(`${err.errorCode ?? err.name}`, /MULTIPLE/i);
    return true;
  });
  const left = await conn.query("SELECT Subject FROM Task WHERE Loose__c = 'twin' ORDER BY Subject");
  assert.deepEqual(left.records.map((r) => r.Subject), ["a", "b"]);
});

test("updates, deletes and reads back many", async () => {
  const conn = connect();
  const made = await conn.sobject("Task").create([{ Subject: "a" }, { Subject: "b" }]);
  const ids = made.map((r) => r.id);
  const changed = await conn.sobject("Task").update(ids.map((Id) => ({ Id, Subject: "changed" })));
  assert.ok(changed.every((r) => r.success));
  const read = await conn.sobject("Task").retrieve(ids);
  assert.deepEqual(read.map((r) => r.Subject), ["changed", "changed"]);
  const gone = await conn.sobject("Task").destroy(ids);
  assert.ok(gone.every((r) => r.success));
  await assert.rejects(conn.sobject("Task").retrieve(ids[0]), { errorCode: "ENTITY_IS_DELETED" });
  const bin = await conn.query(`SELECT Id, IsDeleted FROM Task WHERE Id = '${ids[0]}'`, { scanAll: true });
  assert.equal(bin.records[0].IsDeleted, true);
});

test("describes the task", async () => {
  const d = await connect().sobject("Task").describe();
  const callType = d.fields.find((f) => f.name === "CallType");
  assert.deepEqual(callType.picklistValues.map((v) => v.value), ["Internal", "Inbound", "Outbound"]);
  assert.equal(d.fields.find((f) => f.name === field).externalId, true);
});

test("reads the allowance", async () => {
  const conn = connect();
  const limits = await conn.request("/services/data/v67.0/limits");
  assert.ok(limits.DailyApiRequests.Max > limits.DailyApiRequests.Remaining);
  assert.equal(conn.limitInfo.apiUsage.limit, limits.DailyApiRequests.Max);
  assert.equal(conn.limitInfo.apiUsage.used, limits.DailyApiRequests.Max - limits.DailyApiRequests.Remaining);
});

test("knows who it is", async () => {
  const conn = connect();
  const me = await conn.request({ method: "GET", url: `${org.url}/services/oauth2/userinfo` });
  assert.equal(me.organization_id, org.orgId);
});

test("survives a 401 by one refresh, and replays the call", async () => {
  const conn = connect({ accessToken: "expired", refreshToken: org.refreshToken });
  let refreshed = 0;
  conn.on("refresh", (token, res) => {
    refreshed++;
    assert.equal(token, conn.accessToken);
    assert.equal(res.instance_url, org.url);
    assert.notEqual(res.refresh_token, org.refreshToken);
  });
  const answers = await Promise.all([
    conn.sobject("Task").upsert({ [field]: "after-refresh", Subject: "Call" }, field),
    conn.query("SELECT Id FROM Account LIMIT 1"),
  ]);
  assert.equal(answers[0].success, true);
  assert.equal(refreshed, 1);
  const found = await conn.query(`SELECT Id FROM Task WHERE ${field} = 'after-refresh'`);
  assert.equal(found.totalSize, 1);
  // The refresh token that was used comes back: the whole grant dies.
  const stale = connect({ accessToken: "expired", refreshToken: org.refreshToken });
  await assert.rejects(stale.query("SELECT Id FROM Account LIMIT 1"));
  await assert.rejects(conn.query("SELECT Id FROM Account LIMIT 1"));
});
