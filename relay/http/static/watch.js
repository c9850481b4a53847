// The watch page: which stream, with which key, and the words for what happens.
//
// The rule it guards: the name and the key come from the address and go nowhere but into the playlist's address. Text
// reaches the page by textContent only.

import { Controls } from "/static/controls.js";
import { chooseEngine } from "/static/engines.js";
import { Keeper } from "/static/keeper.js";

const element = (id) => document.getElementById(id);

const path = location.pathname.replace(/^\/watch\//, "");
const name = decodeURIComponent(path);
const asked = new URLSearchParams(location.search);
const passed = new URLSearchParams(["key", "token"].filter((k) => asked.has(k)).map((k) => [k, asked.get(k)]));
const playlist = `/hls/${path}/index.m3u8${passed.size ? `?${passed}` : ""}`;

// state: [badge, its class, message, hint]. An empty message leaves the picture alone.
const WORDS = {
  connecting: ["Connecting", "", "", ""],
  playing: ["Live", "live", "", ""],
  stalled: ["Waiting", "warn", "Waiting for the programme", "It goes on by itself."],
  blocked: ["Ready", "", "", ""],
  ended: ["Ended", "", "The programme has ended", "If it starts again, it will be seen here."],
  "off-air": ["Not on air", "", "Not on air", "The programme starts here by itself as soon as it begins."],
  unreachable: ["No connection", "warn", "The server cannot be reached", "Trying again."],
  refused: ["Refused", "warn", "This programme needs a key", "Ask whoever sent you here for the complete link."],
  broken: ["Reconnecting", "warn", "Reconnecting", ""],
  "no-hls": ["Not set up", "warn", "Watching in a browser is not set up here", "The operator has to add [plugins.hls] to the relay's configuration."],
  unsupported: ["Not supported", "warn", "This browser cannot play the programme", "A current Chrome, Edge, Firefox or Safari can."],
};

function show(state) {
  const [badge, kind, message, hint] = WORDS[state];
  element("player").dataset.state = state;
  element("badge").textContent = badge;
  element("badge").className = `badge ${kind}`;
  const keyed = state === "refused" && passed.size > 0;
  element("message").textContent = keyed ? "The key in this link is not accepted" : message;
  element("hint").textContent = hint;
}

function showStill(video, still) {
  if (!video.videoWidth) return;
  still.width = video.videoWidth;
  still.height = video.videoHeight;
  still.getContext("2d").drawImage(video, 0, 0);
  still.hidden = false;
}

async function main() {
  document.title = `${name} – watch`;
  element("name").textContent = name;
  if (self.parent !== self) document.documentElement.classList.add("embedded");
  if (document.documentElement.dataset.hls === "off") return show("no-hls");
  show("connecting");
  const video = element("video");
  const make = await chooseEngine(video);
  if (!make) return show("unsupported");
  const keeper = new Keeper(video, make, playlist);
  keeper.addEventListener("state", () => {
    show(keeper.state);
    if (keeper.state === "playing" || keeper.state === "ended" || keeper.state === "off-air") element("still").hidden = true;
  });
  keeper.addEventListener("leaving", () => showStill(video, element("still")));
  new Controls(keeper, video, element("player"));
}

main();
