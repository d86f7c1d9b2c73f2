// The page keeps the key in this variable alone: it is gone with the tab.
let credential = "";
let socket = null;
let pipeline = null;
let shownRun = null;
let lastSeq = 0;
let refreshing = null;
let pause = 1000;

const at = (id) => document.getElementById(id);

// Every text goes through textContent: nothing that a pipeline is called is ever read as HTML.
function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function say(text) {
  at("message").hidden = !text;
  at("message").textContent = text ?? "";
}

// A token has three parts between dots; everything else is a key.
function headers() {
  const token = credential.split(".").length === 3 && !credential.startsWith("tqf_");
  return token ? { Authorization: `Bearer ${credential}` } : { "X-API-Key": credential };
}

async function call(path, options = {}) {
  const response = await fetch(path, {
    ...options,
    headers: { Accept: "application/json", ...headers(), ...(options.body ? { "Content-Type": "application/json" } : {}), ...options.headers },
  });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const error = new Error(problem.detail || problem.title || `the server answered ${response.status}`);
  error.problem = problem;
  error.status = response.status;
  throw error;
}

const get = async (path) => (await call(path)).json();
const took = (ms) => (ms === null || ms === undefined ? "" : ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`);
const between = (from, to) => (from && to ? took(new Date(to) - new Date(from)) : "");
const clock = (time) => (time ? new Date(time).toLocaleString() : "");
const status = (name) => element("span", name, { class: `status ${name}` });

at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  credential = at("key").value.trim();
  try {
    const me = await get("/me");
    at("who").dataset.name = at("who").textContent = `Connected as ${me.id ?? "guest"}`;
    at("key").value = "";
    say("");
    document.querySelector("main").hidden = false;
    await listPipelines();
    watch();
  } catch (error) {
    document.querySelector("main").hidden = true;
    at("who").textContent = "";
    say(`Not connected: ${error.message}`);
  }
});

async function listPipelines() {
  const pages = [];
  let cursor = "";
  do {
    const page = await get(`/pipelines?limit=200${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
    pages.push(...page.pipelines);
    cursor = page.next_cursor;
  } while (cursor);
  const entries = pages.map((entry) => {
    const button = element("button", entry.id, { type: "button", "aria-current": String(entry.id === pipeline) });
    button.append(element("small", `${entry.task_count} tasks${entry.last_run ? `, last run ${entry.last_run.status}` : ""}`));
    button.addEventListener("click", () => show(entry.id));
    const item = element("li");
    item.append(button);
    return item;
  });
  at("pipelines").replaceChildren(...(entries.length ? entries : [element("li", "There is none that you may read.")]));
  if (!pipeline && pages.length) await show(pages[0].id);
}

async function show(id) {
  pipeline = id;
  shownRun = null;
  at("run").hidden = true;
  for (const button of at("pipelines").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(button.firstChild.textContent === id));
  }
  const path = `/pipelines/${encodeURIComponent(id)}`;
  try {
    const [definition, critical] = await Promise.all([get(path), get(`${path}/critical-path`)]);
    at("pipeline-name").textContent = id;
    at("pipeline-description").textContent = definition.description ?? "";
    at("analysis").textContent = `Critical path: ${critical.critical_path.join(" → ")}`;
    fields(definition.inputs ?? {});
    at("pipeline").hidden = false;
    await Promise.all([draw(), listRuns()]);
    say("");
  } catch (error) {
    say(error.message);
  }
}

async function draw() {
  const run = shownRun ? `&run_id=${shownRun}` : "";
  const response = await call(`/pipelines/${encodeURIComponent(pipeline)}/dag?format=svg${run}`, { headers: { Accept: "image/svg+xml" } });
  const old = at("graph").src;
  at("graph").src = URL.createObjectURL(new Blob([await response.text()], { type: "image/svg+xml" }));
  at("graph").alt = `The graph of ${pipeline}`;
  if (old.startsWith("blob:")) URL.revokeObjectURL(old);
}

// One field for each input, from its JSON Schema.
function fields(schema) {
  const required = schema.required ?? [];
  const made = Object.entries(schema.properties ?? {}).map(([name, property]) => {
    const label = element("label", required.includes(name) ? `${name} *` : name);
    const input = element("input", null, { name, "data-type": property.type ?? "" });
    if (property.default !== undefined) input.placeholder = JSON.stringify(property.default);
    label.append(input);
    const hint = [property.description, property.type].filter(Boolean).join("; ");
    if (hint) label.append(element("small", property.type === "string" ? hint : `${hint}${hint ? ", " : ""}written as JSON`));
    return label;
  });
  at("fields").replaceChildren(...made);
  at("mistakes").replaceChildren();
}

at("execute").addEventListener("submit", async (event) => {
  event.preventDefault();
  const parameters = {};
  const mistakes = [];
  for (const input of at("fields").querySelectorAll("input")) {
    if (input.value === "") continue;
    if (input.dataset.type === "string") {
      parameters[input.name] = input.value;
      continue;
    }
    try {
      parameters[input.name] = JSON.parse(input.value);
    } catch {
      mistakes.push(`${input.name}: this is not JSON; write a text in double quotes, a list as [1, 2]`);
    }
  }
  at("mistakes").replaceChildren(...mistakes.map((text) => element("li", text)));
  if (mistakes.length) return;
  try {
    const started = await (await call(`/pipelines/${encodeURIComponent(pipeline)}/execute`, { method: "POST", body: JSON.stringify({ parameters }) })).json();
    say("");
    await Promise.all([open(started.run_id), listRuns()]);
  } catch (error) {
    const list = (error.problem?.errors ?? []).map((one) => element("li", `${one.field}: ${one.message}`));
    at("mistakes").replaceChildren(...(list.length ? list : [element("li", error.message)]));
  }
});

async function listRuns() {
  const page = await get(`/runs?pipeline_id=${encodeURIComponent(pipeline)}&limit=10`);
  const rows = page.runs.map((run) => {
    const row = element("tr");
    const button = element("button", run.run_id.slice(-12), { type: "button", class: "plain", title: run.run_id });
    button.addEventListener("click", () => open(run.run_id).catch((error) => say(error.message)));
    const cells = [button, status(run.status), clock(run.created_at), between(run.started_at, run.finished_at)];
    row.append(...cells.map((cell) => { const td = element("td"); td.append(cell); return td; }));
    return row;
  });
  at("runs").replaceChildren(...rows);
}

async function open(id) {
  shownRun = id;
  lastSeq = 0;
  at("events").replaceChildren();
  at("run").hidden = false;
  const page = await get(`/runs/${id}/events`);
  page.events.forEach(note);
  await Promise.all([refresh(), draw()]);
}

async function refresh() {
  const run = await get(`/runs/${shownRun}`);
  at("run-name").textContent = `Run ${run.run_id}`;
  const ends = run.status === "running" ? await ending() : "";
  at("run-status").replaceChildren(status(run.status), ` ${run.steps_completed} of ${run.total_steps} steps${ends}`);
  if (run.error) at("run-status").append(element("div", `${run.error.step ? `${run.error.step}: ` : ""}${run.error.message}`, { class: "failed" }));
  const outcome = run.result ?? (Object.keys(run.outputs ?? {}).length ? run.outputs : null);
  at("outcome").hidden = outcome === null;
  at("result").textContent = JSON.stringify(outcome, null, 2);
  const waiting = run.steps.find((step) => step.waits_for);
  at("signal").hidden = !waiting;
  if (waiting) {
    at("signal").dataset.name = waiting.waits_for;
    at("signal").querySelector("label").textContent = `${waiting.id} waits for the signal ${waiting.waits_for}; its value as JSON:`;
  }
  at("steps").replaceChildren(...run.steps.map((step) => {
    const row = element("tr");
    const counts = Object.values(step.item_counts ?? {}).reduce((sum, count) => sum + count, 0);
    const items = counts ? `${step.item_counts.completed ?? 0} of ${counts} items` : "";
    const cells = [step.id, step.kind, status(step.status), step.attempt || "", took(step.duration_ms), [items, step.error, step.reason].filter(Boolean).join("; ")];
    row.append(...cells.map((cell) => { const td = element("td"); td.append(cell); return td; }));
    return row;
  }));
  const actions = { running: ["pause", "cancel"], queued: ["cancel"], paused: ["resume", "cancel"], failed: ["retry"], cancelled: ["retry"], timed_out: ["retry"] }[run.status] ?? [];
  at("controls").replaceChildren(...actions.map((action) => {
    const button = element("button", action, { type: "button", class: "plain" });
    button.addEventListener("click", () => control(action));
    return button;
  }));
}

// When the shown run will have ended, as far as earlier runs tell.
async function ending() {
  const { finish_at, low, high } = await get(`/runs/${shownRun}/estimate`).catch(() => ({}));
  const time = (text) => new Date(text).toLocaleTimeString();
  if (!finish_at) return "";
  return `, ends about ${time(finish_at)}${low && time(low) !== time(high) ? ` (${time(low)} to ${time(high)})` : ""}`;
}

at("signal").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const value = JSON.stringify(JSON.parse(at("signal-value").value));
    await call(`/runs/${shownRun}/signals/${encodeURIComponent(at("signal").dataset.name)}`, { method: "POST", body: value });
    say("");
    await refresh();
  } catch (error) {
    say(error instanceof SyntaxError ? "The value of the signal is not JSON." : error.message);
  }
});

async function control(action) {
  try {
    const answer = await (await call(`/runs/${shownRun}/${action}`, { method: "POST" })).json().catch(() => ({}));
    say("");
    if (answer.run_id && answer.run_id !== shownRun) await open(answer.run_id); else await refresh();
  } catch (error) {
    say(error.message);
  }
}

function note(event) {
  if (event.seq <= lastSeq) return;
  lastSeq = event.seq;
  const said = [event.step, event.attempt > 1 ? `attempt ${event.attempt}` : "", took(event.duration_ms), event.reason, typeof event.error === "string" ? event.error : event.error?.message];
  at("events").append(element("li", `${event.seq} ${event.type.replace("Event", "")} ${said.filter(Boolean).join(" · ")}`));
  at("events").scrollTop = at("events").scrollHeight;
}

// Many events come at once; the page is brought up to date once for all of them.
function soon() {
  if (refreshing) return;
  refreshing = setTimeout(async () => {
    refreshing = null;
    try {
      await Promise.all([listRuns(), shownRun ? refresh() : null, draw(), listPipelines()]);
    } catch (error) {
      say(error.message);
    }
  }, 300);
}

function watch() {
  socket?.close();
  const opened = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket = opened;
  opened.addEventListener("open", () => opened.send(JSON.stringify({ type: "connect", auth: credential })));
  opened.addEventListener("message", (message) => {
    const event = JSON.parse(message.data);
    if (event.type === "connected") {
      if (pause > 1000) soon();
      pause = 1000;
      at("who").textContent = at("who").dataset.name;
    }
    if (event.type === "connected") opened.send(JSON.stringify({ type: "subscribe", pipeline_id: "*" }));
    if (event.type === "error") say(event.detail);
    if (event.type === "DAGUpdatedEvent") listPipelines().catch((error) => say(error.message));
    if (!event.run_id || event.pipeline_id !== pipeline) return;
    if (event.run_id === shownRun) note(event);
    soon();
  });
  opened.addEventListener("close", (event) => {
    if (socket !== opened || !credential) return;
    // 1008: the server does not want this credential any more.
    if (event.code === 1008) {
      at("who").textContent = "Live view ended";
      return;
    }
    // Longer and longer, below what the server lets one address connect in a minute.
    pause = Math.min(pause * 2, 20000);
    at("who").textContent = "Live view lost; trying again";
    setTimeout(() => socket === opened && watch(), pause);
  });
}
