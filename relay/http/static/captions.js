// CEA-608 captions that are inside the pictures: hls.js decodes them, this shows them.
//
// hls.js gives a caption out when it is over, which is when its text is complete. In low-latency HLS the viewer is less
// than a second behind the newest picture, so nearly all of its time would have passed by then. Therefore the text that
// is on screen so far is shown from its first part on, and gets its end when that is known.

const LONGEST_S = 20; // a caption whose end was lost goes away
const KEPT_S = 120; // for whoever goes back

export class Captions {
  #video;
  #open = new Map(); // name of a channel -> what is on screen: its text and cues

  constructor(video) {
    this.#video = video;
    for (const track of video.textTracks) [...(track.cues ?? [])].forEach((cue) => track.removeCue(cue));
  }

  /** What hls.js is to be told. */
  config(Hls) {
    const captions = this;
    return {
      renderTextTracksNatively: false,
      timelineController: class extends Hls.DefaultConfig.timelineController {
        onFragLoading(event, data) {
          // hls.js 1.7.4 takes each part for a jump, and forgets the half of a caption that it has.
          const { frag, part } = data;
          const goesOn = part && frag.sn === this.lastSn && frag.cc === this.lastCc && part.index === this.lastPartIndex + 1;
          if (goesOn) this.lastPartIndex = part.index;
          else super.onFragLoading(event, data);
        }

        onFragParsingUserdata(event, data) {
          super.onFragParsingUserdata(event, data);
          const parsers = [this.cea608Parser1, this.cea608Parser2];
          for (const channel of parsers.flatMap((parser) => parser?.channels ?? [])) {
            if (channel?.outputFilter) captions.#showSoFar(channel);
          }
        }
      },
    };
  }

  /** Listen to an hls.js. */
  follow(Hls, hls) {
    hls.on(Hls.Events.CUES_PARSED, (_, { type, cues, track }) => type === "captions" && this.#close(track, cues));
  }

  #track(name) {
    const label = `Captions ${name.slice(-1)}`;
    const found = [...this.#video.textTracks].find((track) => track.label === label);
    if (found) return found;
    const made = this.#video.addTextTrack("captions", label);
    made.mode = "hidden";
    return made;
  }

  #showSoFar({ outputFilter: { trackName }, cueStartTime, displayedMemory }) {
    const cues = cueStartTime === null ? [] : cuesOf(cueStartTime, displayedMemory.rows);
    const text = textOf(cues);
    if (text === (this.#open.get(trackName)?.text ?? "")) return;
    this.#forget(trackName);
    if (!text) return;
    const track = this.#track(trackName);
    cues.forEach((cue) => track.addCue(cue));
    this.#open.set(trackName, { text, cues });
  }

  #close(name, cues) {
    const open = this.#open.get(name);
    this.#forgetOld(this.#track(name));
    if (open && cues.length && open.text === textOf(cues)) {
      open.cues.forEach((cue) => (cue.endTime = cues[0].endTime));
      this.#open.delete(name);
      return;
    }
    this.#forget(name);
    cues.forEach((cue) => this.#track(name).addCue(cue));
  }

  #forgetOld(track) {
    const old = this.#video.currentTime - KEPT_S;
    [...(track.cues ?? [])].filter((cue) => cue.endTime < old).forEach((cue) => track.removeCue(cue));
  }

  #forget(name) {
    this.#open.get(name)?.cues.forEach((cue) => this.#track(name).removeCue(cue));
    this.#open.delete(name);
  }
}

function cuesOf(start, rows) {
  return rows.flatMap((row, index) => {
    const text = row.getTextString();
    if (!text.trim()) return [];
    const cue = new VTTCue(start, start + LONGEST_S, text.trim());
    cue.line = index + 1;
    cue.align = "left";
    cue.position = 10 + Math.min(80, 10 * Math.floor((8 * (text.length - text.trimStart().length)) / 32));
    return [cue];
  });
}

function textOf(cues) {
  return cues.map(({ text }) => text).sort().join("\n");
}
