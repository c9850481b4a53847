// Keeps the programme running: starts an engine, watches it, and starts another when it can go no further.
//
// The rule it guards: a viewer never has to reload the page. Whatever ends - the encoder, the relay, the network - is
// asked for again, ever less often while there is nothing, and with some chance in it, so that an audience that lost a
// relay does not come back in one moment.

const TICK_MS = 250;
const STALLED_MS = 1_000; // said to the viewer
const NUDGE_MS = 4_000; // the programme goes on and we do not: jump to its newest picture
const REBUILD_MS = 8_000; // that did not help
const GIVE_UP_MS = 20_000; // nothing is coming: perhaps the playlist is somewhere else now
const LATE_S = 4; // further behind than intended, and nobody asked for it

// First and longest wait in seconds before the next attempt, by what ended the last one.
const WAITS = {
  "off-air": [1, 10],
  ended: [2, 10],
  unreachable: [0.5, 8],
  refused: [10, 30],
  broken: [0.5, 8],
};

export class Keeper extends EventTarget {
  engine = null;
  state = "connecting";
  stalls = 0;
  behindOnPurpose = false;
  wanted = true; // the viewer has not paused

  #video;
  #make;
  #url;
  #tries = 0;
  #timer = 0;
  #moved = 0; // when the picture last moved
  #time = -1;
  #grew = 0; // when the programme last grew
  #edge = 0;
  #nudged = 0;

  constructor(video, make, url) {
    super();
    this.#video = video;
    this.#make = make;
    this.#url = url;
    video.addEventListener("ended", () => this.#report("ended"));
    video.addEventListener("playing", () => this.#enter("playing"));
    video.addEventListener("seeking", () => (this.#moved = performance.now()));
    setInterval(() => this.#watch(), TICK_MS);
    self.addEventListener("online", () => this.#timer && this.#attempt());
    this.#attempt();
  }

  #attempt() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#moved = this.#grew = performance.now();
    this.#time = -1;
    this.#edge = 0;
    this.behindOnPurpose = false;
    const engine = (this.engine = this.#make(this.#url, (kind) => this.engine === engine && this.#report(kind)));
  }

  #report(kind) {
    if (!this.engine) return;
    if (kind === "tracks") {
      this.dispatchEvent(new Event("tracks"));
      if (this.wanted) this.play();
      return;
    }
    this.dispatchEvent(new Event("leaving")); // the last picture can still be copied
    this.engine.destroy();
    this.engine = null;
    const [first, longest] = WAITS[kind];
    const seconds = Math.min(longest, first * 1.6 ** this.#tries++) * (0.7 + 0.6 * Math.random());
    this.#timer = setTimeout(() => this.#attempt(), seconds * 1000);
    this.#enter(kind);
  }

  #enter(state) {
    if (state === "stalled" && this.state === "playing") this.stalls += 1;
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  /** Start the picture; a browser may refuse that until somebody touches the page. */
  async play() {
    this.wanted = true;
    try {
      await this.#video.play();
    } catch (error) {
      if (error.name === "NotAllowedError") this.#enter("blocked");
    }
  }

  pause() {
    this.wanted = false;
    this.behindOnPurpose = true;
    this.#video.pause();
  }

  goLive() {
    this.behindOnPurpose = false;
    this.engine?.goLive();
    if (this.#video.paused) this.play();
  }

  /** Move by some seconds within what can be reached. */
  seek(seconds) {
    const reach = this.engine?.window;
    if (!reach) return;
    const wanted = this.#video.currentTime + seconds;
    if (wanted >= reach[1]) return this.goLive();
    this.behindOnPurpose = true;
    this.#video.currentTime = Math.max(reach[0], wanted);
  }

  get late() {
    return this.engine?.latency > this.engine?.target + LATE_S;
  }

  #watch() {
    if (!this.engine) return;
    const now = performance.now();
    if (this.engine.edge !== this.#edge) {
      this.#edge = this.engine.edge;
      this.#grew = now;
    }
    if (!this.#video.paused && !this.behindOnPurpose && this.engine.asleep) this.#nudge(now);
    if (this.#video.currentTime !== this.#time || this.#video.paused) {
      this.#time = this.#video.currentTime;
      this.#moved = now;
      if (!this.#video.paused && this.#video.readyState > 2) {
        this.#enter("playing");
        this.#tries = 0;
      }
      if (this.late && !this.behindOnPurpose && !this.#video.paused) this.#nudge(now);
      return;
    }
    const still = now - this.#moved;
    const growing = now - this.#grew < 2_000;
    if (still > GIVE_UP_MS || (still > REBUILD_MS && growing)) return this.#report("broken");
    if (growing && still > NUDGE_MS) this.#nudge(now);
    if (still > STALLED_MS && this.state === "playing") this.#enter("stalled");
  }

  #nudge(now) {
    if (now - this.#nudged < 5_000) return;
    this.#nudged = now;
    this.engine.goLive();
  }
}
