// Slack's own client against the simulated workspace. slackweb_test.go starts
// the workspaces and says where they are.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ErrorCode, WebClient } from '@slack/web-api';

const workspace = JSON.parse(process.env.SLACKWEB_WORKSPACE); // without limits
const paced = JSON.parse(process.env.SLACKWEB_PACED); // one message an hour and channel

const quiet = { debug() {}, info() {}, warn() {}, error() {}, setLevel() {}, getLevel: () => 'error', setName() {} };

function client(ws, options = {}) {
  return new WebClient(ws.token, { slackApiUrl: ws.url, logger: quiet, retryConfig: { retries: 0 }, ...options });
}

const channel = 'C0DEALS01';

test('auth.test says whose token it is', async () => {
  const who = await client(workspace).auth.test();
  assert.equal(who.ok, true);
  assert.equal(who.team, 'Acme');
  assert.ok(who.response_metadata.scopes.includes('chat:write'));
});

test('a message is posted, corrected and deleted', async () => {
  const web = client(workspace);
  const posted = await web.chat.postMessage({
    channel,
    text: 'New call shared',
    unfurl_links: false,
    blocks: [
      { type: 'header', text: { type: 'plain_text', text: 'Priya Shah · Northwind' } },
      { type: 'section', text: { type: 'mrkdwn', text: '*Gist*' } },
    ],
    metadata: { event_type: 'callbridge_copy', event_payload: { key: 'k', revision: 1 } },
  });
  assert.match(posted.ts, /^\d+\.\d{6}$/);
  assert.equal(posted.channel, channel);
  assert.equal(posted.message.blocks.length, 2);

  const updated = await web.chat.update({ channel, ts: posted.ts, text: 'A shared call was updated' });
  assert.equal(updated.ts, posted.ts);

  const history = await web.conversations.history({ channel, include_all_metadata: true, limit: 1 });
  assert.equal(history.messages[0].text, 'A shared call was updated');
  assert.equal(history.messages[0].metadata.event_payload.key, 'k');
  assert.ok(history.messages[0].edited);

  assert.equal((await web.chat.delete({ channel, ts: posted.ts })).ok, true);
  await assert.rejects(web.chat.delete({ channel, ts: posted.ts }), (e) => e.data.error === 'message_not_found');
});

test('a refusal is an error with its code', async () => {
  await assert.rejects(client(workspace).chat.postMessage({ channel: 'C0NOTHERE', text: 'x' }), (e) => {
    assert.equal(e.code, ErrorCode.PlatformError);
    assert.equal(e.data.error, 'channel_not_found');
    return true;
  });
  await assert.rejects(
    client(workspace).chat.postMessage({
      channel,
      text: 'x',
      blocks: [{ type: 'section', text: { type: 'mrkdwn', text: 'x'.repeat(3001) } }],
    }),
    (e) => e.data.error === 'invalid_blocks' && e.data.response_metadata.messages.length === 1,
  );
  await assert.rejects(client({ ...workspace, token: 'xoxb-wrong' }).auth.test(), (e) => e.data.error === 'invalid_auth');
});

test('a rate limit is told, and can be waited for', async () => {
  const web = client(paced, { rejectRateLimitedCalls: true });
  await web.chat.postMessage({ channel, text: 'first' });
  await assert.rejects(web.chat.postMessage({ channel, text: 'second' }), (e) => {
    assert.equal(e.code, ErrorCode.RateLimitedError);
    assert.ok(e.retryAfter > 3500 && e.retryAfter <= 3600);
    return true;
  });

  let told;
  const patient = client(paced, { retryConfig: { retries: 0 } });
  patient.on('rate_limited', (seconds) => { told = seconds; });
  const waiting = patient.chat.postMessage({ channel, text: 'third' });
  waiting.catch(() => {}); // it waits for an hour; the process ends before
  while (told === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.ok(told > 3500);
});

test('lists are read page by page', async () => {
  const web = client(workspace);
  const names = [];
  let pages = 0;
  for await (const page of web.paginate('users.list', { limit: 2 })) {
    pages += 1;
    names.push(...page.members.map((m) => m.name));
  }
  assert.ok(pages >= 2);
  assert.ok(names.includes('dana') && names.includes('callbridge'));
  assert.equal(new Set(names).size, names.length);

  const { channels } = await web.conversations.list({ types: 'public_channel,private_channel' });
  assert.ok(channels.find((c) => c.name === 'ext-northwind').is_ext_shared);
});
