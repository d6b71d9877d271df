// Sorts and filters the tables and, with them, the images; moves the sliders. Without this everything is shown as it
// was written: all tables, all images, the sliders in the middle.
(() => {
  const all = (root, selector) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const tables = all(document, ".values");
  const holder = byId("cards");
  const cards = new Map(all(holder, ".card").map((card) => [card.id.slice(1), card]));
  const names = new Intl.Collator("en", { numeric: true });

  // The cards that are shown: of the rows that pass the filter, in their order, the first ones.
  const arrange = () => {
    const wanted = byId("filter").value.trim().toLowerCase();
    const table = tables[byId("metric").selectedIndex];
    const most = Number(byId("most").value) || Infinity;
    let shown = 0;
    for (const row of all(table, "tbody tr")) {
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
      const card = cards.get(row.dataset.image);
      if (!card) continue;
      card.hidden = row.hidden || shown >= most;
      if (!card.hidden) shown += 1;
      holder.append(card);
    }
    count(table);
  };
  const count = (table) => {
    const rows = all(table, "tbody tr"), seen = (elements) => elements.filter((element) => !element.hidden).length;
    byId("count").textContent = `${seen(rows)} of ${rows.length} images, ${seen([...cards.values()])} shown below`;
  };

  const valueOf = (row, column) => Number(row.cells[column].dataset.value);

  const sort = (table, column, direction) => {
    const sign = direction === "ascending" ? 1 : -1;
    const compare = column === 0
      ? (a, b) => names.compare(a.cells[0].textContent, b.cells[0].textContent)
      : (a, b) => valueOf(a, column) - valueOf(b, column);
    table.tBodies[0].append(...all(table, "tbody tr").sort((a, b) => sign * compare(a, b)));
    all(table, "thead th").forEach((head, index) => {
      head.setAttribute("aria-sort", index === column ? direction : "none");
    });
  };

  for (const table of tables) {
    all(table, "thead th").forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const other = { ascending: "descending", descending: "ascending" };
        sort(table, column, other[head.getAttribute("aria-sort")] || head.dataset.first);
        arrange();
      });
    });
  }

  // Show one table, sorted by a column, from the worst.
  const choose = (table, column) => {
    sort(table, column, table.tHead.rows[0].cells[column].dataset.first);
    for (const other of tables) other.hidden = other !== table;
    arrange();
  };
  const sortedColumn = (table) => all(table, "thead th").findIndex((th) => th.getAttribute("aria-sort") !== "none");

  byId("metric").append(...tables.map((table) => new Option(table.dataset.title)));
  byId("metric").addEventListener("change", () => {
    choose(tables[byId("metric").selectedIndex], sortedColumn(tables.find((table) => !table.hidden)));
  });
  byId("filter").addEventListener("input", arrange);
  byId("most").addEventListener("change", arrange);
  byId("values").classList.add("scroll");
  byId("tools").hidden = byId("hint").hidden = false;
  byId("metric").selectedIndex = tables.findIndex((table) => table.classList.contains("lead"));
  choose(tables[byId("metric").selectedIndex], Number(byId("values").dataset.lead) + 1);

  // An image that is named, by a link in the table or in the page's address, is shown whatever was chosen.
  const reveal = (image) => {
    const card = cards.get(image);
    if (!card) return;
    card.hidden = false;
    card.focus();
    card.scrollIntoView();
    count(tables[byId("metric").selectedIndex]);
  };
  byId("values").addEventListener("click", (event) => {
    reveal(event.target.closest("a")?.closest("tr").dataset.image);
  });
  const named = () => reveal(location.hash.replace("#p", ""));
  addEventListener("hashchange", named);
  named();

  // One stage: the two images that are seen, and where the left one ends.
  const stages = all(holder, ".stage").map((stage) => {
    const frame = stage.querySelector(".frame"), range = stage.querySelector("input");
    const images = all(frame, "img");
    const selects = { left: stage.querySelector(".view-left"), right: stage.querySelector(".view-right") };
    const places = () => [selects.left.selectedIndex, selects.right.selectedIndex];
    const tell = () => {
      const part = range.value / 10;
      const [left, right] = places().map((place) => images[place].alt);
      frame.style.setProperty("--at", `${part}%`);
      range.setAttribute("aria-valuetext", `${left} ${Math.round(part)}%, ${right} ${Math.round(100 - part)}%`);
    };
    const show = (left, right) => {
      if (left >= images.length || right >= images.length) return; // an image without reference
      selects.left.selectedIndex = left;
      selects.right.selectedIndex = right;
      images.forEach((image, place) => {
        image.classList.toggle("left", place === left);
        image.classList.toggle("right", place === right);
      });
      frame.querySelector(".tag-left").textContent = images[left].alt;
      frame.querySelector(".tag-right").textContent = images[right].alt;
      tell();
    };
    range.addEventListener("input", tell);
    range.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -20, ArrowDown: -20, ArrowRight: 20, ArrowUp: 20 }[event.key];
      if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      range.value = Number(range.value) + step;
      tell();
    });
    tell();
    return { selects, places, show };
  });

  // A choice is for all images, so that the same two models are compared down the page.
  for (const { selects, places } of stages) {
    for (const select of Object.values(selects)) {
      select.addEventListener("change", () => {
        const chosen = places();
        for (const stage of stages) stage.show(...chosen);
      });
    }
  }
})();
