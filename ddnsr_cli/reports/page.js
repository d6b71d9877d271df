// Under the pointer, every panel tells its values at the same step. Without this the page shows the latest ones.
(() => {
  const panels = [...document.querySelectorAll(".panel")].map((panel) => ({
    plot: panel.querySelector(".plot"),
    cursor: panel.querySelector(".cursor"),
    at: panel.querySelector(".at"),
    entries: [...panel.querySelectorAll("li")].map((li) => {
      const [steps, values] = JSON.parse(li.dataset.points);
      const output = li.querySelector("output");
      return { steps, values, output, latest: output.textContent, last: Number(li.dataset.last) };
    }),
  }));

  const nearest = (steps, step) => {
    let low = 0, high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] <= step) low = middle; else high = middle;
    }
    return step - steps[low] <= steps[high] - step ? low : high;
  };

  const show = (step) => {
    for (const { cursor, at, entries } of panels) {
      for (const { steps, values, output } of entries) output.textContent = String(values[nearest(steps, step)]);
      const { steps, last } = entries[0];
      const found = steps[nearest(steps, step)];
      at.textContent = "step " + found.toLocaleString("en");
      cursor.style.left = 100 * found / last + "%";
      cursor.hidden = false;
    }
  };

  const reset = () => {
    for (const { cursor, at, entries } of panels) {
      for (const { output, latest } of entries) output.textContent = latest;
      at.textContent = "latest";
      cursor.hidden = true;
    }
  };

  for (const { plot, entries } of panels) {
    const move = (event) => {
      const box = plot.getBoundingClientRect();
      show(entries[0].last * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    };
    plot.addEventListener("pointerdown", move);
    plot.addEventListener("pointermove", move);
    plot.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") reset(); });
  }
})();
