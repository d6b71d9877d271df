// Shows one image at a time, takes ranks or scores by key or button, keeps them, exports them.
(() => {
  const all = (root, selector) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const given = document.body.dataset;
  const scenes = all(document, ".scene").map((section) => ({ section, results: all(section, ".result") }));
  const count = scenes[0].results.length;
  all(document, "[data-as]").forEach((image) => {
    image.src = scenes[image.dataset.as].section.querySelector(`img[alt="${image.alt}"]`).src;
  });

  // Ranks are 1 to the number of results, each given once, and 0 is none; a score is 0 to 5, and -1 is none.
  const isRanking = given.kind === "ranks";
  const [none, least, most] = isRanking ? [0, 1, count] : [-1, 0, 5];
  const one = given.one;

  // Who made what: opened only for the export.
  const unveil = () => {
    const salt = given.salt.match(/../g).map((digits) => parseInt(digits, 16));
    const bytes = Uint8Array.from(atob(given.table), (char, at) => char.charCodeAt(0) ^ salt[at % salt.length]);
    return JSON.parse(new TextDecoder().decode(bytes));
  };

  // What is kept: the image that is shown, and a rank or score a result.
  const place = `ddnsr-${given.kind}/${given.page}/${given.seed}`;
  const fresh = () => ({ at: 0, rater: "", ranks: scenes.map(() => Array(count).fill(none)) });
  const isRow = (row) => Array.isArray(row) && row.length === count && row.every((rank, at) =>
    Number.isInteger(rank) && (rank === none || (rank >= least && rank <= most))
    && (rank === none || row.indexOf(rank) === at));
  const isState = (state) => state && Number.isInteger(state.at) && state.at >= 0 && state.at <= scenes.length
    && typeof state.rater === "string" && Array.isArray(state.ranks) && state.ranks.length === scenes.length
    && state.ranks.every(isRow) && state.ranks.slice(0, state.at).every((row) => !row.includes(none));
  const load = () => {
    try {
      const state = JSON.parse(localStorage.getItem(place));
      if (isState(state)) return state;
    } catch { /* no storage, or not ours: begin anew */ }
    return fresh();
  };
  let state = load();
  const keep = () => {
    try {
      localStorage.setItem(place, JSON.stringify(state));
    } catch {
      byId("kept").textContent = "This browser keeps nothing for this page: finish and export before it is closed.";
    }
  };

  const tell = (text) => { byId("told").textContent = text; };
  const isDone = (at) => state.ranks[at].every((rank) => rank !== none);
  const results = () => (state.at < scenes.length ? scenes[state.at].results : []);
  const current = () => results().indexOf(document.activeElement?.closest(".result"));

  // The button that clears asks for a second press, unless all was exported as it is.
  const clear = byId("clear"), label = clear.textContent;
  let exported = "", asked = false;
  const ask = (again) => {
    asked = again;
    clear.textContent = again ? `Press again to clear all ${one}s` : label;
  };

  const draw = () => {
    ask(false);
    scenes.forEach(({ section }, at) => { section.hidden = at !== state.at; });
    const finished = state.at === scenes.length;
    byId("finish").hidden = !finished;
    byId("next").hidden = byId("zoom").hidden = finished;
    byId("back").disabled = state.at === 0;
    const done = scenes.filter((_, at) => isDone(at)).length;
    byId("progress").value = done;
    byId("where").textContent = (finished ? "" : `${isRanking ? "Image" : "Result"} ${state.at + 1} of ${scenes.length}, `)
      + `${done} ${one}${isRanking ? "ed" : "d"}`;
    results().forEach((result, index) => {
      const rank = state.ranks[state.at][index];
      const isGiven = rank !== none;
      result.classList.toggle("ranked", isGiven);
      result.setAttribute("aria-label", `${result.dataset.name}, ${isGiven ? `${one} ${rank}` : `no ${one}`}`);
      all(result, "button").forEach((button) => button.setAttribute("aria-pressed", Number(button.dataset.value) === rank));
    });
  };

  // At the end not the field for the name: digits that are still typed by habit would land in it, and Enter export.
  const focus = ({ scroll = true } = {}) => {
    const open = state.at < scenes.length ? state.ranks[state.at].indexOf(none) : -1;
    const target = results()[Math.max(0, open)] ?? byId("finished");
    target.focus({ preventScroll: true });
    if (scroll) target.scrollIntoView({ block: "nearest" });
  };

  // A rank that another result has goes over; that one takes what this one had.
  const give = (index, rank) => {
    const row = state.ranks[state.at];
    const other = row.indexOf(rank);
    if (rank !== none && other >= 0) row[other] = row[index];
    row[index] = rank;
    keep();
    draw();
    tell(isDone(state.at) ? `${isRanking ? "All ranked: " : ""}Enter for the next ${isRanking ? "image" : "result"}.` : "");
    if (rank !== none) focus(); else results()[index].focus();
  };

  // A digit where no result has the focus is for the next open one, and which that was is told.
  const giveNext = (rank) => {
    if (count > 1 && isDone(state.at)) return tell("Choose a result first.");
    focus();
    const result = results()[current()];
    give(current(), rank);
    tell(`${result.getAttribute("aria-label")}. ${byId("told").textContent}`.trim());
  };

  const go = (at) => {
    if (at < 0) return;
    if (at > state.at && !isDone(state.at)) {
      const open = state.ranks[state.at].filter((rank) => rank === none).length;
      tell(open === 1 ? `${isRanking ? "One" : "This"} result has no ${one} yet.` : `${open} results have no ${one} yet.`);
      return;
    }
    state.at = at;
    byId("what").open = at === 0;
    tell("");
    keep();
    draw();
    focus();
    scrollTo(0, 0);
  };

  // Zoom: 0 fits the frame, else screen pixels per image pixel. All images show the same part.
  const ZOOMS = [0, 1, 2, 4];
  const view = { zoom: 0, x: 0.5, y: 0.5 };
  const look = () => {
    const { style, classList } = byId("scenes");
    classList.toggle("zoomed", view.zoom > 0);
    for (const [name, value] of Object.entries(view)) style.setProperty(`--${name}`, value);
    byId("zoom").textContent = `Zoom: ${view.zoom ? `${100 * view.zoom}%` : "fit"}`;
  };
  const zoom = () => {
    view.zoom = ZOOMS[(ZOOMS.indexOf(view.zoom) + 1) % ZOOMS.length];
    look();
  };
  const inside = (part) => Math.min(1, Math.max(0, part));
  const pan = (across, down) => {
    view.x = inside(view.x + across);
    view.y = inside(view.y + down);
    look();
  };
  byId("scenes").addEventListener("pointermove", (event) => {
    const frame = view.zoom && event.target.closest(".frame");
    if (!frame) return;
    const box = frame.getBoundingClientRect();
    view.x = inside((event.clientX - box.left) / box.width);
    view.y = inside((event.clientY - box.top) / box.height);
    look();
  });

  const STEPS = { ArrowRight: [1, 0], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowUp: [0, -1] };
  const onKey = ({ key, shiftKey, target }) => {
    const index = current();
    if (key in STEPS) {
      const [across, down] = STEPS[key];
      if (shiftKey) pan(across / 10, down / 10);
      else results()[index < 0 ? 0 : (index + across + down + count) % count].focus();
    } else if (/^[0-9]$/.test(key) && key <= most) {
      if (index >= 0) give(index, Number(key));
      else giveNext(Number(key));
    } else if (key === "Enter" && target.tagName !== "BUTTON" && target.tagName !== "SUMMARY") go(state.at + 1);
    else if (key === "Backspace") go(state.at - 1);
    else if (key.toLowerCase() === "z") zoom();
    else return false;
    return true;
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.tagName === "INPUT";
    if (typing || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (event.repeat && /^([0-9z]|Enter|Backspace)$/i.test(event.key)) return event.preventDefault(); // held down: once
    if (state.at === scenes.length && event.key !== "Backspace") return;
    if (onKey(event) && event.target.tagName !== "BUTTON") event.preventDefault();
  });

  byId("scenes").addEventListener("click", (event) => {
    const result = event.target.closest(".result");
    if (!result) return;
    const button = event.target.closest("button");
    if (button) give(results().indexOf(result), Number(button.dataset.value));
    else result.focus();
  });
  byId("back").addEventListener("click", () => go(state.at - 1));
  byId("next").addEventListener("click", () => go(state.at + 1));
  byId("zoom").addEventListener("click", (event) => {
    zoom();
    if (event.detail) focus({ scroll: false }); // pressed by the mouse: digits go on ranking
  });

  byId("rater").addEventListener("input", () => {
    state.rater = byId("rater").value;
    keep();
  });
  byId("finish").addEventListener("submit", (event) => {
    event.preventDefault();
    const rater = state.rater.trim();
    if (!rater) return tell("Your name is missing.");
    const { models, images, steps } = unveil();
    const rows = images.map(() => models.map(() => none));
    steps.forEach(([image, shown], at) => shown.forEach((model, index) => { rows[image][model] = state.ranks[at][index]; }));
    const { kind, page, seed } = given;
    const told = { format: `ddnsr-${kind}-1`, page, seed: Number(seed), rater, models, images, [kind]: rows };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(told, null, 1) + "\n"], { type: "application/json" }));
    link.download = `${kind}_${rater.replace(/[^\p{L}\p{N}]+/gu, "_")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it later
    exported = JSON.stringify(state);
    ask(false);
    tell(`Saved as ${link.download}, where this browser puts downloads.`);
  });
  clear.addEventListener("click", (event) => {
    if (event.detail > 1) return; // a double click is one press
    if (!asked && JSON.stringify(state) !== exported) return ask(true);
    state = fresh();
    byId("rater").value = "";
    go(0);
  });

  // In another window of the same page somebody went on: what is seen here would take it back.
  addEventListener("storage", (event) => {
    if (event.key !== place || event.newValue === null) return;
    state = load();
    byId("rater").value = state.rater;
    draw();
  });

  byId("rater").value = state.rater;
  byId("what").open = state.at === 0;
  look();
  draw();
  focus();
})();
