"use strict";
const root = document.documentElement;
const figures = JSON.parse(document.getElementById("figures").textContent);
const night = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Set();

// Letters of figures are about so wide; a name of a legend has its line and a gap beside it.
const LETTER = 6.5, BESIDE = 44, ROW = 20;
// Curves on paper are no higher, in pixels.
const LOW = 250;

// What names of bars and rows take.
function left(figure) {
  const bars = figure.data.flatMap((each) => (each.orientation === "h" ? each.y : []));
  const names = [...bars, ...(figure.layout.yaxis?.ticktext ?? [])];
  const lines = names.flatMap((name) => name.replace(/<\/?sup>/g, "").split("<br>"));
  return Math.max(60, Math.max(0, ...lines.map((line) => line.length)) * LETTER + 12);
}
// Plotly lays a legend over the width of the axes, and gives each name that of the longest
// where one row is too short.
function legendRows(figure, wide) {
  if (!figure.layout.showlegend) return 0;
  const width = figure.layout.scene ? wide : wide - 16 - left(figure) - (figure.data[0].colorbar ? 110 : 0);
  const named = figure.data.filter((each) => each.name && each.showlegend !== false);
  const widths = named.map((each) => each.name.length * LETTER + BESIDE);
  if (widths.reduce((sum, each) => sum + each, 0) <= width) return 1;
  return Math.ceil(widths.length / Math.max(1, Math.floor(width / Math.max(...widths))));
}
function broken(text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) && (lines.at(-1).length + word.length + 1) * LETTER > width) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
  }
  return lines.join("<br>");
}
// Names of bars and rows have two fifths of the width, and as many lines as they need.
function named(figure, width, paper = false) {
  const fit = (name) => broken(name, 0.4 * width);
  const low = paper && figure.data[0].type === "scatter" && !figure.layout.yaxis.ticktext?.some((name) => name.length > 20);
  const data = figure.data.map((each) => (each.orientation === "h" ? { ...each, y: each.y.map(fit) } : each));
  const { ticktext } = figure.layout.yaxis ?? {};
  const names = ticktext?.map(fit) ?? [];
  const lines = (all) => Math.max(0, ...all.map((name) => name.split("<br>").length));
  const bars = data[0]?.orientation === "h" ? data[0].y : [];
  const more = Math.max(0, bars.length * (15 * lines(bars) - 30), names.length * (15 * lines(names) + 4) - 250);
  const yaxis = ticktext && { yaxis: { ...figure.layout.yaxis, ticktext: names } };
  return { data, layout: { ...figure.layout, ...yaxis, height: (low ? Math.min(LOW, figure.layout.height) : figure.layout.height) + more } };
}
function titled(axis, width) {
  return { ...axis, title: { ...axis?.title, text: broken(axis?.title?.text ?? "", width) } };
}
function laid(figure, width, above = legendRows(figure, width) * ROW) {
  const look = getComputedStyle(document.body);
  const layout = { ...figure.layout, font: { color: look.color, family: look.fontFamily } };
  if (layout.scene) {
    // A view in space is as wide as it is high.
    layout.height = Math.min(layout.height, width);
    if (width < 480) {
      const { eye } = layout.scene.camera;
      const camera = { ...layout.scene.camera, eye: { x: eye.x * 1.3, y: eye.y * 1.3, z: eye.z * 1.3 } };
      layout.scene = { ...layout.scene, camera };
      for (const name of ["xaxis", "yaxis"]) {
        const text = layout.scene[name].title.text.split(",")[0];
        layout.scene[name] = { ...layout.scene[name], title: { ...layout.scene[name].title, text } };
      }
    }
  } else {
    // A map is square; beside it stand its colours.
    if (layout.yaxis.scaleanchor) layout.height = Math.min(layout.height, width - 60);
    layout.xaxis = titled(layout.xaxis, width - left(figure) - 20);
    layout.yaxis = titled(layout.yaxis, layout.height - 80);
  }
  layout.height += above;
  layout.margin = { ...layout.margin, t: layout.margin.t + above };
  if (width < 480 && !layout.scene) layout.margin = { ...layout.margin, l: 44, r: 8 };
  return layout;
}
// Reading the library takes a second or two: the first figure that is drawn waits for it,
// the text does not.
function library() {
  if (window.Plotly) return;
  const script = document.createElement("script");
  script.textContent = document.getElementById("plotly").textContent;
  document.head.append(script);
}
function draw(place, width = place.clientWidth, paper = false) {
  library();
  const figure = named(figures[Number(place.id.slice(5))], width, paper);
  const show = (above) => {
    const layout = { ...laid(figure, width, above), width };
    place.style.minHeight = `${layout.height}px`;
    Plotly.react(place, figure.data, layout, { displaylogo: false, displayModeBar: false });
  };
  show();
  // Letters may be wider or narrower than expected: then the legend has another height.
  const legend = place.querySelector(".legend .bg")?.getBBox().height;
  if (legend && Math.abs(legend - legendRows(figure, width) * ROW) > ROW / 2) show(Math.ceil(legend));
  drawn.add(place);
}
const places = [...document.querySelectorAll(".plot")];
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    // One figure that cannot be drawn must not take the others with it.
    try { draw(entry.target); } catch (error) { console.error(error); }
  }
}, { rootMargin: "400px" });
places.forEach((place) => {
  if (place.clientWidth) place.style.minHeight = `${laid(named(figures[Number(place.id.slice(5))], place.clientWidth), place.clientWidth).height}px`;
});
addEventListener("load", () => setTimeout(() => places.forEach((place) => seen.observe(place))));
let resized;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => drawn.forEach((place) => place.clientWidth && draw(place)), 150);
});
// Paper is white, whatever the screen is, and as wide as A4 or Letter between usual margins.
const PAPER = { half: 330, wide: 680 };
let chosen;
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  chosen = root.dataset.theme;
  root.dataset.theme = "light";
  places.forEach((place) => draw(place, place.closest(".half") ? PAPER.half : PAPER.wide, true));
});
addEventListener("afterprint", () => {
  if (chosen) root.dataset.theme = chosen; else delete root.dataset.theme;
  places.forEach((place) => draw(place));
});

// The system decides between light and dark until the reader does.
const theme = document.getElementById("theme");
const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : night.matches);
function retheme() {
  theme.textContent = dark() ? "Light" : "Dark";
  theme.setAttribute("aria-label", dark() ? "Use light colours" : "Use dark colours");
  drawn.forEach((place) => draw(place));
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
