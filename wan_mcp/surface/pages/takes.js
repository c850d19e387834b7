// Takes side by side, in step: the first one that can be played is the clock of the others

const MOST_TAKES = 4;
const SVG = "http://www.w3.org/2000/svg";
const BOOKMARK = "M5 2.5h10v15l-5-4-5 4z";

function made(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function drawing(path) {
  const [picture, line] = ["svg", "path"].map((name) => document.createElementNS(SVG, name));
  picture.setAttribute("viewBox", "0 0 20 20");
  picture.setAttribute("aria-hidden", "true");
  line.setAttribute("d", path);
  picture.append(line);
  return picture;
}

// A button that marks a video, `job.kept`, by what `keep` does with it.
function keepButton(job, keep, changed) {
  const word = made("span", {});
  const button = made("button", { type: "button", className: "keep" }, drawing(BOOKMARK), word);
  const show = () => {
    button.setAttribute("aria-pressed", Boolean(job.kept));
    write(word, job.kept ? "Kept" : "Keep this one");
    button.setAttribute("aria-label", `${job.kept ? "Kept" : "Keep this one"}: ${nameOf(job)}`);
  };
  button.addEventListener("click", async () => {
    button.disabled = true;
    const why = await keep(job, !job.kept).catch(() => "The mark could not be set.");
    button.disabled = false;
    if (!why) job.kept = !job.kept;
    show();
    changed(why || (job.kept ? "Kept: the size limit does not delete it." : "Not kept any more."));
  });
  show();
  return button;
}

function nameOf({ job_id: id, seed }) {
  return seed === undefined ? id : `Seed ${seed}`;
}

class Takes {
  // `ways` gives what leads to the video of a job, `keep` marks it and gives why it could not.
  constructor({ ways, keep }) {
    const section = byId("takes");
    const [grid, play, seek, time, mute, said] =
      [".grid", ".play", ".seek", ".clock", ".mute", ".said"].map((part) => section.querySelector(part));
    Object.assign(this, { section, grid, play, seek, time, mute, said, ways, keep });
    Object.assign(this, { videos: [], nextFrame: 0, wish: null, sought: 0, muted: true });
    play.addEventListener("click", () => this.toggle());
    mute.addEventListener("click", () => this.flipMute());
    seek.addEventListener("input", () => this.jump(Number(seek.value)));
    addEventListener("keydown", (event) => this.press(event));
  }

  open(jobs) {
    this.close();
    this.muted = jobs.length > 1;
    this.grid.replaceChildren(...jobs.slice(0, MOST_TAKES).map((job) => this.figure(job)));
    this.section.hidden = false;
    this.show();
  }

  close() {
    cancelAnimationFrame(this.nextFrame);
    for (const { video } of this.videos) {
      video.onerror = null;
      video.removeAttribute("src");
      video.load();
    }
    this.videos = [];
    write(this.said, "");
    this.section.hidden = true;
  }

  figure(job) {
    const video = made("video", { playsInline: true, preload: "auto", tabIndex: -1 });
    video.setAttribute("aria-label", `Video: ${nameOf(job)}`);
    const instead = made("p", { className: "instead", textContent: "Loading the video" });
    const figure = made("figure", { className: "take" }, made("div", { className: "frame" }, video, instead));
    const changed = (words) => {
      figure.toggleAttribute("data-kept", Boolean(job.kept));
      write(this.said, words);
    };
    const caption = made("figcaption", {}, made("span", { className: "name", textContent: nameOf(job) }));
    if (this.keep) caption.append(keepButton(job, this.keep, changed));
    figure.append(caption);
    changed("");
    const take = { video, ready: false };
    this.videos.push(take);
    for (const event of ["play", "pause", "seeked", "ended"]) video.addEventListener(event, () => this.heard(take, event));
    obtain(video, this.ways(job), (found) => {
      take.ready = found === "ready";
      instead.hidden = take.ready;
      write(instead, "This video cannot be played here.");
      if (this.lead) this.align(0.001); // it may have come late
      this.show();
    });
    return figure;
  }

  get ready() {
    return this.videos.filter((take) => take.ready).map((take) => take.video);
  }

  get lead() {
    return this.ready[0];
  }

  heard(take, event) {
    if (!this.lead) return;
    if (take.video !== this.lead) return event === "seeked" && this.lead.paused && this.align(0.001);
    if (event === "play") this.follow();
    if (event === "ended") return this.restart();
    if (event === "seeked" && this.wish !== null) return this.jump(this.wish);
    if (event !== "play") this.align(0.001);
    this.show();
  }

  restart() {
    this.jump(0);
    this.lead.play().catch(() => {});
  }

  align(slack) {
    const { lead } = this;
    for (const video of this.ready.slice(1)) {
      const goal = Math.min(lead.currentTime, video.duration);
      if (!video.seeking && Math.abs(video.currentTime - goal) > slack) video.currentTime = goal;
      if (lead.paused) video.pause();
      else if (video.paused && goal < video.duration) video.play().catch(() => {});
    }
  }

  follow() {
    cancelAnimationFrame(this.nextFrame);
    if (!this.lead) return;
    this.align(0.12);
    this.show();
    if (!this.lead.paused) this.nextFrame = requestAnimationFrame(() => this.follow());
  }

  async toggle() {
    const { lead } = this;
    if (!lead) return;
    if (!lead.paused) return lead.pause();
    const late = "The videos did not start. Press Play once more.";
    await lead.play().catch((error) => error.name === "AbortError" || write(this.said, late));
  }

  flipMute() {
    this.muted = !this.muted;
    this.show();
  }

  // One seek at a time: Chromium may never end the last of several quick ones (observed).
  jump(seconds) {
    const { lead } = this;
    if (!lead) return;
    this.wish = Math.max(0, Math.min(lead.duration || 0, seconds));
    if (lead.seeking && performance.now() - this.sought < 1000) return;
    this.sought = performance.now();
    lead.currentTime = this.wish;
    this.wish = null;
  }

  press(event) {
    if (this.section.hidden || !this.lead || event.ctrlKey || event.altKey || event.metaKey) return;
    const here = this.wish ?? this.lead.currentTime;
    const keys = {
      " ": () => this.toggle(),
      "ArrowLeft": () => this.jump(here - 1),
      "ArrowRight": () => this.jump(here + 1),
      "Home": () => this.jump(0),
      "End": () => this.jump(this.lead.duration),
      "m": () => this.flipMute(),
    };
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const writes = ["range", "search", "select-one"].includes(event.target.type);
    const presses = event.target.type === "button" && name === " ";
    if (!Object.hasOwn(keys, name) || writes || presses) return;
    event.preventDefault();
    keys[name]();
  }

  show() {
    const { lead } = this;
    for (const control of [this.play, this.seek, this.mute]) control.disabled = !lead;
    for (const video of this.ready) video.muted = this.muted || video !== lead; // one sound is enough
    this.mute.setAttribute("aria-pressed", this.muted);
    this.mute.toggleAttribute("data-on", this.muted);
    const isPlaying = Boolean(lead) && !lead.paused;
    this.play.setAttribute("aria-label", isPlaying ? "Pause" : "Play");
    this.play.toggleAttribute("data-on", isPlaying);
    const [now, whole] = [lead?.currentTime ?? 0, lead?.duration || 0];
    Object.assign(this.seek, { max: whole, value: now });
    const words = [now, whole].map(clock);
    this.seek.setAttribute("aria-valuetext", words.join(" of "));
    write(this.time, words.join(" / "));
  }
}
