// The list of streams, until there is a dashboard.
//
// The rule it guards: the API token is held in one variable of this module, travels in one header, and is written
// nowhere. Names, encoders and errors come from strangers: they reach the page by textContent only.

const REFRESH_MS = 3_000;
const element = (id) => document.getElementById(id);

// What the relay lets a stream be called: nothing in it needs to be escaped in an address.
const NAME = /^(?!\.)[\w.-]+(\/(?!\.)[\w.-]+)*$/;

const BADGES = { live: ["On air", "live"], slate: ["Slate", "warn"], waiting: ["Not on air", ""] };

let token = "";
let timer = 0;

async function load() {
  clearTimeout(timer);
  let wait = REFRESH_MS;
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch("/api/v1/streams", { headers, cache: "no-store", credentials: "omit" });
    if (answer.status === 401) return ask();
    if (!answer.ok) throw new Error(`the relay answers ${answer.status}`);
    show((await answer.json()).streams);
  } catch (error) {
    say(`No list of streams: ${error.message}. Trying again.`);
    wait = 2 * REFRESH_MS;
  }
  timer = setTimeout(load, wait);
}

function ask() {
  say(token ? "This token is not accepted." : "The list of streams is for operators of this relay.");
  token = "";
  element("streams").replaceChildren();
  element("ask").hidden = false;
}

function say(text) {
  if (element("notice").textContent !== text) element("notice").textContent = text;
}

function show(streams) {
  element("ask").hidden = true;
  say(streams.length ? "" : "No stream yet. It appears here when an encoder publishes.");
  const list = element("streams");
  const focused = document.activeElement?.dataset?.stream;
  list.replaceChildren(...streams.map(item));
  if (focused) [...list.querySelectorAll("a")].find((link) => link.dataset.stream === focused)?.focus();
}

function item(stream) {
  const [text, kind] = BADGES[stream.state] ?? [stream.state, ""];
  const heading = make("h2", "", stream.name);
  heading.append(make("span", `badge ${kind}`, text));
  const box = make("li", "stream", "");
  box.append(heading, ...lines(stream).map((line) => make("p", "", line)));
  if (NAME.test(stream.name)) box.append(watchLink(stream.name));
  return box;
}

function watchLink(name) {
  const link = make("a", "button", "Watch");
  link.href = `/watch/${name}`;
  link.dataset.stream = name;
  link.setAttribute("aria-label", `Watch ${name}`);
  return link;
}

function lines(stream) {
  const tracks = stream.tracks.map((track) => {
    const size = track.width ? ` ${track.width}×${track.height}` : "";
    return `${track.codec_string || track.codec}${size}`;
  });
  const feeds = stream.feeds.map((feed) => {
    const encoder = feed.encoder ? ` (${feed.encoder})` : "";
    return `${feed.name}${encoder}: ${feed.state}, ${Math.round(feed.bitrate_kbps)} kbit/s`;
  });
  return [tracks.join(", "), feeds.join(" · ")].filter(Boolean);
}

function make(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = element("token").value.trim();
  element("token").value = "";
  load();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (element("ask").hidden) load();
});

load();
