// The gallery: what list_jobs answers, as pictures

const [overview, detail, sums, cards, note, what, why, text, more, again, back, heading, place, said] =
  ["overview", "detail", "sums", "cards", "note", "what", "why", "text", "more", "again", "back", "heading",
    "place", "said"].map(byId);
const AT_ONCE = 12; // cards that are added at a time
const SHEETS_AT_ONCE = 2; // pictures that are being made: each takes a processor for a second
const GOING = ["queued", "submitting", "running"];
const WITHOUT = ["failed", "lost", "unknown", "not_sent", "refused"];
const WORDS = {
  queued: "Waiting", submitting: "Requested", running: "Under way", failed: "Failed", lost: "Lost",
  unknown: "Outcome unknown", not_sent: "Not sent", refused: "Refused",
};
const TONES = { failed: "bad", lost: "bad", refused: "warn", not_sent: "warn", unknown: "warn" };
const PICTURES = {
  going: "M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16zm0 1.8a6.2 6.2 0 1 1 0 12.4 6.2 6.2 0 0 1 0-12.4zM9 6v5l4 2 .8-1.5L10.7 10V6z",
  without: "M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM9 5.5h2v6H9zm0 7.5h2v2H9z",
  ready: "M2 4h16v12H2zm1.6 1.6v8.8h12.8V5.6zM8 7.4l5 2.6-5 2.6z",
};

const state = { rows: null, cursor: "", room: AT_ONCE, problem: "", loading: false, from: null };

// Where the jobs come from: the host's assistant, or the command that shows this page in a browser

const inBrowser = meta("shown-by") === "browser";

async function fetched(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error((await answer.text()) || "The answer cannot be read.");
  return answer.json();
}

async function page(cursor) {
  const given = { limit: 50, ...(cursor && { cursor }) };
  if (inBrowser) return fetched(`jobs?${new URLSearchParams(given)}`);
  const call = { name: "list_jobs", arguments: given };
  const { structuredContent: answer, isError } = await request("tools/call", call, ANSWER_SECONDS);
  if (isError || !answer) throw new Error(answer?.message ?? "The list cannot be read.");
  return answer;
}

// Of a video in object storage, only its address is known here.
const isHere = ({ saved_path: path }) => Boolean(path) && !/^(s3|gs|az):/.test(path);

const ways = (job) => inBrowser && isHere(job) ? [() => `video/${job.job_id}`] : waysTo(job);

async function keep(job, kept) {
  if (!inBrowser) return markKept(job, kept);
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ kept }) };
  return (await fetched(`keep/${job.job_id}`, options)).why;
}

async function sheetOf(job) {
  if (inBrowser) return `poster/${job.job_id}`;
  const found = await readCopy(job.job_id, "poster");
  return found ? asData(found, "image") : "";
}

const canKeep = () => inBrowser || Boolean(host.can.serverTools);
const takes = new Takes({ ways, keep });

// What the host sends

const fromHost = {
  "ping": () => ({}),
  "ui/resource-teardown": () => { host.gone = true; takes.close(); },
  "ui/notifications/tool-input": () => {},
  "ui/notifications/tool-result": ({ structuredContent: answer, content }) => {
    const words = content?.find?.((block) => block.type === "text")?.text;
    if (answer?.code || !answer) state.problem = answer?.message ?? words ?? "The list cannot be read.";
    else learn(answer, false);
    render();
  },
  "ui/notifications/tool-cancelled": () => { state.problem = "The call was stopped."; render(); },
  "ui/notifications/host-context-changed": adopt,
};

function learn(answer, isMore) {
  const known = isMore ? state.rows ?? [] : [];
  const ids = new Set(known.map((job) => job.job_id));
  state.rows = [...known, ...(answer.jobs ?? []).filter((job) => !ids.has(job.job_id))];
  state.cursor = answer.next_cursor ?? "";
  state.problem = "";
  showSums(answer);
}

async function load(isMore) {
  if (state.loading) return;
  state.loading = true;
  render();
  try {
    learn(await page(isMore ? state.cursor : ""), isMore);
  } catch (error) {
    if (isMore) write(said, "The older ones could not be read.");
    else state.problem = error.message;
  }
  state.loading = false;
  render();
}

// What is shown

function showSums({ total_jobs: jobs, credits_spent: all, credits_spent_24h: day }) {
  if (jobs === undefined) return;
  const parts = [`${jobs} ${jobs === 1 ? "job" : "jobs"}`, `${credits(all ?? 0)} so far`, `${credits(day ?? 0)} in 24 hours`];
  write(sums, parts.join(" · "));
}

function fileName(input) {
  const last = String(input ?? "").split("#")[0].split(/[/\\]/).pop();
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

const wordsOf = (job) => [job.character_image, job.source_video].map(fileName).filter(Boolean).join(" in ") || job.job_id;

function day({ made_at: date }) {
  const made = new Date(date);
  return Number.isNaN(made.getTime()) ? "" : made.toLocaleDateString(undefined, { day: "numeric", month: "short" });
}

function factsOf(job) {
  return [
    day(job), job.video_duration && `${job.video_duration} s`, job.seed !== undefined && `seed ${job.seed}`,
    job.credit_cost !== undefined && credits(job.credit_cost),
  ].filter(Boolean).join(" · ");
}

const kindOf = ({ status }) => status === "completed" ? "ready" : GOING.includes(status) ? "going" : "without";

const FILTERS = {
  all: () => true,
  ready: (job) => kindOf(job) === "ready",
  kept: (job) => job.kept,
  going: (job) => kindOf(job) === "going",
  without: (job) => WITHOUT.includes(job.status),
};

function chosen() {
  const filter = FILTERS[document.querySelector("#statuses input:checked").value];
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const about = (job) => `${wordsOf(job)} ${job.job_id} ${job.seed} ${job.status}`.toLowerCase();
  const found = state.rows.filter((job) => filter(job) && words.every((word) => about(job).includes(word)));
  return together(found);
}

// Takes of one order stand side by side, where the newest of them is.
function together(jobs) {
  const firsts = jobs.filter((job, at) => !job.order || jobs.findIndex((other) => other.order === job.order) === at);
  return firsts.flatMap((job) => job.order ? jobs.filter((other) => other.order === job.order) : [job]);
}

const finished = (order) => state.rows.filter((job) => job.order === order && kindOf(job) === "ready");

// A card is made once and used again, so that nothing is loaded twice or moves at a key press.
const known = new Map();

function cardOf(job) {
  const about = JSON.stringify([job, job.order && finished(job.order).length]);
  const old = known.get(job.job_id);
  if (old?.about === about) return old.card;
  const card = newCard(job, old?.card.querySelector("img"));
  known.set(job.job_id, { card, about });
  return card;
}

function newCard(job, picture) {
  const kind = kindOf(job);
  const sheet = made("div", { className: "sheet" }, drawing(PICTURES[kind]));
  const open = made("button", { type: "button", className: "open", disabled: kind !== "ready" }, sheet);
  open.setAttribute("aria-label", `${kind === "ready" ? "Open" : WORDS[job.status] ?? job.status}: ${wordsOf(job)}, ${nameOf(job)}`);
  open.addEventListener("click", () => showDetail([job], open));
  if (kind !== "ready") sheet.append(made("span", { className: "badge", textContent: WORDS[job.status] ?? job.status }));
  if (kind !== "ready" && TONES[job.status]) sheet.lastChild.dataset.tone = TONES[job.status];
  if (job.takes) sheet.append(made("span", { className: "badge right", textContent: `Take ${job.take} of ${job.takes}` }));
  const words = made("p", { className: "words", textContent: wordsOf(job), title: wordsOf(job) });
  const tools = made("div", { className: "tools" });
  const card = made("li", { className: "card" }, open, words, made("p", { className: "facts", textContent: factsOf(job) }), tools);
  if (kind === "ready" && canKeep()) tools.append(keepButton(job, keep, (why) => write(said, why)));
  if (kind === "ready" && job.order && finished(job.order).length > 1) tools.append(compareButton(job));
  if (picture) sheet.append(picture);
  else if (kind === "ready" && (isHere(job) || !inBrowser)) wish(sheet, job);
  return card;
}

function compareButton(job) {
  const button = made("button", { type: "button", className: "compare", textContent: "Compare" });
  button.setAttribute("aria-label", `Compare takes of ${wordsOf(job)}, with ${nameOf(job)}`);
  button.addEventListener("click", () => {
    const others = finished(job.order).filter((other) => other !== job);
    showDetail([job, ...others].slice(0, MOST_TAKES).sort((one, other) => one.take - other.take), button);
  });
  return button;
}

// Pictures are asked for when their place comes into view, a few at a time

const wished = [];
let asking = 0;
const inView = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    inView.unobserve(target);
    wished.push(target);
  }
  askNext();
}, { rootMargin: "200px" });
const jobOf = new WeakMap();

function wish(sheet, job) {
  jobOf.set(sheet, job);
  inView.observe(sheet);
}

async function askNext() {
  while (wished.length && asking < SHEETS_AT_ONCE && !host.gone) {
    asking += 1;
    show(wished.shift()).catch(() => {}).finally(() => { asking -= 1; askNext(); });
  }
}

async function show(sheet) {
  const job = jobOf.get(sheet);
  const address = await sheetOf(job);
  if (!address) return;
  const picture = made("img", { alt: "", decoding: "async", src: address });
  await picture.decode().then(() => sheet.append(picture), () => inBrowser && showFrame(sheet, job));
}

// Without the extra that makes contact sheets, the first frame has to do.
function showFrame(sheet, job) {
  const video = made("video", { muted: true, preload: "metadata", tabIndex: -1, src: `video/${job.job_id}#t=0.1` });
  video.setAttribute("aria-hidden", "true");
  video.onloadeddata = () => sheet.append(video);
}

function ghosts() {
  return Array.from({ length: 4 }, () => {
    const [words, facts] = ["words", "facts"].map((name) => made("p", { className: name, textContent: "\u00a0" }));
    const card = made("li", { className: "card ghost" }, made("div", { className: "sheet" }), words, facts, made("div", { className: "tools" }));
    card.setAttribute("aria-hidden", "true");
    return card;
  });
}

function showNote(title, words, canRepeat) {
  note.hidden = !title;
  write(what, title);
  write(why, words);
  again.hidden = !canRepeat;
}

function render() {
  const { rows, problem } = state;
  cards.setAttribute("aria-busy", rows === null && !problem);
  more.hidden = true;
  if (rows === null) {
    if (!problem && !cards.children.length) cards.replaceChildren(...ghosts());
    if (problem) cards.replaceChildren();
    return showNote(problem && "Your videos cannot be shown", problem, canKeep() && !state.loading);
  }
  const found = chosen();
  const shown = found.slice(0, state.room).map(cardOf);
  if (shown.length !== cards.children.length || shown.some((card, at) => card !== cards.children[at])) cards.replaceChildren(...shown);
  if (problem) showNote("Your videos cannot be shown", problem, canKeep());
  else if (!rows.length) showNote("No videos yet", "Ask your assistant to put another character into a video of yours. It will appear here.");
  else if (!found.length) showNote("Nothing matches", state.cursor ? "Only the jobs that are shown here were searched. There are older ones." : "Try another word, or another status.");
  else showNote("");
  more.hidden = found.length <= state.room && !(state.cursor && canKeep());
  more.disabled = state.loading;
}

// One video, or takes side by side

function showDetail(jobs, from) {
  state.from = from;
  write(heading, jobs.length > 1 ? `${jobs.length} takes: ${wordsOf(jobs[0])}` : wordsOf(jobs[0]));
  write(place, jobs.length > 1 ? "" : [factsOf(jobs[0]), jobs[0].saved_path].filter(Boolean).join(" · "));
  overview.hidden = true;
  detail.hidden = false;
  if (!canKeep()) takes.keep = null;
  takes.open(jobs);
  scrollTo(0, 0);
  heading.focus();
}

back.addEventListener("click", () => {
  takes.close();
  detail.hidden = true;
  overview.hidden = false;
  render();
  if (state.from?.isConnected) state.from.focus();
  else text.focus();
});
addEventListener("keydown", (event) => { if (event.key === "Escape" && !detail.hidden) back.click(); });
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("input", () => { state.room = AT_ONCE; render(); });
again.addEventListener("click", () => { state.problem = ""; load(false); });
more.addEventListener("click", async () => {
  const before = cards.children.length;
  state.room += AT_ONCE;
  if (chosen().length < state.room && state.cursor) await load(true);
  else render();
  cards.children[before]?.querySelector("button")?.focus();
});

render();
if (inBrowser) load(false);
else connect("wan-mcp-gallery").then(render).catch(() => { state.problem = "This page is shown by an assistant, beside its answers."; render(); });
