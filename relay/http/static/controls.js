// Buttons, menus, keys and numbers of the player. Everything works by keyboard; everything says what it is.

const element = (id) => document.getElementById(id);

const SEEK_S = 5;
const VOLUME_STEP = 0.05;
const IDLE_MS = 3_000; // the controls fade
const REFRESH_MS = 500;

export class Controls {
  #keeper;
  #video;
  #player;
  #idle = 0;

  constructor(keeper, video, player) {
    this.#keeper = keeper;
    this.#video = video;
    this.#player = player;
    this.#wireButtons();
    this.#wireMenus();
    this.#wireCaptions();
    document.addEventListener("keydown", (event) => this.#key(event));
    for (const kind of ["pointermove", "pointerdown", "keydown", "focusin"]) player.addEventListener(kind, () => this.#wake());
    keeper.addEventListener("state", () => this.#refresh());
    setInterval(() => this.#refresh(), REFRESH_MS);
    this.#wake();
    this.#refresh();
  }

  // Buttons.

  #wireButtons() {
    const video = this.#video;
    element("play").addEventListener("click", () => this.#togglePlay());
    element("start").addEventListener("click", () => this.#togglePlay());
    element("mute").addEventListener("click", () => this.#toggleMute());
    element("unmute").addEventListener("click", () => this.#toggleMute());
    element("live").addEventListener("click", () => this.#keeper.goLive());
    element("captions").addEventListener("click", () => this.#nextCaptions());
    element("full").addEventListener("click", () => this.#toggleFull());
    element("volume").addEventListener("input", (event) => this.#setVolume(event.target.value / 100));
    // Who clicks with a mouse wants the space bar for the picture, not for the button that was clicked.
    this.#player.addEventListener("click", (event) => event.detail && event.target.closest("button")?.blur());
    video.addEventListener("click", () => this.#togglePlay());
    video.addEventListener("dblclick", () => this.#toggleFull());
    for (const kind of ["play", "pause", "volumechange"]) video.addEventListener(kind, () => this.#refresh());
    document.addEventListener("fullscreenchange", () => this.#refresh());
    const canFill = document.fullscreenEnabled || video.webkitEnterFullscreen;
    element("full").hidden = !canFill;
  }

  #togglePlay() {
    if (this.#video.paused) this.#keeper.play();
    else this.#keeper.pause();
  }

  #toggleMute() {
    this.#video.muted = !this.#video.muted;
    if (!this.#video.muted && this.#video.volume === 0) this.#video.volume = 0.5;
  }

  #setVolume(volume) {
    this.#video.volume = Math.min(1, Math.max(0, volume));
    this.#video.muted = this.#video.volume === 0;
  }

  #toggleFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.#player.requestFullscreen) this.#player.requestFullscreen().catch(() => {});
    else this.#video.webkitEnterFullscreen?.();
  }

  // Menus.

  #wireMenus() {
    this.#keeper.addEventListener("tracks", () => this.#fillMenus());
    element("quality").addEventListener("change", (event) => this.#keeper.engine?.chooseQuality(Number(event.target.value)));
    element("audio").addEventListener("change", (event) => this.#keeper.engine?.chooseAudio(Number(event.target.value)));
  }

  #fillMenus() {
    const { qualities, audios } = this.#keeper.engine;
    fill("quality", [{ value: -1, text: "Automatic" }, ...qualities.choices], qualities.chosen);
    fill("audio", audios.choices, audios.chosen);
    element("quality-choice").hidden = qualities.choices.length < 2;
    element("audio-choice").hidden = audios.choices.length < 2;
  }

  // Captions.

  #wireCaptions() {
    this.#video.textTracks.addEventListener("addtrack", () => this.#refresh());
    this.#video.textTracks.addEventListener("removetrack", () => this.#refresh());
  }

  get #captions() {
    return [...this.#video.textTracks].filter(({ kind }) => kind === "captions" || kind === "subtitles");
  }

  #nextCaptions() {
    const tracks = this.#captions;
    const next = tracks.findIndex(({ mode }) => mode === "showing") + 1; // after the last one: none
    tracks.forEach((track, index) => (track.mode = index === next ? "showing" : "hidden"));
    this.#refresh();
  }

  // Keys.

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    const { target } = event;
    if (target instanceof HTMLSelectElement) return;
    // A button has its own use of the space bar, a slider its own of the arrows.
    if (event.key === " " && target instanceof Element && target.closest("button, summary, a")) return;
    if (event.key.startsWith("Arrow") && target instanceof HTMLInputElement) return;
    const act = this.#acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
    this.#wake();
    this.#refresh();
  }

  #acts = {
    " ": () => this.#togglePlay(),
    k: () => this.#togglePlay(),
    m: () => this.#toggleMute(),
    f: () => this.#toggleFull(),
    c: () => this.#nextCaptions(),
    l: () => this.#keeper.goLive(),
    ArrowLeft: () => this.#keeper.seek(-SEEK_S),
    ArrowRight: () => this.#keeper.seek(SEEK_S),
    ArrowUp: () => this.#setVolume((this.#video.muted ? 0 : this.#video.volume) + VOLUME_STEP),
    ArrowDown: () => this.#setVolume((this.#video.muted ? 0 : this.#video.volume) - VOLUME_STEP),
  };

  #wake() {
    this.#player.classList.remove("idle");
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      const used = element("controls").contains(document.activeElement) && document.activeElement.matches(":focus-visible");
      if (!this.#video.paused && !used) this.#player.classList.add("idle");
    }, IDLE_MS);
  }

  // What is shown.

  #refresh() {
    const video = this.#video;
    const { engine, state } = this.#keeper;
    const on = state === "playing" || state === "stalled";
    this.#player.classList.toggle("paused", video.paused);
    this.#player.classList.toggle("muted", video.muted);
    this.#player.classList.toggle("full", Boolean(document.fullscreenElement));
    element("play").setAttribute("aria-label", video.paused ? "Play" : "Pause");
    element("mute").setAttribute("aria-label", video.muted ? "Unmute" : "Mute");
    element("full").setAttribute("aria-label", document.fullscreenElement ? "Leave full screen" : "Full screen");
    element("volume").value = video.muted ? 0 : Math.round(video.volume * 100);
    element("unmute").hidden = !(video.muted && on && !video.paused);
    element("start").hidden = !(video.paused && (on || state === "blocked"));
    this.#refreshCaptions();
    this.#refreshLatency(on ? engine : null);
    if (element("numbers").open) this.#refreshNumbers(engine);
  }

  #refreshCaptions() {
    const tracks = this.#captions;
    const shown = tracks.find(({ mode }) => mode === "showing");
    const button = element("captions");
    button.hidden = tracks.length === 0;
    button.setAttribute("aria-pressed", String(Boolean(shown)));
    button.setAttribute("aria-label", shown ? `Captions: ${shown.label || shown.language || "on"}` : "Captions: off");
  }

  #refreshLatency(engine) {
    const behind = engine?.latency ?? null;
    const live = engine !== null && !this.#keeper.late && !this.#video.paused;
    element("live").classList.toggle("is-live", live);
    element("live-text").textContent = live ? "Live" : "Go live";
    element("live").disabled = engine === null;
    element("latency").textContent = behind === null ? "" : `${behind.toFixed(1)} s behind`;
    this.#player.dataset.latency = behind === null ? "" : behind.toFixed(3);
  }

  #refreshNumbers(engine) {
    const video = this.#video;
    const { buffered } = video;
    const ahead = buffered.length ? buffered.end(buffered.length - 1) - video.currentTime : 0;
    const quality = video.getVideoPlaybackQuality?.();
    const set = (id, text) => (element(id).textContent = text || "–");
    set("n-size", video.videoWidth ? `${video.videoWidth} × ${video.videoHeight}` : "");
    set("n-codecs", engine?.codecs);
    set("n-latency", engine?.latency ? `${engine.latency.toFixed(2)} s (intended from the newest part: ${engine.target.toFixed(1)} s)` : "");
    set("n-buffer", `${Math.max(0, ahead).toFixed(2)} s`);
    set("n-lost", quality ? `${quality.droppedVideoFrames} of ${quality.totalVideoFrames}` : "");
    set("n-stalls", String(this.#keeper.stalls));
  }
}

function fill(id, choices, chosen) {
  const options = choices.map(({ value, text }) => new Option(text, value, false, value === chosen));
  element(id).replaceChildren(...options);
}
