// Vapi's TypeScript SDK, unmodified, against Offhook: what an integration does in a day.
//
// Reads BASE_URL, API_KEY and CALLEE (host:port of a SIP peer that answers); prints what it saw.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/package.json`);
const { VapiClient, VapiError } = require("@vapi-ai/server-sdk");

const { BASE_URL: base, API_KEY: key, CALLEE: callee } = process.env;
const [host, port] = callee.split(":");
const vapi = new VapiClient({ token: key, baseUrl: base });
const authorization = { Authorization: `Bearer ${key}` };

// The SDK has no resource for credentials.
const made = await fetch(`${base}/credential`, {
    method: "POST",
    headers: { ...authorization, "Content-Type": "application/json" },
    body: JSON.stringify({
        provider: "byo-sip-trunk",
        name: "peer",
        gateways: [{ ip: host, port: Number(port) }],
        outboundAuthenticationPlan: { authUsername: "u", authPassword: "never-shown" },
    }),
});
assert.equal(made.status, 201);
const trunk = await made.json();
assert.ok(!JSON.stringify(trunk).includes("never-shown"));

const assistant = await vapi.assistants.create({
    name: "Front desk",
    firstMessage: "Hello, this is the front desk of the garden hotel calling.",
    model: {
        provider: "openai",
        model: "gpt-4o",
        messages: [{ role: "system", content: "Answer with one short sentence." }],
    },
    voice: { provider: "11labs", voiceId: "sarah" },
    transcriber: { provider: "deepgram", model: "nova-2", language: "en" },
    startSpeakingPlan: { waitSeconds: 0.5 },
    stopSpeakingPlan: { numWords: 1 },
    maxDurationSeconds: 10,
    metadata: { ours: true },
});
assert.deepEqual(assistant.metadata, { ours: true });
const read = await vapi.assistants.get({ id: assistant.id });
assert.equal(read.voice.provider, "11labs");
assert.ok(read.warnings.some((warning) => warning.field === "model.provider"));
const assistants = await vapi.assistants.list({ limit: 10 });
assert.ok(assistants.some((one) => one.id === assistant.id));

const number = await vapi.phoneNumbers.create({
    provider: "byo-phone-number",
    number: "+49305550101",
    credentialId: trunk.id,
});
const assigned = await vapi.phoneNumbers.update({
    id: number.id,
    body: { provider: "byo-phone-number", assistantId: assistant.id },
});
assert.equal(assigned.assistantId, assistant.id);

// The number's assistant talks.
const call = await vapi.calls.create({
    phoneNumberId: number.id,
    customer: { number: "+49301234567" },
    assistantOverrides: { firstMessage: "Hello {{guest}}, your room is ready.", variableValues: { guest: "Ann" } },
});
let ended;
for (let tries = 0; tries < 120; tries += 1) {
    ended = await vapi.calls.get({ id: call.id });
    if (ended.status === "ended") break;
    await new Promise((done) => setTimeout(done, 500));
}
assert.equal(ended.status, "ended");
assert.equal(ended.type, "outboundPhoneCall");
assert.equal(ended.messages[0].role, "bot");
assert.ok(ended.artifact.transcript.startsWith("AI: Hello Ann"), ended.artifact.transcript);
const range = await fetch(ended.artifact.stereoRecordingUrl, {
    headers: { ...authorization, Range: "bytes=0-43" },
});
assert.equal(range.status, 206);
assert.equal((await range.arrayBuffer()).byteLength, 44);
const listed = await vapi.calls.list({ phoneNumberId: number.id });
assert.deepEqual(listed.map((one) => one.id), [call.id]);
assert.equal((await vapi.calls.update({ id: call.id, name: "Renamed" })).name, "Renamed");
await vapi.calls.delete({ id: call.id });
await assert.rejects(vapi.calls.get({ id: call.id }), (gone) => gone instanceof VapiError && gone.statusCode === 404);
const changed = await vapi.assistants.update({ id: assistant.id, firstMessage: "Good day." });
assert.equal(changed.firstMessage, "Good day.");
await vapi.phoneNumbers.delete({ id: number.id });
await vapi.assistants.delete({ id: assistant.id });
console.log(JSON.stringify({ endedReason: ended.endedReason, said: ended.artifact.transcript }));
