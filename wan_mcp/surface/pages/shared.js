"use strict";

const byId = (id) => document.getElementById(id);
const meta = (name) => document.querySelector(`meta[name=${name}]`).content;
const origins = meta("media-origins").split(" ");
const JOB_ID = /^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/;
const LOW = 800; // height of a frame, in pixels, that the page may not fit into
const ANSWER_SECONDS = 60; // how long the host may take where it asks nobody
const host = { can: {}, gone: false }; // what it offers, and whether it has taken the page down

// The host: JSON-RPC 2.0 over postMessage (MCP Apps, 2026-01-26)

const waiting = new Map();
let lastId = 0;

function post(message) {
  // Who embeds us is not known here; nothing that is sent is a secret from them.
  parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
}

function request(method, params, seconds) {
  const id = ++lastId;
  return new Promise((resolve, reject) => {
    const late = () => answered({ id, error: { message: "no answer" } });
    waiting.set(id, { resolve, reject, timer: seconds && setTimeout(late, seconds * 1000) });
    post({ id, method, params });
  });
}

function answered({ id, result, error }) {
  const asked = waiting.get(id);
  if (!asked) return;
  waiting.delete(id);
  clearTimeout(asked.timer);
  if (error) asked.reject(new Error(error.message));
  else asked.resolve(result);
}

addEventListener("message", ({ source: sender, data }) => {
  if (sender !== parent || data?.jsonrpc !== "2.0") return;
  const { id, method, params } = data;
  if (!method) return answered(data);
  const known = Object.hasOwn(fromHost, method);
  const result = known ? fromHost[method](params ?? {}) : undefined;
  if (id === undefined) return;
  post(known ? { id, result: result ?? {} } : { id, error: { code: -32601, message: "Method not found" } });
});

// Greets the host. Only after that may anything else be asked.
async function connect(name) {
  const { hostCapabilities, hostContext } = await request("ui/initialize", {
    protocolVersion: "2026-01-26",
    appInfo: { name: name, version: "1" },
    appCapabilities: { availableDisplayModes: ["inline"] },
  });
  host.can = hostCapabilities ?? {};
  adopt(hostContext ?? {});
  post({ method: "ui/notifications/initialized", params: {} });
  watchSize();
}

function adopt({ theme, containerDimensions: room }) {
  const page = document.documentElement;
  if (theme === "light" || theme === "dark") page.dataset.theme = theme;
  if (room) page.toggleAttribute("data-low", (room.height ?? room.maxHeight) < LOW);
}

function watchSize() {
  let sentHeight = 0;
  new ResizeObserver(() => {
    const height = Math.ceil(document.body.getBoundingClientRect().height);
    if (height === sentHeight) return;
    sentHeight = height;
    post({ method: "ui/notifications/size-changed", params: { height } });
  }).observe(document.body);
}

// Videos: each by the first way that leads to it

function allowed(address) {
  try {
    return origins.includes(new URL(address).origin) ? address : "";
  } catch {
    return "";
  }
}

// Goes on to the next way at any error, also at one in the middle of a video whose link dies.
async function obtain(video, ways, found) {
  const [way, ...others] = ways;
  if (!way || host.gone) return found("none");
  const address = await Promise.resolve().then(way).catch(() => "");
  if (!address) return obtain(video, others, found);
  video.onloadedmetadata = () => found("ready");
  video.onerror = () => obtain(video, others, found);
  video.src = address;
}

// The server's copy of a video, or of what was made from it; null if it has none, or it is large.
async function readCopy(id, name) {
  if (!host.can.serverResources || !JOB_ID.test(id)) return null;
  const uri = `wan://jobs/${id}/${name}`;
  const { contents } = await request("resources/read", { uri }, ANSWER_SECONDS);
  const { blob, mimeType } = contents[0];
  return blob ? { uri, mimeType, blob } : null;
}

// Hosts must allow data:, but not blob:
function asData({ mimeType, blob }, kind) {
  const isFit = mimeType?.startsWith(`${kind}/`) && /^[\w.+/-]+$/.test(mimeType);
  const type = isFit ? mimeType : { video: "video/mp4", image: "image/jpeg" }[kind];
  return `data:${type};base64,${blob}`;
}

// What leads to the video of a row of list_jobs, which names no link if the video is saved.
function waysTo(row) {
  const call = { name: "get_job_status", arguments: { job_id: row.job_id } };
  let asked = null;
  const job = async () => {
    if (!host.can.serverTools) return {};
    asked ??= request("tools/call", call, ANSWER_SECONDS);
    return (await asked).structuredContent ?? {};
  };
  const link = async () => {
    const { video_url: url, expires_in_seconds: left } = row.video_url ? row : await job();
    return left === 0 ? "" : allowed(url);
  };
  const copy = async () => {
    const found = await readCopy(row.job_id, "video");
    return found ? asData(found, "video") : "";
  };
  return [link, async () => allowed((await job()).saved_url), copy];
}

// Marks a video, so that the size limit does not delete it; "", or why that was not possible.
async function markKept(row, kept) {
  const call = { name: "keep_video", arguments: { job_id: row.job_id, kept } };
  const { structuredContent: answer, isError } = await request("tools/call", call, ANSWER_SECONDS);
  return isError ? answer?.message ?? "The mark could not be set." : "";
}

// Words

function write(element, text) {
  const words = String(text ?? "");
  if (element.textContent !== words) element.textContent = words;
}

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function credits(number) {
  return `${number} ${number === 1 ? "credit" : "credits"}`;
}
