"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const made = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const times = (count, one, more = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : more}`;
  const bytes = (count) => (count >= 1e6 ? `${(count / 1e6).toFixed(1)} MB` : `${Math.max(1, Math.round(count / 1e3))} kB`);
  const size = (width, height) => `${width} \u00d7 ${height}`;
  const LOSSY = ["jpg", "webp", "avif"], BUSY = ["waiting", "working", "stopping"], FRESH = ["ready", "failed"];
  const BUSY_MS = 400, IDLE_MS = 1500, PATIENCE = 4;

  const endings = byId("files").accept.split(",").filter((kind) => kind.startsWith("."));
  const isImage = (name) => endings.some((ending) => name.toLowerCase().endsWith(ending));
  const names = new Intl.Collator("en", { numeric: true });

  const cards = new Map(); // number -> the parts of its card
  let images = [], mark = "", failures = 0, sending = 0, toSend = 0, compared = null, timer = 0;

  const tell = (text) => { byId("alert").textContent = text; byId("alert").hidden = !text; };
  // What was refused of a drop: told until it is dismissed, or until the next drop.
  const refuse = (sentences) => {
    byId("refused-told").textContent = sentences.join(" ");
    byId("refused").hidden = !sentences.length;
  };

  // What the server is asked. Its refusals are one sentence each, and shown as they are.
  async function ask(path, options) {
    const answer = await fetch(path, { cache: "no-store", ...options });
    if (answer.status === 204) return null;
    const told = await answer.json().catch(() => ({ error: `The studio answers with status ${answer.status}.` }));
    if (!answer.ok) throw new Error(told.error);
    return told;
  }
  async function order(options, ...paths) {
    let fault = "";
    for (const path of paths) {
      try {
        await ask(path, options);
      } catch (error) {
        const lost = error instanceof TypeError;
        fault = lost ? "The studio cannot be reached. Was it ended? Start it again: ddnsr studio" : error.message;
        if (lost) break;
      }
    }
    tell(fault);
    await refresh();
  }

  async function refresh() {
    clearTimeout(timer);
    try {
      const state = await ask(`state?since=${mark}`);
      if (failures >= PATIENCE) tell("");
      failures = 0;
      if (state) { ({ mark, images } = state); show(); }
    } catch {
      failures += 1;
      if (failures === PATIENCE) tell("The studio has ended. Start it again (ddnsr studio), and open the address that it prints.");
    }
    clearTimeout(timer);
    timer = setTimeout(refresh, failures || images.some((image) => BUSY.includes(image.state)) ? BUSY_MS : IDLE_MS);
  }

  // Settings.
  const chosen = () => {
    const way = byId("size").value, format = byId("format").value;
    const asked = { model: byId("model").value, format, strength: byId("strength").value / 100, grain: Number(byId("grain").value) };
    if (LOSSY.includes(format)) asked.quality = Number(byId("quality").value);
    if (way === "side") asked.long_side = Number(byId("side").value);
    else asked.scale = Number(way === "factor" ? byId("factor").value : way);
    return asked;
  };
  const larger = (image) => {
    const { scale, long_side: side } = chosen(), above = side || scale, below = side ? Math.max(image.width, image.height) : 1;
    const scaled = (pixels) => Math.max(1, Math.round(pixels * above / below)); // in this order, as the command does
    return size(scaled(image.width), scaled(image.height));
  };
  const offer = (name, wanted) => { byId(`${name}-label`).hidden = byId(name).disabled = !wanted; };
  function settle() {
    offer("factor", byId("size").value === "factor");
    offer("side", byId("size").value === "side");
    offer("quality", LOSSY.includes(byId("format").value));
    byId("about").textContent = byId("model").selectedOptions[0]?.dataset.about ?? "";
    byId("strength-told").textContent = `${byId("strength").value}%`;
    byId("grain-told").textContent = Number(byId("grain").value) ? byId("grain").value : "none";
    show();
  }
  const enlarge = (numbers) => {
    if (!byId("settings").reportValidity()) return;
    order({ method: "POST", body: JSON.stringify({ ...chosen(), images: numbers }) }, "enlarge");
  };

  // The list. Only what has changed is touched, so that the focus stays where it is.
  function card(image) {
    const number = image.number, at = `images/${number}`;
    const parts = {
      thumb: made("button", { type: "button", className: "thumb", onclick: () => compare(number) }),
      name: made("h3"), told: made("p", { className: "told" }), error: made("p", { className: "error" }),
      bar: made("progress", { max: 1 }),
      look: made("button", { type: "button", textContent: "Compare", onclick: () => compare(number) }),
      save: made("a", { className: "button", textContent: "Save", href: `${at}/result`, download: "" }),
      again: made("button", { type: "button", onclick: () => enlarge([number]) }),
      stop: made("button", { type: "button", textContent: "Stop", onclick: () => order({ method: "POST" }, `${at}/stop`) }),
      remove: made("button", { type: "button", textContent: "Remove", onclick: () => order({ method: "DELETE" }, at) }),
    };
    const thumbnail = made("img", { src: `${at}/thumbnail`, alt: "", loading: "lazy", draggable: false });
    thumbnail.onerror = () => thumbnail.remove();
    parts.thumb.append(thumbnail);
    parts.name.textContent = image.name;
    parts.box = made("li", { className: "card item" }, parts.thumb,
      made("div", {}, parts.name, parts.told, parts.error, parts.bar),
      made("div", { className: "acts" }, parts.look, parts.save, parts.again, parts.stop, parts.remove));
    for (const act of ["look", "save", "again", "stop", "remove"]) {
      parts[act].setAttribute("aria-describedby", `name-${number}`);
    }
    parts.name.id = `name-${number}`;
    parts.thumb.setAttribute("aria-label", `Compare ${image.name}`);
    parts.bar.setAttribute("aria-label", `Progress of ${image.name}`);
    return parts;
  }
  const put = (element, property, value) => { if (element[property] !== value) element[property] = value; };
  function sentence(image, place) {
    const from = size(image.width, image.height), done = image.result;
    const arrow = " \u2192 ";
    if (image.state === "ready") return from + arrow + larger(image);
    if (image.state === "waiting") return `${from}, waiting, ${place === 1 ? "next" : `${place - 1} before it`}`;
    if (image.state === "stopping") return `${from}, stopping after this tile`;
    if (image.state === "working") {
      const [here, all] = image.fetched;
      if (all) return `Fetching the model: ${bytes(here)} of ${bytes(all)}`;
      return image.tiles[1] ? `${from}, ${Math.floor(100 * image.tiles[0] / image.tiles[1])}%` : `${from}, beginning`;
    }
    if (!done) return from;
    const facts = [from + arrow + size(done.width, done.height), done.bytes === null ? "its file is gone" : bytes(done.bytes),
      image.model, `${done.seconds} s`, ...image.notes];
    return facts.join(" \u00b7 ");
  }
  function update(image, place) {
    const parts = cards.get(image.number), busy = BUSY.includes(image.state), kept = image.result?.bytes != null;
    put(parts.told, "textContent", sentence(image, place));
    put(parts.error, "textContent", image.error);
    put(parts.error, "hidden", !image.error);
    put(parts.bar, "hidden", image.state !== "working" && image.state !== "stopping");
    const [part, all] = image.fetched[1] ? image.fetched : image.tiles;
    if (all) put(parts.bar, "value", part / all); else parts.bar.removeAttribute("value");
    for (const part of [parts.look, parts.save]) put(part, "hidden", !kept || busy);
    put(parts.thumb, "disabled", !kept || busy);
    put(parts.save, "href", `images/${image.number}/result?v=${image.result?.version ?? 0}`);
    put(parts.again, "hidden", busy || image.state === "ready");
    put(parts.again, "textContent", image.state === "failed" ? "Try again" : "Again");
    put(parts.again, "title", "Enlarge it with the settings as they are now");
    put(parts.stop, "hidden", !busy);
    put(parts.stop, "disabled", image.state === "stopping");
    put(parts.remove, "hidden", busy);
    put(parts.box, "className", `card item ${image.state}`);
  }
  function show() {
    const there = new Set(images.map((image) => image.number));
    for (const [number, parts] of cards) {
      if (there.has(number)) continue;
      const next = parts.box.contains(document.activeElement) && (parts.box.nextSibling ?? parts.box.previousSibling);
      parts.box.remove();
      cards.delete(number);
      if (next) next.querySelector(".acts :not([hidden])")?.focus();
    }
    let place = images.some((image) => ["working", "stopping"].includes(image.state)) ? 1 : 0;
    for (const image of images) {
      if (!cards.has(image.number)) {
        cards.set(image.number, card(image));
        byId("list").append(cards.get(image.number).box);
      }
      update(image, image.state === "waiting" ? (place += 1) : 0);
    }
    sum();
  }
  function sum() { // quick, however many images there are
    const count = (...states) => images.filter((image) => states.includes(image.state)).length;
    const fresh = count(...FRESH), busy = count(...BUSY), results = images.filter((image) => image.result?.bytes != null).length;
    document.body.classList.toggle("some", images.length > 0);
    put(byId("enlarge"), "disabled", !fresh);
    put(byId("enlarge"), "textContent", fresh ? `Enlarge ${times(fresh, "image")}` : "Enlarge");
    put(byId("save-all"), "hidden", results < 2);
    put(byId("save-all"), "textContent", `Save all ${results}`);
    put(byId("stop-all"), "hidden", busy < 2);
    put(byId("clear"), "hidden", !count("done"));
    const words = [];
    if (toSend) words.push(`taking image ${sending} of ${toSend}`);
    if (count("ready")) words.push(`${count("ready")} ready`);
    if (busy) words.push(`${busy} to do`);
    if (count("done")) words.push(`${count("done")} done`);
    if (count("failed")) words.push(`${count("failed")} failed`);
    put(byId("status"), "textContent", words.join(", "));
    put(document, "title", busy ? `(${busy}) ddnsr studio` : "ddnsr studio");
  }

  // Images that come: one after the other, so that a folder of them does not fill the memory.
  const waiting = [], refused = [];
  async function send(files, unread = []) {
    waiting.push(...files);
    refused.push(...unread.map((name) => `${name} could not be read.`));
    toSend += files.length;
    if (toSend > files.length) return; // another call is at it
    refuse([]);
    while (waiting.length) {
      const file = waiting.shift();
      sending += 1;
      sum();
      try {
        await ask(`images?name=${encodeURIComponent(file.name)}`, { method: "PUT", body: file });
        if (sending % 8 === 1) await refresh();
      } catch (error) {
        refused.push(error instanceof TypeError ? `${file.name} could not be sent.` : error.message);
      }
    }
    sending = toSend = 0;
    const told = refused.splice(0), others = told.splice(3).length;
    if (others) told.push(`And ${others.toLocaleString("en")} more like ${others > 1 ? "them" : "it"}.`);
    refuse(told);
    await refresh();
    sum();
  }
  const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));
  const entries = (reader) => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
  async function filesOf(entry, unread) { // unread: takes the names of what cannot be read
    const found = [];
    try {
      if (entry.isFile) return [await fileOf(entry)];
      const reader = entry.createReader();
      for (let some = await entries(reader); some.length; some = await entries(reader)) {
        found.push(...some);
      }
    } catch {
      unread.push(entry.fullPath.replace(/^\//, ""));
    }
    // As the command walks a folder: by name, and what does not even claim to be an image is left out without a word.
    const inside = found.filter((one) => !one.name.startsWith(".") && (one.isDirectory || isImage(one.name)));
    inside.sort((one, other) => names.compare(one.name, other.name));
    return (await Promise.all(inside.map((one) => filesOf(one, unread)))).flat();
  }
  async function dropped(transfer, unread) {
    const all = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean), files = [...transfer.files];
    if (!all.some((entry) => entry.isDirectory)) return files;
    return (await Promise.all(all.map((one) => filesOf(one, unread)))).flat();
  }

  // Comparing.
  const wanted = () => images.find((image) => image.number === compared);
  function fit() {
    const image = wanted(), whole = byId("zoom").getAttribute("aria-pressed") === "true";
    if (!image?.result) return;
    const { width, height } = image.result, pane = byId("pane");
    const factor = whole ? 1 / devicePixelRatio : Math.min(pane.clientWidth / width, pane.clientHeight / height);
    byId("frame").style.width = `${width * factor}px`;
    byId("frame").style.height = `${height * factor}px`;
  }
  function slide() {
    const part = byId("at").value / 10;
    byId("frame").style.setProperty("--at", `${part}%`);
    byId("at").setAttribute("aria-valuetext", `before ${Math.round(part)}%, after ${Math.round(100 - part)}%`);
  }
  function compare(number) {
    compared = number;
    const image = wanted();
    if (!image?.result) return;
    const version = image.result.version;
    byId("compare-name").textContent = `${image.name}: ${size(image.width, image.height)} \u2192 ${size(image.result.width, image.result.height)}`;
    byId("before").src = `images/${number}/before`;
    byId("after").src = `images/${number}/after?v=${version}`;
    byId("compare-save").href = `images/${number}/result?v=${version}`;
    byId("zoom").setAttribute("aria-pressed", "false");
    byId("pane").tabIndex = -1;
    byId("at").value = 500;
    slide();
    byId("compare").showModal();
    fit();
    byId("at").focus();
  }

  byId("settings").addEventListener("input", settle);
  byId("settings").addEventListener("submit", (event) => {
    event.preventDefault();
    enlarge(images.filter((image) => FRESH.includes(image.state)).map((image) => image.number));
  });
  byId("files").addEventListener("change", (event) => { send([...event.target.files]); event.target.value = ""; });
  const those = (...states) => images.filter((one) => states.includes(one.state)).map((one) => `images/${one.number}`);
  byId("stop-all").addEventListener("click", () => {
    order({ method: "POST" }, ...those("waiting", "working").reverse().map((at) => `${at}/stop`));
  });
  byId("clear").addEventListener("click", () => order({ method: "DELETE" }, ...those("done")));
  byId("dismiss").addEventListener("click", () => { refuse([]); byId("files").focus(); });
  byId("zoom").addEventListener("click", () => {
    byId("zoom").setAttribute("aria-pressed", String(byId("zoom").getAttribute("aria-pressed") !== "true"));
    fit();
    const pane = byId("pane");
    pane.tabIndex = pane.scrollWidth > pane.clientWidth || pane.scrollHeight > pane.clientHeight ? 0 : -1; // for its arrows
    pane.scrollTo((pane.scrollWidth - pane.clientWidth) / 2, (pane.scrollHeight - pane.clientHeight) / 2);
  });
  byId("close").addEventListener("click", () => byId("compare").close());
  byId("compare").addEventListener("close", () => { byId("before").removeAttribute("src"); byId("after").removeAttribute("src"); });
  byId("at").addEventListener("input", slide);
  byId("at").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -20, ArrowDown: -20, ArrowRight: 20, ArrowUp: 20 }[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    byId("at").value = Number(byId("at").value) + step;
    slide();
  });
  addEventListener("resize", fit);
  let inside = 0; // elements are entered before the one around them is left
  addEventListener("dragenter", () => { inside += 1; document.body.classList.add("over"); });
  addEventListener("dragleave", () => { inside -= 1; if (inside <= 0) document.body.classList.remove("over"); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    inside = 0;
    document.body.classList.remove("over");
    const unread = [], files = await dropped(event.dataTransfer, unread);
    if (!files.length && !unread.length) return refuse(["No image files were in what was dropped."]);
    send(files, unread.sort(names.compare));
  });
  addEventListener("paste", (event) => { if (event.clipboardData.files.length) send([...event.clipboardData.files]); });
  addEventListener("beforeunload", (event) => { if (toSend) event.preventDefault(); });

  settle();
  refresh();
})();
