"use strict";

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
const MAX_BYTES = Number(meta("max-bytes"));
const MB = 1e6;
const BROKEN = "The connection broke off, and nothing was kept. Choose the file again.";
const slots = [];

const megabytes = (bytes) => (bytes < MB ? "1 MB" : `${Math.floor(bytes / MB).toLocaleString("en")} MB`);

// One file of the call: where it is dropped or chosen, how far it is, and what came of it.
class Slot {
  constructor(section) {
    const parts = [".drop", "input", ".sending", "progress", ".amount", ".stop", ".said", ".result", "code", ".copy"];
    const [drop, input, sending, progress, amount, stop, said, result, code, copy] =
      parts.map((part) => section.querySelector(part));
    Object.assign(this, { section, drop, input, sending, progress, amount, said, result, code });
    Object.assign(this, { name: section.dataset.slot, request: null, asking: false, done: false, quarter: 0 });
    input.addEventListener("change", () => this.take(input.files));
    stop.addEventListener("click", () => this.request?.abort());
    copy.addEventListener("click", () => this.copy());
    section.addEventListener("dragover", (event) => this.over(event, true));
    section.addEventListener("dragleave", (event) => this.over(event, false));
    section.addEventListener("drop", (event) => {
      this.over(event, false);
      this.take(event.dataTransfer.files);
    });
    section.hidden = false;
  }

  over(event, is) {
    event.preventDefault();
    this.drop.toggleAttribute("data-over", is && !this.busy && !this.done);
  }

  get busy() {
    return this.asking || this.request !== null;
  }

  say(words, tone = "") {
    this.section.dataset.tone = tone;
    this.said.textContent = words;
  }

  async take(files) {
    if (this.busy || this.done || files.length === 0) return;
    if (files.length > 1) return this.say("Only one file belongs here.", "bad");
    const [file] = files;
    if (file.size > MAX_BYTES) {
      const most = megabytes(MAX_BYTES);
      return this.refuse({ error: `The file has ${megabytes(file.size)}, and at most ${most} are taken.`, next: "Choose a shorter or smaller one." });
    }
    this.asking = true;
    this.say(`Checking whether ${file.name} can be sent.`);
    try {
      const answer = await fetch(`${this.address}?size=${file.size}`, { cache: "no-store" });
      const words = await answer.json();
      if (!answer.ok) return this.refuse(words);
    } catch {
      return this.say("The server does not answer. Choose the file again in a while.", "bad");
    } finally {
      this.asking = false;
    }
    this.send(file);
  }

  get address() {
    return `${location.pathname.replace(/\/$/, "")}/${this.name}`;
  }

  send(file) {
    const request = new XMLHttpRequest();
    this.request = request;
    this.quarter = 0;
    request.open("PUT", this.address);
    request.upload.addEventListener("progress", (event) => this.show(event.loaded, file.size));
    request.addEventListener("load", () => this.ended(() => this.answered(request)));
    request.addEventListener("error", () => this.ended(() => this.say(BROKEN, "bad")));
    request.addEventListener("abort", () => this.ended(() => this.say("Stopped. Nothing was kept.")));
    this.drop.hidden = true;
    this.sending.hidden = false;
    this.show(0, file.size);
    this.say(`Sending ${file.name}.`);
    request.send(file);
  }

  show(sent, size) {
    this.progress.value = sent / size;
    this.amount.textContent = `${megabytes(sent)} of ${megabytes(size)}`;
    const quarter = Math.floor((4 * sent) / size);
    if (quarter === this.quarter) return;
    this.quarter = quarter; // a screen reader that heard of every block could say nothing else
    this.say(quarter === 4 ? "All of it is sent. The server looks at it now." : `${quarter * 25} % are sent.`);
  }

  ended(then) {
    this.request = null;
    this.sending.hidden = true;
    this.drop.hidden = false;
    this.input.value = "";
    then();
    finish();
  }

  answered(request) {
    let words = {};
    try {
      words = JSON.parse(request.responseText);
    } catch {
      words = { error: `The server answered with ${request.status}.`, next: "Choose the file again." };
    }
    if (request.status !== 201) return this.refuse(words);
    this.accept(words.uri, `${words.message} ${words.next}`);
  }

  refuse({ error, next, uri }) {
    const words = [error, next].filter(Boolean).join(" ");
    if (uri) this.accept(uri, words);
    else this.say(words, "bad");
    this.input.value = "";
    finish();
  }

  accept(uri, words) {
    this.done = true;
    this.drop.hidden = true;
    this.code.textContent = uri;
    this.result.hidden = false;
    this.say(words, "good");
  }

  async copy() {
    const range = document.createRange();
    range.selectNodeContents(this.code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    const copied = await navigator.clipboard?.writeText(this.code.textContent).then(() => true, () => false);
    this.say(copied ? "Copied." : "Selected: copy it with your keyboard.", "good");
  }
}

function finish() {
  if (!slots.every((slot) => slot.done)) return;
  document.getElementById("all").textContent =
    "Everything is there. Go back to your assistant and say so; you can close this page.";
}

const wanted = meta("slots").split(" ").filter(Boolean);
for (const name of wanted) slots.push(new Slot(document.querySelector(`section[data-slot="${name}"]`)));
document.getElementById("intro").hidden = wanted.length === 0;

// A file that misses its place would be opened by the browser, and this page with its uploads gone.
for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());
addEventListener("beforeunload", (event) => {
  if (slots.some((slot) => slot.request)) event.preventDefault();
});
