"use strict";
const root = document.documentElement;
const figures = JSON.parse(document.getElementById("figures").textContent);
const night = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Set();

function draw(place) {
  const figure = figures[Number(place.id.slice(5))];
  const look = getComputedStyle(document.body);
  const layout = { ...figure.layout, font: { color: look.color, family: look.fontFamily } };
  if (innerWidth < 500) layout.margin = { ...layout.margin, l: 44, r: 6 };
  Plotly.react(place, figure.data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  drawn.add(place);
}
const places = [...document.querySelectorAll(".plot")];
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
}, { rootMargin: "400px" });
places.forEach((place) => seen.observe(place));
// Paper is white, whatever the screen is.
let chosen;
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  chosen = root.dataset.theme;
  root.dataset.theme = "light";
  places.forEach(draw);
});
addEventListener("afterprint", () => {
  if (chosen) root.dataset.theme = chosen; else delete root.dataset.theme;
  places.forEach(draw);
});

// The system decides between light and dark until the reader does.
const theme = document.getElementById("theme");
const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : night.matches);
function retheme() {
  theme.textContent = dark() ? "Light" : "Dark";
  theme.setAttribute("aria-label", dark() ? "Use light colours" : "Use dark colours");
  drawn.forEach(draw);
}
theme.hidden = false;
theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; retheme(); });
night.addEventListener("change", retheme);
retheme();

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, n) => {
    const text = row.cells[n].dataset.sort;
    return text === "" ? null : Number.isNaN(Number(text)) && text !== "inf" && text !== "-inf" ? text : Number(text.replace("inf", "Infinity"));
  };
  heads.forEach((head, n) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort((a, b) => {
      const [x, y] = [key(a, n), key(b, n)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
    });
    body.append(...rows);
  }));
  const part = table.closest(".table");
  const field = part.querySelector("input");
  const count = part.querySelector(".count");
  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      left += !row.hidden;
    }
    count.textContent = `${left} of ${rows.length} rows`;
  };
  field.addEventListener("input", filter);
  filter();
}

for (const part of document.querySelectorAll(".code")) {
  const text = part.querySelector("code").textContent;
  const done = part.querySelector(".done");
  part.querySelector(".copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Pages from files may have no clipboard: select and copy as ever.
      const range = document.createRange();
      range.selectNodeContents(part.querySelector("code"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    done.textContent = "copied";
  });
  part.querySelector(".download")?.addEventListener("click", (event) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.download = event.target.dataset.file;
    link.click();
    URL.revokeObjectURL(link.href);
    done.textContent = "saved";
  });
}

for (const graph of document.querySelectorAll(".graph")) {
  const told = graph.querySelector(".chosen");
  for (const node of graph.querySelectorAll("[data-key]")) {
    const light = () => {
      told.textContent = node.querySelector("title").textContent;
      for (const path of graph.querySelectorAll("path")) {
        path.classList.toggle("lit", [path.dataset.from, path.dataset.to].includes(node.dataset.key));
      }
    };
    ["focus", "mouseenter", "click"].forEach((kind) => node.addEventListener(kind, light));
  }
}
