// The main flow with the `openai` package of npm: LUTHIER_URL and LUTHIER_KEY say where. Each step is told on a line `ok ...`.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const BASE = "gpt-4o-mini-2024-07-18";
const client = new OpenAI({ baseURL: process.env.LUTHIER_URL, apiKey: process.env.LUTHIER_KEY, timeout: 120_000, maxRetries: 2 });
const told = (step) => console.log(`ok ${step}`);
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function rows() {
  const asked = [["invoice", "billing"], ["refund", "billing"], ["parcel", "shipping"], ["courier", "shipping"]];
  return Array.from({ length: 24 }, (_, number) => {
    const [word, queue] = asked[number % asked.length];
    const messages = [{ role: "user", content: `Look at ${word} ${number}.` }, { role: "assistant", content: queue }];
    return JSON.stringify({ messages }) + "\n";
  }).join("");
}

async function tuned() {
  const file = await client.files.create({ file: await toFile(Buffer.from(rows()), "train.jsonl"), purpose: "fine-tune" });
  assert.equal(await (await client.files.content(file.id)).text(), rows());
  told("a file goes up and comes back");
  let job = await client.fineTuning.jobs.create({
    model: BASE, training_file: file.id, suffix: "node", seed: 1,
    method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 1, batch_size: 12 } } },
  });
  told("a job is created");
  while (job.finished_at === null) {
    await pause(500);
    job = await client.fineTuning.jobs.retrieve(job.id);
  }
  assert.equal(job.status, "succeeded", JSON.stringify(job));
  told("a job succeeds");
  const said = [];
  for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 2 })) said.push(event.message);
  assert.ok(said.length > 4 && said.some((text) => text.includes("training loss")), said.join());
  told("events come page by page");
  const checkpoints = await client.fineTuning.jobs.checkpoints.list(job.id);
  assert.deepEqual(checkpoints.data.map((one) => one.step_number), [2]);
  told("checkpoints are listed");
  const table = (await (await client.files.content(job.result_files[0])).text()).trim().split("\n");
  assert.equal(table.length, 3);
  told("the result file has a line a step");
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes(job.fine_tuned_model));
  told("models are listed");
  return job.fine_tuned_model;
}

async function chat(model) {
  const asked = { model, messages: [{ role: "user", content: "Look at refund 1." }], max_tokens: 8, temperature: 0 };
  const whole = await client.chat.completions.create(asked);
  assert.equal(whole.model, model);
  told("the tuned model answers");
  let text = "";
  for await (const piece of await client.chat.completions.create({ ...asked, stream: true })) text += piece.choices[0]?.delta?.content ?? "";
  assert.equal(text, whole.choices[0].message.content);
  told("the same answer comes in a stream");
}

async function batch(model) {
  const body = { model, messages: [{ role: "user", content: "Look at parcel 2." }], max_tokens: 4 };
  const line = { custom_id: "r0", method: "POST", url: "/v1/chat/completions", body };
  const file = await client.files.create({ file: await toFile(Buffer.from(JSON.stringify(line) + "\n"), "b.jsonl"), purpose: "batch" });
  let made = await client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" });
  while (!["completed", "failed", "expired", "cancelled"].includes(made.status)) {
    await pause(200);
    made = await client.batches.retrieve(made.id);
  }
  assert.deepEqual(made.request_counts, { total: 1, completed: 1, failed: 0 });
  const answer = JSON.parse(await (await client.files.content(made.output_file_id)).text());
  assert.equal(answer.custom_id, "r0");
  told("a batch is answered");
}

async function errors() {
  await assert.rejects(client.fineTuning.jobs.retrieve("ftjob-none"), OpenAI.NotFoundError);
  await assert.rejects(client.fineTuning.jobs.create({ model: "no-such", training_file: "file-none" }), OpenAI.BadRequestError);
  await assert.rejects(client.fineTuning.jobs.pause("ftjob-none"), OpenAI.BadRequestError);
  await assert.rejects(client.withOptions({ apiKey: "sk-wrong" }).models.list(), OpenAI.AuthenticationError);
  told("errors are the client's own classes");
}

const model = await tuned();
await chat(model);
await batch(model);
await errors();
assert.equal((await client.models.delete(model)).deleted, true);
told("a model is deleted");
