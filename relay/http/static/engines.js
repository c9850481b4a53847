// What plays the playlist: hls.js, or the browser's own player where hls.js cannot work.
//
// An engine is made for one attempt. It says what happens by `report(kind)`, plays until `destroy()`, and never tries
// again by itself: that is the keeper's. Kinds: "tracks" (choices have changed), "ended", "off-air", "refused",
// "unreachable", "broken".

import { Captions } from "/static/captions.js";

const VENDOR = "/static/vendor/hls-1.7.4/";

const once = { maxTimeToFirstByteMs: 10_000, maxLoadTimeMs: 15_000, timeoutRetry: null, errorRetry: null };
const quick = { maxNumRetry: 3, retryDelayMs: 300, maxRetryDelayMs: 1_500 };
const retried = { maxTimeToFirstByteMs: 10_000, maxLoadTimeMs: 20_000, timeoutRetry: quick, errorRetry: quick };

const ASLEEP_PARTS = 2.5; // so many parts without a request, though there are new ones

const CONFIG = {
  lowLatencyMode: true,
  maxLiveSyncPlaybackRate: 1.25, // from 0.7 s behind, less the nearer it comes; the browser keeps the pitch
  liveSyncOnStallIncrease: 0.3, // hls.js would stay a whole second further behind after every stall
  backBufferLength: 60,
  workerPath: `${VENDOR}hls.worker.js`,
  enableInterstitialPlayback: false,
  manifestLoadPolicy: { default: once },
  playlistLoadPolicy: { default: retried },
  fragLoadPolicy: { default: retried },
};

/** Load what this browser needs; null when it can play no HLS at all. */
export async function chooseEngine(video) {
  if (self.MediaSource || self.ManagedMediaSource) {
    const { default: Hls } = await import(`${VENDOR}hls.min.mjs`);
    if (Hls.isSupported()) return (url, report) => new HlsEngine(Hls, video, url, report);
  }
  if (video.canPlayType("application/vnd.apple.mpegurl")) return (url, report) => new NativeEngine(video, url, report);
  return null;
}

/** What an HTTP status says about a playlist. */
function kindOf(status) {
  if (status === 401 || status === 403) return "refused";
  if (status === 404 || status === 410) return "off-air";
  return status >= 200 && status < 300 ? "broken" : "unreachable";
}

function choice(value, name, language) {
  return { value, text: name || language || `Track ${value + 1}` };
}

class HlsEngine {
  #hls;
  #video;
  #report;
  #joined = false;
  #fetching = false;
  #fetched = performance.now(); // when it last had something to fetch
  #mended = -Infinity;

  constructor(Hls, video, url, report) {
    this.#video = video;
    this.#report = report;
    const captions = new Captions(video);
    const hls = (this.#hls = new Hls({ ...CONFIG, ...captions.config(Hls) }));
    captions.follow(Hls, hls);
    hls.on(Hls.Events.MANIFEST_PARSED, () => {
      hls.attachMedia(video);
      report("tracks");
    });
    hls.on(Hls.Events.AUDIO_TRACKS_UPDATED, () => report("tracks"));
    hls.on(Hls.Events.AUDIO_TRACK_SWITCHED, () => report("tracks"));
    hls.on(Hls.Events.LEVEL_SWITCHED, () => report("tracks"));
    hls.on(Hls.Events.LEVEL_LOADED, (_, { details }) => this.#loaded(details));
    hls.on(Hls.Events.FRAG_LOADING, () => (this.#fetching = true));
    for (const done of [Hls.Events.FRAG_LOADED, Hls.Events.FRAG_LOAD_EMERGENCY_ABORTED, Hls.Events.ERROR]) {
      hls.on(done, () => {
        this.#fetching = false;
        this.#fetched = performance.now();
      });
    }
    hls.on(Hls.Events.ERROR, (_, data) => this.#failed(Hls, data));
    hls.loadSource(url);
  }

  #loaded(details) {
    // Whoever comes when all is over sees that it is over, not the last minute again.
    if (!details.live && !this.#joined) this.#report("ended");
    this.#joined = true;
  }

  #failed(Hls, data) {
    if (!data.fatal) return;
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && performance.now() - this.#mended > 5_000) {
      this.#mended = performance.now();
      this.#hls.recoverMediaError();
      return;
    }
    if (data.type !== Hls.ErrorTypes.NETWORK_ERROR) return this.#report("broken");
    const kind = kindOf(data.response?.code);
    // Only the first playlist knows the key: those behind it refuse what a relay gave out before it was restarted.
    this.#report(kind === "refused" && this.#hls.levels.length ? "broken" : kind);
  }

  destroy() {
    this.#hls.destroy();
  }

  /** Its buffer runs out and it asks for nothing although the playlist has more. hls.js 1.7.4 does that, and goes on for
   * ever with playlists alone, behind a segment of one picture without sound: what a failover leaves of a segment that
   * had just begun. Only a jump helps. */
  get asleep() {
    const { partList, partTarget, edge } = this.#hls.latestLevelDetails ?? {};
    if (!partList || this.#fetching) return false;
    const { buffered, currentTime } = this.#video;
    const held = buffered.length ? buffered.end(buffered.length - 1) : 0;
    const starves = held - currentTime < 3 * partTarget && edge > held + partTarget;
    return starves && performance.now() - this.#fetched > ASLEEP_PARTS * partTarget * 1000;
  }

  /** Seconds behind the encoder: by the programme's own clock where that agrees with this machine's. */
  get latency() {
    const behindEdge = this.#hls.latency;
    if (!behindEdge) return null;
    const date = this.#hls.playingDate;
    const behindClock = date ? (Date.now() - date.getTime()) / 1000 : NaN;
    return behindClock > behindEdge - 0.3 && behindClock < behindEdge + 5 ? behindClock : behindEdge;
  }

  get target() {
    return this.#hls.targetLatency ?? 0;
  }

  /** The newest moment of the programme that is known. It moves while an encoder sends. */
  get edge() {
    return this.#hls.latestLevelDetails?.edge ?? 0;
  }

  get window() {
    const details = this.#hls.latestLevelDetails;
    return details ? [Math.max(details.fragmentStart, 0), this.#hls.liveSyncPosition ?? details.edge] : null;
  }

  goLive() {
    const position = this.#hls.liveSyncPosition;
    if (position !== null) this.#video.currentTime = position;
  }

  get qualities() {
    const levels = this.#hls.levels.map(({ height, bitrate, name }, value) => {
      const rate = bitrate >= 1e6 ? `${(bitrate / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bitrate / 1e3)} kbit/s`;
      return { value, text: `${height ? `${height}p` : name || "Video"}, ${rate}` };
    });
    return { choices: levels.reverse(), chosen: this.#hls.autoLevelEnabled ? -1 : this.#hls.loadLevel };
  }

  chooseQuality(index) {
    this.#hls.nextLevel = index;
  }

  get audios() {
    const choices = this.#hls.audioTracks.map((track, value) => choice(value, track.name, track.lang));
    return { choices, chosen: this.#hls.audioTrack };
  }

  chooseAudio(index) {
    this.#hls.audioTrack = index;
  }

  get codecs() {
    const level = this.#hls.levels[this.#hls.currentLevel] ?? this.#hls.levels[0];
    const audio = this.#hls.audioTracks[this.#hls.audioTrack]?.audioCodec ?? level?.audioCodec;
    return [level?.videoCodec, audio].filter(Boolean).join(", ");
  }
}

class NativeEngine {
  #video;
  #report;
  #ear = new AbortController();

  constructor(video, url, report) {
    this.#video = video;
    this.#report = report;
    const options = { signal: this.#ear.signal };
    video.addEventListener("loadedmetadata", () => report("tracks"), options);
    video.addEventListener("error", () => this.#explain(url), options);
    video.src = url;
  }

  async #explain(url) {
    let kind = "unreachable"; // a media element does not say why
    try {
      const answer = await fetch(url, { cache: "no-store", signal: this.#ear.signal });
      kind = kindOf(answer.status);
    } catch {
      if (this.#ear.signal.aborted) return;
    }
    this.#report(kind);
  }

  destroy() {
    this.#ear.abort();
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  get asleep() {
    return false; // nobody is told
  }

  get latency() {
    const start = this.#video.getStartDate?.().getTime();
    if (start) return (Date.now() - start) / 1000 - this.#video.currentTime;
    return this.edge ? this.edge - this.#video.currentTime : null;
  }

  get target() {
    return 3; // what browsers keep by themselves is not told
  }

  get edge() {
    const { seekable } = this.#video;
    return seekable.length ? seekable.end(seekable.length - 1) : 0;
  }

  get window() {
    const { seekable } = this.#video;
    return seekable.length ? [seekable.start(0), this.edge] : null;
  }

  goLive() {
    if (this.edge) this.#video.currentTime = Math.max(this.window[0], this.edge - this.target);
  }

  get qualities() {
    return { choices: [], chosen: -1 };
  }

  chooseQuality() {}

  get audios() {
    const tracks = [...(this.#video.audioTracks ?? [])];
    const choices = tracks.map((track, value) => choice(value, track.label, track.language));
    return { choices, chosen: tracks.findIndex((track) => track.enabled) };
  }

  chooseAudio(index) {
    [...this.#video.audioTracks].forEach((track, i) => (track.enabled = i === index));
  }

  get codecs() {
    return "";
  }
}
